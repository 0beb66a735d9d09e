"""`asr transcribe` as a process, and what it has written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "asr.cli", "transcribe", *map(str, arguments)]


def run(*arguments: object, patience_s: float = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=patience_s)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
