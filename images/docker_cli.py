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
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise WheelwrightError(
            f"`docker {' '.join(arguments)}` gave no answer in {_TIMEOUT_S} s",
            remedy="see whether the engine hangs: docker info",
        ) from error
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None
