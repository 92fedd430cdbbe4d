"""The tools of a checkout, run as a maintainer runs them: a process of its own, in that folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HIDDEN = ("GH_TOKEN", "GITHUB_TOKEN", "GITHUB_API_URL", "WHEELWRIGHT_PYTORCH_WHEELS", "WHEELWRIGHT_TRUST_ORIGINS")


@dataclass(frozen=True)
class Done:
    """How it ended, and all that it printed."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def tool(checkout: Path, module: str, *arguments: str, **environment: str) -> Done:
    """``python -m MODULE ARGUMENTS`` in a checkout, without this machine's tokens and proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in HIDDEN and not name.upper().endswith("_PROXY") and not name.startswith(("UV_", "PIP_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=checkout,
        env=kept
        | {"PIP_CONFIG_FILE": os.devnull, "WHEELWRIGHT_CACHE": str(checkout.parent / "cache"), "UV_NO_CONFIG": "1"}
        | {"UV_CACHE_DIR": str(checkout.parent / "uv-cache"), "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Done(done.returncode, done.stdout, done.stderr)
