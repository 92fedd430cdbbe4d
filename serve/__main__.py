"""``python -m serve``: the speech service. Settings are environment variables; ``--help`` lists them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import NoReturn

from serve.errors import INTERRUPTED, SettingsError, StartError
from serve.verbs import VERBS, run_verb


def main() -> int:
    """Run the verb that is asked for, else serve; returns the exit status."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in VERBS:
        return run_verb(arguments[0], arguments[1:])
    # Only now: the client's verb needs none of the service's packages.
    from serve.start import start  # noqa: PLC0415

    if not arguments:
        return start()
    from serve.settings import table  # noqa: PLC0415

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


def leave(status: int) -> NoReturn:
    """End without waiting for the engine's thread: a generation cannot be interrupted, and may take minutes."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        leave(main())
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "serve":
            raise
        print(f"error: the package of {error.name} is not installed, and the service needs it", file=sys.stderr)
        print("  remedy: install serve/requirements.in, or run an image; `client` needs httpx alone", file=sys.stderr)
        sys.exit(SettingsError.exit_code)
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
