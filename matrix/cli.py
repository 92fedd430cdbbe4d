"""What every command line of the project does alike: errors to exit codes, results to stdout, talk to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from matrix.errors import ExitCode, WheelwrightError
from matrix.masking import mask


def say(message: str) -> None:
    """Print talk (progress, notes) to stderr, without secrets; stdout carries results only."""
    print(mask(message), file=sys.stderr, flush=True)


def run(main: Callable[[], int]) -> int:
    """Call ``main`` and turn what it raises into an exit status.

    A ``WheelwrightError`` is printed without a traceback and gives its class's exit code; Ctrl-C gives 130;
    a reader of stdout that went away (``| head``) is not an error. Anything else is a defect and keeps its traceback.
    """
    try:
        status = main()
        sys.stdout.flush()
    except WheelwrightError as error:
        say(f"error: {error}")
        return int(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Python flushes stdout once more at exit: give it a sink, or it complains there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    return status
