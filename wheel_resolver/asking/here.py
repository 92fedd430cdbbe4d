"""``python -m wheel_resolver --here``: which wheel fits this machine and this Python, and how to install it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from packaging.version import Version

from matrix import Arch, Cell, Compat, Project, load_project
from matrix.cli import say, tell, tell_json
from matrix.compat import minor_of
from matrix.errors import ExitCode, UsageError
from matrix.shown import shown
from wheel_resolver.asking.answer import Answer, answer_cells, attention_of, to_json
from wheel_resolver.asking.host import Host, Torch, read_host
from wheel_resolver.asking.installing import Install, install
from wheel_resolver.asking.options import catalogue_asked, policy_asked, project_policy
from wheel_resolver.asking.providers import suggestions_asked
from wheel_resolver.asking.suggestions import Suggestions
from wheel_resolver.asking.table import describe_catalogue, render_one, render_trace
from wheel_resolver.core.build import Evidence
from wheel_resolver.core.facts import Facts, Policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Match, resolve
from wheel_resolver.core.wheel import Wheel
from wheel_resolver.inside.loading import load_extension
from wheel_resolver.inside.records import recorded
from wheel_resolver.inside.wheel_inside import EXTENSION
from wheel_resolver.places import places
from wheel_resolver.upstream.same_name import Superseded

#: What the host itself says, so that it cannot be asked for.
_READ = ("torch", "cuda", "abi", "gpu", "arch", "platform")
#: What every flash-attn wheel requires besides torch.
_NEEDS = ("einops",)


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """An answer for each kind of GPU of the host; the one wheel that serves them all, or why there is none."""

    answers: tuple[Answer, ...]
    wheel: Wheel | None
    why_not: str | None


@dataclass(frozen=True, slots=True)
class Installed:
    """The flash-attn that is there already: whether it loads, seen by importing it."""

    version: str
    loads: bool
    reason: str
    evidence: str = str(Evidence.LOADED)


def main(options: argparse.Namespace) -> int:
    """Answer for the host; the result is an exit status of CONTRACTS."""
    given = [f"--{axis}" for axis in _READ if getattr(options, axis)]
    if given or len(options.python) > 1:
        what = " and ".join(given) or "more than one --python"
        raise UsageError(
            f"--here reads the host, and {what} was given too", remedy="leave one out; only --python PATH goes with it"
        )
    project = load_project(places(options).matrix)
    host = read_host(options.python[0] if options.python else sys.executable)
    policy = host_policy(host, project_policy(options, project))
    loaded = catalogue_asked(options, project)
    facts = Facts(project.compat, project.known_broken, recorded())
    index = WheelIndex(loaded.catalogue.wheels, facts, policy_asked(options, policy))
    suggestions = suggestions_asked(options, project, index)
    superseded = loaded.catalogue.superseded if options.explain else ()
    answer = answer_host(host, project, index, suggestions, explained=options.explain, superseded=superseded)
    installed = installed_here(host)
    for note in loaded.notes:
        say(f"note: {note}")
    command = None if answer.wheel is None else install_command(host, answer.wheel)
    if options.json:
        report = to_json(loaded.catalogue, {}, answer.answers)
        report |= {"host": host_json(host), "install": command and command.command, "why_not": answer.why_not}
        report |= {"install_note": command and command.note}
        report |= {"installed": None if installed is None else asdict(installed)}
        tell_json(report)
    else:
        tell(describe(host, answer, command, installed))
    say(describe_catalogue(loaded.catalogue))
    if options.require is not None:
        met = bool(answer.answers) and all(attention_of(each.resolution) == options.require for each in answer.answers)
        return ExitCode.OK if met else ExitCode.NEGATIVE
    return ExitCode.OK if command is not None else ExitCode.NO_FIT


def installed_here(host: Host) -> Installed | None:
    """Import the flash-attn that is installed next to torch, in a child process; None where none is."""
    version = host.packages.get("flash-attn")
    if version is None or host.torch is None:
        return None
    tried = load_extension(host.executable)
    reason = f"{EXTENSION} was imported next to torch {host.torch.version}" if tried.loaded else str(tried.trouble)
    return Installed(version, tried.loaded, reason)


def host_policy(host: Host, policy: Policy) -> Policy:
    """The policy with the host's own glibc, driver and packages; its torch is there, whatever is listed."""
    return replace(policy, glibc=host.glibc, driver=host.driver, installed=True, packages=host.packages)


def answer_host(
    host: Host,
    project: Project,
    index: WheelIndex,
    suggestions: Suggestions | None = None,
    *,
    explained: bool = False,
    superseded: Iterable[Superseded] = (),
) -> HostAnswer:
    """Answer for every kind of GPU that the host has; one wheel must serve them all."""
    if (refused := _cannot_ask(host, project.compat)) is not None:
        return HostAnswer((), None, refused)
    if host.torch is None:
        return HostAnswer((), None, f"{host.trouble}; {_torch_to_install(host, index)}")
    cells = host_cells(host, host.torch)
    answers = tuple(answer_cells(cells, index, suggestions, explained=explained, superseded=superseded))
    if all(isinstance(each.resolution, Match) for each in answers):
        first, *others = (index.fitting(cell) for cell in cells)
        shared = [wheel for wheel in first if all(wheel in other for other in others)]
        if shared:
            return HostAnswer(answers, shared[0], None)
        return HostAnswer(answers, None, "no single wheel serves all GPUs of this host")
    why = next(each.resolution.reason for each in answers if not isinstance(each.resolution, Match))
    if host.torch.cuda.is_cpu and host.gpus:
        why += f"; for the {host.gpus[0].name} of this machine, {_torch_to_install(host, index)}"
    return HostAnswer(answers, None, why)


def host_cells(host: Host, torch: Torch) -> tuple[Cell, ...]:
    """A cell for each architecture; one without GPU where torch is a CPU build or no GPU is seen.

    A build of PyTorch's says its CUDA in the local part (``2.9.1+cu128``), which the cell has apart.
    """
    version = torch.version if torch.version.is_prerelease else Version(torch.version.public)
    cell = Cell(host.python, version, torch.cuda, torch.abi, None, None, host.platform)
    archs: dict[Arch, str] = {}
    for gpu in () if torch.cuda.is_cpu else host.gpus:
        archs.setdefault(gpu.arch, gpu.name)
    return tuple(replace(cell, arch=arch, gpu=name) for arch, name in archs.items()) or (cell,)


def _cannot_ask(host: Host, compat: Compat) -> str | None:
    """What the resolver has no answer for, whatever wheels there are."""
    first, *_, last = compat.torch
    torch = host.torch
    reasons = (
        (
            host.platform not in compat.platforms,
            f"the wheels are for {' and '.join(compat.platforms)}, and this is {host.platform}",
        ),
        (host.implementation != "CPython", f"the wheels are for CPython, and this is {host.implementation}"),
        (host.glibc is None, "the wheels are for glibc, and this Python runs on another C library"),
        (torch is not None and torch.hip, f"the wheels are for CUDA, and this torch is for ROCm {torch and torch.hip}"),
        (
            torch is not None and minor_of(torch.version) not in compat.torch,
            f"torch {torch and torch.version} is not in compat.yaml of {compat.as_of}, which knows {first} to {last}",
        ),
    )
    return next((reason for refused, reason in reasons if refused), None)


def _torch_to_install(host: Host, index: WheelIndex) -> str:
    """What to do about torch: the newest that has a wheel on this Python, GPU and driver."""
    if not host.gpus:
        return "no GPU is seen either: install torch, then ask again"
    compat = index.facts.compat
    for known in reversed(list(compat.torch.values())):
        version = known.patches[-1]
        announced = [cuda for cuda in compat.builds(version, host.platform) if cuda not in known.unannounced]
        for cuda in reversed(announced) if host.python in compat.pythons(version) else ():
            torch = Torch(version, cuda, compat.abi(version, cuda, host.platform))
            cells = host_cells(host, torch)
            if all(isinstance(resolve(cell, index), Match) for cell in cells):
                place = f"{compat.origins['pytorch_wheels']}/{cuda.tag}"
                line = install(host.executable, host.packaging, [f"torch=={torch.version}", "--index-url", place])
                return f"install torch {torch.version} for CUDA {cuda}, which has a wheel: {line.command}"
    return f"no torch has a flash-attn wheel for Python {host.python} on this machine"


def install_command(host: Host, wheel: Wheel) -> Install:
    """Install by direct URL: by name pip refuses official wheels (file name 2.8.3+cu12..., metadata 2.8.3)."""
    url = wheel.url if wheel.sha256 is None else f"{wheel.url}#sha256={wheel.sha256}"
    needs = [name for name in _NEEDS if name not in host.packages]
    return install(host.executable, host.packaging, [url], needs)


def host_json(host: Host) -> dict[str, Any]:
    """The host as JSON."""
    torch = host.torch
    return {
        "executable": host.executable,
        "python": str(host.python),
        "platform": host.platform,
        "glibc": str(host.glibc) if host.glibc else None,
        "torch": str(torch.version) if torch else None,
        "cuda": str(torch.cuda) if torch else None,
        "abi": str(torch.abi) if torch else None,
        "gpus": [{"name": gpu.name, "arch": str(gpu.arch)} for gpu in host.gpus],
        "driver": str(host.driver) if host.driver else None,
        "packaging": asdict(host.packaging),
    }


def describe(host: Host, answer: HostAnswer, command: Install | None, installed: Installed | None = None) -> str:
    """Write the host, the answer for each of its GPUs, what is installed, and the command."""
    gpus = ", ".join(dict.fromkeys(f"{gpu.name} ({gpu.arch})" for gpu in host.gpus)) or "none seen"
    rows = [
        ("python", f"{host.python}  {host.executable}"),
        ("torch", f"{host.torch.version}, CUDA {host.torch.cuda}, ABI {host.torch.abi}" if host.torch else "none"),
        ("system", f"{host.platform}, {f'glibc {host.glibc}' if host.glibc else 'no glibc'}"),
        ("GPU", f"{gpus}{f', driver {host.driver}' if host.driver else ''}"),
    ]
    lines = [f"{name.ljust(8)}{text}" for name, text in rows]
    lines += ["", *_each(answer.answers)]
    if installed is not None:
        verdict = "loads" if installed.loads else "does not load"
        lines += [f"installed: flash-attn {installed.version}, which {verdict}: {installed.reason}"]
    if command is None:
        return "\n".join([*map(shown, lines), shown(f"no wheel fits this host: {answer.why_not}")])
    if host.torch is not None and not host.torch.cuda.is_cpu and not host.gpus:
        lines += ["no GPU is seen here: whether the wheel has code for yours was not judged"]
    if answer.wheel is not None and not answer.wheel.pinned:
        lines += ["nobody published this wheel's digest: the command cannot check it"]
    if command.note is not None:
        lines += [command.note]
    return "\n".join(map(shown, [*lines, "", command.command]))


def _each(answers: Sequence[Answer]) -> list[str]:
    texts = [render_one(each) if each.trace is None else render_trace(each) for each in answers]
    return "\n".join(texts).split("\n") if texts else []
