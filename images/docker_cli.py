"""The docker CLI, asked one question."""

from __future__ import annotations

import subprocess

from matrix.errors import WheelwrightError

_TIMEOUT_S = 60


def docker_cli(*arguments: str) -> str | None:
    """What ``docker ARGUMENTS`` prints, or None when it fails.

    Raises:
        WheelwrightError: it hangs.
    """
    done = _run(arguments)
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None


def docker_trouble(*arguments: str) -> str | None:
    """Why ``docker ARGUMENTS`` fails, in one line; None when it does not.

    Raises:
        WheelwrightError: it hangs.
    """
    done = _run(arguments)
    if done.returncode == 0:
        return None
    # What the CLI quotes of ssh stands behind a mark.
    said = done.stderr.partition("stderr=")[2] or done.stderr
    return "; ".join(filter(None, map(str.strip, said.splitlines()))) or f"exit status {done.returncode}"


def _run(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise WheelwrightError(
            f"`docker {' '.join(arguments)}` gave no answer in {_TIMEOUT_S} s",
            remedy="see whether the engine hangs: docker info",
        ) from error
