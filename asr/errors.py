"""The errors this package raises on purpose.

Every message is one line that says what is wrong and what to do about it, so a front end can print
``str(error)`` and nothing else.
"""

from __future__ import annotations


class AsrError(Exception):
    """Base of all errors that a caller may want to show to a person."""


class AudioError(AsrError):
    """The audio cannot be read, or what was fed to a stream is not usable as audio."""


class ModelError(AsrError):
    """A model folder is missing, incomplete, damaged, or made for another version."""


class ConfigError(AsrError):
    """A configuration file or option has a value that cannot work."""


class DataError(AsrError):
    """A training or evaluation manifest, shard or transcript cannot be used."""
