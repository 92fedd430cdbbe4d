"""The start of the service: everything that can be checked at once, and then the socket and the model."""

from __future__ import annotations

import os
import signal

from serve.checkpoint import check_model_dir
from serve.errors import INTERRUPTED
from serve.image import read_image
from serve.logs import configure_logs, line_format
from serve.memory import keep_memory_low
from serve.settings import read_settings
from serve.shortage import check_temporary_space, raise_descriptors


def start() -> int:
    """Check, then serve; returns the exit status.

    Raises:
        StartError: a setting, ``image.json`` or the model's folder is wrong, or this host cannot give what is asked.
    """
    # Until the server takes the signals over: as process 1 of a container, one without a handler is ignored.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    settings = read_settings()
    image = read_image(settings.image_json)
    if settings.model_dir is not None:
        check_model_dir(settings.model_dir)
    configure_logs(settings.log_level, line_format(settings.log_format, image))
    check_temporary_space()
    raise_descriptors()
    keep_memory_low()
    # Progress bars are redrawn in place, and a log has no place to redraw them in.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from serve.server import open_socket, serve  # noqa: PLC0415 - a wrong setting is said before a second of imports

    return serve(settings, image, open_socket(settings))
