"""``python -m serve download``: fetch a model into ``WW_MODEL_DIR``, or into the hub's cache; what stopped goes on."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from serve.checkpoint import DEFAULT_MODEL
from serve.errors import INTERRUPTED
from serve.fetching import GO_ON, fetch
from serve.image import read_image
from serve.logs import configure_logs, line_format
from serve.settings import read_settings


def main(arguments: Sequence[str]) -> int:
    """Fetch, and print model, commit and folder."""
    parser = argparse.ArgumentParser(
        prog="python -m serve download",
        description=__doc__,
        epilog="HF_ENDPOINT, HF_TOKEN and HF_HOME are the hub's own variables, and are heeded.",
    )
    parser.add_argument("--model", metavar="OWNER/NAME", help="default: WW_MODEL_ID, else the one of image.json")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit; default: main")
    parser.add_argument("--to", metavar="DIR", type=Path, help="default: WW_MODEL_DIR, else the hub's cache")
    options = parser.parse_args(arguments)
    settings = read_settings()
    image = read_image(settings.image_json)
    configure_logs(settings.log_level, line_format(settings.log_format, image))
    if not sys.stderr.isatty():
        # Bars are redrawn in place, and a log has no place to redraw them in: it gets a line now and then.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # The hub's threads would be waited for until their files, gigabytes each, are complete.
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    model = options.model or settings.model_id or (image.model if image else DEFAULT_MODEL)
    fetched = fetch(model, options.revision, options.to or settings.model_dir, check=True)
    print(f"{model} {fetched.commit} {fetched.folder}")
    return 0


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), f"\ninterrupted; {GO_ON}\n".encode())
    os._exit(INTERRUPTED)
