"""Structured logs: every line is an event and its fields, as text or as JSON.

Lines never hold tokens, queries of addresses or audio, and what was said only where `ServerOptions.log_transcripts`
asks for it.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Literal

LogFormat = Literal["text", "json"]
_log = logging.getLogger("asr.server")


def log_event(event: str, level: int = logging.INFO, *, failure: BaseException | None = None, **fields: Any) -> None:
    """Write one line: what happened, and whatever tells one such event from another."""
    _log.log(level, event, extra={"fields": fields}, exc_info=failure)


def configure_logs(log_format: LogFormat) -> None:
    """Send the server's lines to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("websockets").setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    def __init__(self, log_format: LogFormat) -> None:
        super().__init__()
        self._log_format = log_format

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields = {"pid": record.process, **getattr(record, "fields", {})}
        if record.exc_info:
            fields["failure"] = self.formatException(record.exc_info)
        if self._log_format == "json":
            row = {"time": when, "level": record.levelname.lower(), "event": record.getMessage(), **fields}
            return json.dumps(row, ensure_ascii=False, default=str)
        values = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
        return f"{when} {record.levelname.lower():<7} {record.getMessage():<12} {values}"


def _plain(value: Any) -> str:
    """A value on one line, in quotes where it would not be seen as one."""
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)
