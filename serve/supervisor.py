"""The process before the service: it passes signals on, reaps orphans, reads what libraries write, ends as it ended.

It is there where it is needed. As process 1 of a container (without ``--init``): whatever loses its parent becomes a
child of that process, which must wait for it. The service itself must not: it could take the exit status of a child
that one of its libraries started, and waits for. With JSON lines: what libraries write by themselves goes through a
pipe (`serve.stray`), and a process that was killed cannot empty it. Else the service is the process that was started.

Only modules of the standard library are imported here, so that the process stays small.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

from serve.errors import HostError
from serve.logs import JsonLine, LineFormat
from serve.stray import Relay, Tally, Unblocked, make_pipe

# serve.image has the same; it is not imported because of its packages.
IMAGE_JSON = "/app/image.json"
# A terminal's own; of the others what can be caught is passed on.
_KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGPIPE}
_TAKEN = signal.valid_signals() - _KEPT
_PR_SET_PDEATHSIG = 1
LAST_S = 2.0
"""Seconds that are waited for who reads the log, when the service has ended."""

_tally: Tally | None = None


def early_format(environment: Mapping[str, str]) -> LineFormat:
    """What ``WW_LOG_FORMAT`` will mean here, before the settings are read; see `serve.logs.line_format`."""
    choice = environment.get("WW_LOG_FORMAT") or "auto"
    if choice == "auto":
        return "json" if Path(environment.get("WW_IMAGE_JSON") or IMAGE_JSON).is_file() else "text"
    return "json" if choice == "json" else "text"


def supervise(form: LineFormat) -> TextIO:
    """Become two processes where that is needed; returns in the service only.

    Returns:
        The real stderr, for the log. With JSON lines stdout and stderr are a pipe from now on.

    Raises:
        HostError: no process can be made.
    """
    global _tally  # noqa: PLW0603 - of the process, as stdout and stderr are
    # A fault in a library's machine code says where, as text, on the real stderr: nothing else can be relied on then.
    real = os.dup(2)
    if form == "text" and os.getpid() != 1:
        faulthandler.enable(real)
        return sys.stderr
    tally, pipe = Tally(), make_pipe() if form == "json" else None
    relay = Relay(pipe[0], real, JsonLine(), tally) if pipe else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        what = f"the service cannot start a process: {error.strerror}"
        raise HostError(what, remedy="allow more processes (--pids-limit, --ulimit nproc)") from error
    if child:
        if pipe:
            os.close(pipe[1])
        _watch(child, relay, real)
    _follow(parent)
    if pipe:
        _tally = tally
        _print_into(pipe, tally)
    faulthandler.enable(real)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return _stream(io.FileIO(real, "w", closefd=False))


def stray_lines() -> tuple[int, int]:
    """How many lines that libraries wrote are in the log, and how many were left out; none where no pipe is."""
    return (0, 0) if _tally is None else (_tally.logged, _tally.dropped)


def _follow(parent: int) -> None:
    """In the service: end when the supervisor is killed, and get a terminal's signals through it only."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _print_into(pipe: tuple[int, int], tally: Tally) -> None:
    """Put the pipe in the place of stdout and stderr, for machine code and for Python's ``print``."""
    source, sink = pipe
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(source)
    os.close(sink)
    sys.stdout, sys.stderr = _stream(Unblocked(1, tally)), _stream(Unblocked(2, tally))


def _stream(raw: Any) -> TextIO:
    """Text that leaves with each call, in one piece: a buffer between would cut it."""
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


def _watch(service: int, relay: Relay | None, real: int) -> NoReturn:
    """The supervisor's life: until the service ends."""
    if relay:
        relay.start()
    while (status := _reap(service)) is None:
        taken = signal.sigwait(_TAKEN)
        if taken != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(service, taken)
    died = _death(status)
    if relay:
        relay.finish(LAST_S, died)
    elif died:
        last = threading.Thread(target=os.write, args=(real, f"{died}\n".encode()), daemon=True)
        last.start()
        last.join(LAST_S)
    _end(status)


def _reap(service: int) -> int | None:
    """Wait for every child that has ended; the service's status, if it was among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == service:
            found = status


def _death(status: int) -> str | None:
    if not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    why = " (from outside, or by the kernel when the memory was used up)" if number == signal.SIGKILL else ""
    return f"the service was killed by {signal.Signals(number).name}{why}"


def _end(status: int) -> NoReturn:
    """End as the service did: with its status, or killed by the same signal, which process 1 cannot be."""
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    if os.getpid() != 1:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the service's is the one that tells something
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(128 + number)
