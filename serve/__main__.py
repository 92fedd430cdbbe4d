"""``python -m serve``: the speech service. Settings are environment variables; ``--help`` lists them."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import NoReturn

from serve.checkpoint import check_model_dir
from serve.errors import INTERRUPTED, StartError
from serve.image import read_image
from serve.logs import configure_logs, line_format
from serve.settings import read_settings, table
from serve.verbs import VERBS, run_verb


def main() -> int:
    """Run the verb that is asked for, else serve; returns the exit status."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in VERBS:
        return run_verb(arguments[0], arguments[1:])
    rows = "\n".join(f"  {name:<20} {default:<10} {meaning}" for name, default, meaning in table())
    verbs = "\n".join(f"  {name:<20} {verb.meaning}" for name, verb in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        usage="%(prog)s [-h] [VERB ...]",
        description=__doc__,
        epilog=f"verbs (`python -m serve VERB --help`):\n{verbs}\n\n"
        f"settings (environment variables, with their defaults):\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", nargs="?", choices=[*VERBS], help="what to do; nothing: serve")
    parser.parse_args(arguments)
    return start()


def start() -> int:
    """Check everything that can be checked at once, then serve; returns the exit status."""
    # Until the server takes the signals over: as process 1 of a container, one without a handler is ignored.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    settings = read_settings()
    image = read_image(settings.image_json)
    if settings.model_dir is not None:
        check_model_dir(settings.model_dir)
    configure_logs(settings.log_level, line_format(settings.log_format, image))
    # Progress bars are redrawn in place, and a log has no place to redraw them in.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from serve.server import open_socket, serve  # noqa: PLC0415 - a wrong setting is said before a second of imports

    return serve(settings, image, open_socket(settings))


def leave(status: int) -> NoReturn:
    """End without waiting for the engine's thread: a generation cannot be interrupted, and may take minutes."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        leave(main())
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
