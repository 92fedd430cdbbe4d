"""Logs: one line each, to stderr. No module logs a caller's audio or text."""

from __future__ import annotations

import logging
import sys


class OneLine(logging.Formatter):
    """Folds what would be several lines, tracebacks too, so that each record is one."""

    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(line for line in super().format(record).splitlines() if line.strip())


def log_defect(log: logging.Logger, what: str, error: Exception) -> None:
    """Log type and place of an error; its message, which may quote a caller's text, only at debug level."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else "unknown"
    log.error("%s: %s at %s", what, type(error).__name__, place)
    log.debug("%s", what, exc_info=error)


def configure_logs(level: str) -> None:
    """Send everything, Python's warnings and uvicorn's messages included, through one handler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Its starts and stops are said better by serve.server; its warnings and errors stay.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # On each start qwen-tts reports, as information, that its config classes were built with defaults on the way.
    for chatty in ("qwen_tts", "httpx", "urllib3", "filelock", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
