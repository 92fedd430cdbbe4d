"""What this machine and a Python on it are: torch and its build, libc, GPUs and driver.

Torch is imported in a child process: it takes seconds, and a broken one takes its process with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.version import Version

from matrix import Abi, Arch, Cuda, Driver, PythonVersion
from matrix.errors import UsageError
from wheel_resolver.asking.installing import Packaging

#: Seconds; importing torch from a cold network disk took 40.
_PROBE_S = 180
_SMI_S = 20
_SMI_FIELDS = 3
#: How pip reads "yes" in its environment.
_YES = frozenset({"1", "true", "yes", "on", "t", "y"})

# Written for Python 3.8 on: the Python that is asked about need not be ours. One JSON line before torch is touched and
# one after, so that a crash leaves the first. The current folder is not searched: a torch.py there is not torch.
_PROBE = """
import json, os, platform, sys, sysconfig
sys.path[:] = [place for place in sys.path if place]
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (AttributeError, ValueError, OSError):
    libc = None
try:
    from importlib.metadata import distributions
    packages = {(each.metadata["Name"] or "").lower().replace("_", "-"): each.version for each in distributions()}
except Exception:
    packages = {}
def spec(name):
    try:
        from importlib.util import find_spec
        return find_spec(name)
    except Exception:
        return None
def writable(place):
    while not os.path.exists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    return os.access(place, os.W_OK)
own = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
packaging = {"pip": bool(spec("pip")), "ensurepip": bool(spec("ensurepip")), "venv": bool(spec("venv")),
    "isolated": sys.prefix != sys.base_prefix, "conda": os.path.isdir(os.path.join(sys.prefix, "conda-meta")),
    "managed": os.path.isfile(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")),
    "writable": all(map(writable, own))}
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "packages": packages, "libc": libc,
    "packaging": packaging,
    "implementation": platform.python_implementation(), "executable": sys.executable,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "platform": platform.system().lower() + "_" + platform.machine().lower()}), flush=True)
try:
    import torch
except ModuleNotFoundError as error:
    print(json.dumps({"missing": error.name == "torch", "error": str(error)}))
except Exception as error:
    print(json.dumps({"missing": False, "error": str(error)}))
else:
    devices = []
    try:
        if torch.version.cuda:
            devices = [[torch.cuda.get_device_name(i), "%d.%d" % torch.cuda.get_device_capability(i)]
                       for i in range(torch.cuda.device_count())]
    except Exception:
        pass
    print(json.dumps({"torch": str(torch.__version__), "cuda": torch.version.cuda, "devices": devices,
        "hip": getattr(torch.version, "hip", None), "abi": bool(torch._C._GLIBCXX_USE_CXX11_ABI)}))
"""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by the name that its driver gives it."""

    name: str
    arch: Arch


@dataclass(frozen=True, slots=True)
class Torch:
    """An installed torch: the version with its local part (``2.9.1+cu128``), and what it was built for."""

    version: Version
    cuda: Cuda
    abi: Abi
    hip: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A Python and the machine that it runs on.

    ``torch`` is None when it is not installed or cannot be imported: ``trouble`` says which. ``glibc`` is None where
    the C library is another. ``platform`` need not be one of ours (``darwin_arm64``). ``packages``: what else is
    installed that could clash with flash-attn, project name to version. ``packaging``: how it takes packages.
    """

    executable: str
    python: PythonVersion
    implementation: str
    platform: str
    glibc: Version | None
    torch: Torch | None
    trouble: str | None
    gpus: tuple[Gpu, ...]
    driver: Driver | None
    packages: Mapping[str, str] = field(default_factory=dict)
    packaging: Packaging = field(default_factory=Packaging)


def read_host(python: str) -> Host:
    """Ask a Python, and ``nvidia-smi`` where it is.

    Raises:
        UsageError: it cannot be run, or is no Python.
    """
    basics, found, trouble = _probe(python)
    torch = None
    if "torch" in found:
        try:
            torch = _torch(found)
        except ValueError as error:
            trouble = f"torch {found['torch']} for CUDA {found['cuda']} is not a build that we know: {error}"
    seen, driver = _nvidia_smi()
    # What torch sees is what will be used (CUDA_VISIBLE_DEVICES); it sees nothing when it is a CPU build.
    gpus = tuple(Gpu(name, Arch.parse(capability)) for name, capability in found.get("devices", ())) or seen
    kind, _, libc = (basics["libc"] or "").partition(" ")
    return Host(
        executable=basics["executable"] or python,
        python=PythonVersion.parse(basics["python"] + ("t" if basics["free_threaded"] else "")),
        implementation=basics["implementation"],
        platform=basics["platform"],
        glibc=Version(libc) if kind == "glibc" else None,
        torch=torch,
        trouble=trouble,
        gpus=gpus,
        driver=driver,
        packages=basics["packages"],
        packaging=_packaging(basics.get("packaging", {})),
    )


def _packaging(seen: dict[str, bool]) -> Packaging:
    """What the Python said, as pip will take it here, and the uv of this machine."""
    ignored = os.environ.get("PIP_BREAK_SYSTEM_PACKAGES", "").lower() in _YES
    seen = {**seen, "managed": seen.get("managed", False) and not (ignored and seen["pip"])}
    return Packaging(**seen, uv=_uv())


def _uv() -> tuple[str, ...]:
    """The uv on ``PATH``, else the one that came with our own Python's packages."""
    if shutil.which("uv") is not None:
        return ("uv",)
    return (sys.executable, "-m", "uv") if importlib.util.find_spec("uv") is not None else ()


def _torch(found: dict[str, Any]) -> Torch:
    return Torch(
        version=Version(found["torch"]),
        cuda=Cuda.parse(found["cuda"] or "cpu"),
        abi=Abi("TRUE" if found["abi"] else "FALSE"),
        hip=found["hip"],
    )


def _probe(python: str) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """What the Python said before it touched torch, what after, and what is wrong with its torch."""
    try:
        done = subprocess.run([python, "-c", _PROBE], check=False, capture_output=True, timeout=_PROBE_S)
        out, status = done.stdout, done.returncode
    except OSError as error:
        raise UsageError(f"{python}: cannot be run: {error.strerror}", remedy="give the path of a Python") from None
    except subprocess.TimeoutExpired as late:
        out, status = late.stdout or b"", None
    # Other lines are what the Python's own start-up prints.
    rows = [row for row in map(_json_line, out.splitlines()) if row is not None]
    if not rows or "executable" not in rows[0]:
        raise UsageError(f"{python}: is not a Python: it did not answer", remedy="give the path of a Python")
    if len(rows) > 1:
        found = rows[-1]
        if "torch" in found:
            return rows[0], found, None
        missing = "torch is not installed" if found["missing"] else f"torch cannot be imported: {found['error']}"
        return rows[0], {}, missing
    return rows[0], {}, f"importing torch {_ending(status)}"


def _json_line(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.keys() & {"executable", "torch", "missing"} else None


def _ending(status: int | None) -> str:
    if status is None:
        return f"did not end within {_PROBE_S} s"
    return f"crashed with {signal.Signals(-status).name}" if status < 0 else f"ended the process with status {status}"


def _nvidia_smi() -> tuple[tuple[Gpu, ...], Driver | None]:
    """The GPUs and the driver that ``nvidia-smi`` lists; nothing where there is none or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), None
    query = [program, "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query, check=False, capture_output=True, text=True, timeout=_SMI_S, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return (), None
    gpus, driver = [], None
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        fields = [field.strip() for field in line.rsplit(",", _SMI_FIELDS - 1)]
        try:
            name, capability, version = fields
            gpus.append(Gpu(name, Arch.parse(capability)))
            driver = Driver.parse(version)
        except ValueError:  # a driver before 510 does not know compute_cap
            continue
    return tuple(gpus), driver
