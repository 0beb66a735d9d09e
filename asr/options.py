"""Options dataclasses from the tables of a TOML file, with errors that name the key."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from asr.errors import ConfigError

T = TypeVar("T")


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError for one that is missing or cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def from_table(cls: type[T], table: dict[str, Any], where: str) -> T:
    """Build an options dataclass from a table. ``where`` names the table in errors."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table")
    hints = typing.get_type_hints(cls)
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {key!r}: the keys are {', '.join(sorted(fields))}")
        try:
            values[key] = _convert(value, hints[key])
        except TypeError:
            wanted = getattr(hints[key], "__name__", str(hints[key]))
            raise ConfigError(f"{where}: {key} must be {wanted}, not {value!r}") from None
    return cls(**values)


def _convert(value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        inner = typing.get_args(hint)
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        if len(kinds) != len(value):
            raise TypeError
        return tuple(_convert(v, kind) for v, kind in zip(value, kinds, strict=True))
    if origin is dict:
        hint = dict  # a table that something else reads
    if origin is typing.Literal:
        return value  # the dataclass checks the choice and can say more
    if origin in (typing.Union, types.UnionType):
        for kind in typing.get_args(hint):
            try:
                return _convert(value, kind)
            except TypeError:
                continue
        raise TypeError
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is type(None):
        if value is None:
            return None
        raise TypeError
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError
    return value
