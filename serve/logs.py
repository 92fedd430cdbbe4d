"""Logs: one line each, to stderr, as text or as JSON. No module logs a caller's audio or text."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:  # what reads for the service writes the same lines, and stays small
    from serve.image import Image

LineFormat = Literal["json", "text"]
FIELDS = "ww_fields"
"""The attribute of a record that holds more fields of its line: ``log.info(..., extra={FIELDS: {...}})``."""
request_ids: ContextVar[tuple[str, ...]] = ContextVar("request_ids", default=())
"""Those of the requests whose work runs now: one, several for a batch of the engine, or none."""


@contextmanager
def working_for(ids: Iterable[str]) -> Iterator[None]:
    """Every line that is logged meanwhile carries these ids, each once."""
    token = request_ids.set(tuple(dict.fromkeys(ids)))
    try:
        yield
    finally:
        request_ids.reset(token)


class OneLine(logging.Formatter):
    """Folds what would be several lines, tracebacks too, so that each record is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = " | ".join(line for line in super().format(record).splitlines() if line.strip())
        ids = request_ids.get()
        return f"{line} [{' '.join(ids)}]" if ids else line


class JsonLine(logging.Formatter):
    """``{"time", "level", "logger", "message", "request_id"? or "request_ids"?, "exception"?, ...}``."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = request_ids.get()
        if ids:
            line |= {"request_id": ids[0]} if len(ids) == 1 else {"request_ids": ids}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # What a line is never changes through what it says.
        line |= {name: value for name, value in getattr(record, FIELDS, {}).items() if name not in line}
        return json.dumps(line, ensure_ascii=True, default=str)


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


def configure_logs(level: str, form: LineFormat = "text", stream: TextIO | None = None) -> None:
    """Send everything, Python's warnings and uvicorn's messages included, through one handler.

    Args:
        level: the least that is logged.
        form: of a line.
        stream: where to; None for stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLine() if form == "json" else OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Its starts and stops are said better by serve.server; its warnings and errors stay.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # On each start qwen-tts reports, as information, that its config classes were built with defaults on the way.
    for chatty in ("qwen_tts", "httpx", "urllib3", "filelock", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log_uncaught() -> None:
    """Have what nobody catches logged, as one line each, where Python would print it as many."""
    log = logging.getLogger(__name__)

    def say(what: str, error: BaseException | None) -> None:
        log.critical("%s: %s", what, type(error).__name__, exc_info=error)

    sys.excepthook = lambda _kind, error, _trace: say("a defect", error)
    threading.excepthook = lambda hook: say("a defect in a thread", hook.exc_value)
    sys.unraisablehook = lambda hook: say("a defect that nobody could be told of", hook.exc_value)
