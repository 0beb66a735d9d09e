"""What FFmpeg's errors, and the system's, say of sound that cannot be read."""

from __future__ import annotations


def reason_of(error: Exception) -> str:
    """The error's message without its codes and file names."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).split(":")[0].strip().lower()
