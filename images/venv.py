"""Make ``.venv`` and install the tools into it. Runs on the system Python, even an old one; standard library only.

``python3 images/venv.py [EXTRA]``: quick when nothing changed. Where ``ensurepip`` is missing (Debian splits it off)
it names the package, and as root installs it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

LEAST = (3, 11)
NEWEST = 20
ROOT = Path(__file__).resolve().parent.parent


def fail(what: str, remedy: str) -> NoReturn:
    """Say what is wrong and what to do; exit status 2."""
    sys.stderr.write(f"error: {what}\n  remedy: {remedy}\n")
    sys.exit(2)


def find_python() -> str:
    """This Python when it is new enough, else the newest on PATH that is."""
    if sys.version_info >= LEAST:
        return sys.executable
    for minor in range(NEWEST, LEAST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    version = ".".join(map(str, sys.version_info[:3]))
    return fail(
        f"Python {version} is too old: 3.11 or newer is needed", "install python3.12, or set PYTHON=/path/to/it"
    )


def ensure_ensurepip(python: str) -> None:
    """Have the parts of the standard library that make a virtual environment."""
    if subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0:
        return
    shown = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, check=True
    )
    package = f"python{shown.stdout.decode().strip()}-venv"
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        fail(f"{python} has no ensurepip, which makes virtual environments", f"as root: apt-get install {package}")
    sys.stderr.write(f"{python} has no ensurepip: installing {package}\n")
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for step in (["apt-get", "update", "-q"], command):
        if subprocess.run(step, env=env, stdout=sys.stderr, check=False).returncode != 0:
            fail(f"`{' '.join(step)}` failed", f"as root: apt-get install {package}")


def main() -> None:
    """Make what is missing."""
    extra = sys.argv[1] if len(sys.argv) > 1 else ""
    folder = ROOT / ".venv"
    stamp = folder / (f"wheelwright-{extra or 'tools'}.stamp")
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    if not (folder / "bin" / "python").exists():
        python = find_python()
        ensure_ensurepip(python)
        sys.stderr.write(f"making .venv with {python}\n")
        if subprocess.run([python, "-m", "venv", str(folder)], check=False).returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            fail(f"{python} -m venv failed", "see above")
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    what = f"{ROOT}[{extra}]" if extra else str(ROOT)
    if subprocess.run([*install, "--editable", what], check=False).returncode != 0:
        fail("pip could not install the tools", "see above: is a package index reachable? `pip config list` says which")
    stamp.write_text(digest)


if __name__ == "__main__":
    main()
