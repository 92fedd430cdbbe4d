"""Logs: one line each, to stderr, as text or as JSON. No module logs a caller's audio or text."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from serve.image import Image

LineFormat = Literal["json", "text"]
FIELDS = "ww_fields"
"""The attribute of a record that holds more fields of its line: ``log.info(..., extra={FIELDS: {...}})``."""
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""That of the request whose work runs now; every line logged meanwhile carries it."""


class OneLine(logging.Formatter):
    """Folds what would be several lines, tracebacks too, so that each record is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = " | ".join(line for line in super().format(record).splitlines() if line.strip())
        current = _request_of(record)
        return line if current is None else f"{line} [{current}]"


class JsonLine(logging.Formatter):
    """``{"time", "level", "logger", "message", "request_id"?, ...}``; a traceback is in ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        current = _request_of(record)
        if current is not None:
            line["request_id"] = current
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # What a line is never changes through what it says.
        line |= {name: value for name, value in getattr(record, FIELDS, {}).items() if name not in line}
        return json.dumps(line, ensure_ascii=True, default=str)


def _request_of(record: logging.LogRecord) -> str | None:
    # A record that was made in another thread than the one that writes it keeps its own.
    own: str | None = getattr(record, "request_id", None)
    return own or request_id.get()


def line_format(choice: Literal["auto", "json", "text"], image: Image | None) -> LineFormat:
    """What ``WW_LOG_FORMAT`` means here: an image's logs are read by machines, a terminal's by people."""
    if choice == "auto":
        return "text" if image is None else "json"
    return choice


def log_defect(log: logging.Logger, what: str, error: Exception) -> None:
    """Log type and place of an error; its message, which may quote a caller's text, only at debug level."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else "unknown"
    log.error("%s: %s at %s", what, type(error).__name__, place)
    log.debug("%s", what, exc_info=error)


def configure_logs(level: str, form: LineFormat = "text") -> None:
    """Send everything, Python's warnings and uvicorn's messages included, through one handler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if form == "json" else OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Its starts and stops are said better by serve.server; its warnings and errors stay.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # On each start qwen-tts reports, as information, that its config classes were built with defaults on the way.
    for chatty in ("qwen_tts", "httpx", "urllib3", "filelock", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
