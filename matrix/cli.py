"""What every command line of the project does alike: errors to exit codes, results to stdout, talk to stderr.

All that is printed passes here: texts of data files, of servers and of other programs are shown, never obeyed.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from matrix.errors import ExitCode, WheelwrightError
from matrix.masking import mask
from matrix.shown import json_text, shown, shown_lines

_MOST_SHOWN = 100
# A file system takes 255 bytes; what stands next to a file, and is written before it, has a longer name.
_LONGEST_NAME = 200


def say(message: str) -> None:
    """Print one line of talk (progress, notes) to stderr, without secrets; stdout carries results only."""
    print(shown_lines(shown(mask(message))), file=sys.stderr, flush=True)


def say_error(error: WheelwrightError) -> None:
    """Print an error, and what to do about it, to stderr, without secrets."""
    print(shown_lines(mask(f"error: {error}")), file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Print a result to stdout: a text of one or more lines."""
    print(shown_lines(text))


def tell_json(value: Any) -> None:
    """Print a result to stdout as JSON."""
    print(json_text(value))


class Parser(argparse.ArgumentParser):
    """A command line whose errors show what was given, and do not obey it."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and how the command is used; ends with exit code 2."""
        super().error(shown_lines(shown(mask(message))))


def path_of(text: str) -> Path:
    """The path that an option gives; whether it is there, and of which kind, is the command's question.

    Raises:
        argparse.ArgumentTypeError: no file can have it, or nobody here may look.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    if len(os.fsencode(Path(text).name)) > _LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"{text[:_MOST_SHOWN]!r}...: no name of a file is so long")
    try:
        Path(text).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[:_MOST_SHOWN]!r}: {error.strerror}") from None
    return Path(text)


def run(main: Callable[[], int]) -> int:
    """Call ``main`` and turn what it raises into an exit status.

    A ``WheelwrightError`` is printed without a traceback and gives its class's exit code; Ctrl-C gives 130;
    a reader of stdout that went away (``| head``) is not an error. Anything else is a defect and keeps its traceback.
    """
    sys.excepthook = _defect
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without Unicode shows an escape, and not a traceback
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except WheelwrightError as error:
        say_error(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Python flushes stdout once more at exit: give it a sink, or it complains there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    return status


def _defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does; the texts in it are no more ours than any others."""
    import traceback  # noqa: PLC0415 - a defect only

    text = mask("".join(traceback.format_exception(kind, error, trace)).rstrip())
    print(shown_lines(text), file=sys.stderr, flush=True)
