"""The start of the service: everything that can be checked at once, and then the socket and the model."""

from __future__ import annotations

import logging
import os
import signal
from typing import TextIO

from serve.errors import INTERRUPTED, StartError
from serve.logs import LineFormat, configure_logs, line_format, log_uncaught
from serve.supervisor import early_format, supervise

log = logging.getLogger(__name__)


def start() -> int:
    """Check, then serve; returns the exit status.

    Raises:
        StartError: a setting, ``image.json`` or the model's folder is wrong, or this host cannot give what is asked;
            where lines are JSON it is logged instead.
    """
    # Until the server takes the signals over: as process 1 of a container, one without a handler is ignored.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    form = early_format(os.environ)
    stream = supervise(form)
    configure_logs("info", form, stream)
    log_uncaught()
    try:
        return _start(stream)
    except StartError as error:
        if form == "text":
            raise
        log.critical("%s", error)
        return error.exit_code


def _start(stream: TextIO) -> int:
    # Only now: the process that stays before the service needs none of their packages.
    from serve.checkpoint import check_model_dir  # noqa: PLC0415
    from serve.image import read_image  # noqa: PLC0415
    from serve.memory import keep_memory_low  # noqa: PLC0415
    from serve.settings import read_settings  # noqa: PLC0415
    from serve.shortage import check_temporary_space, raise_descriptors  # noqa: PLC0415

    settings = read_settings()
    image = read_image(settings.image_json)
    if settings.model_dir is not None:
        check_model_dir(settings.model_dir)
    form: LineFormat = line_format(settings.log_format, image)
    configure_logs(settings.log_level, form, stream)
    check_temporary_space()
    raise_descriptors()
    keep_memory_low()
    # Progress bars are redrawn in place, and a log has no place to redraw them in.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from serve.server import open_socket, serve  # noqa: PLC0415 - a wrong setting is said before a second of imports

    return serve(settings, image, open_socket(settings))
