"""Will flash-attn load in this Python: by the rules, and by importing it in a child process where that is asked for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from matrix import Project
from wheel_resolver.asking.here import answer_host, host_cells, host_policy, install_command
from wheel_resolver.asking.host import Host
from wheel_resolver.core.facts import Facts, default_policy
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.inside.loading import TIMEOUT_S, Loading, load_extension
from wheel_resolver.inside.verifying import as_wheel, refusal
from wheel_resolver.inside.wheel_inside import EXTENSION, Inside, unpack_extension
from wheel_resolver.upstream.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class LoadsHere:
    """The answer. ``loads`` None: not known; ``evidence``: ``imported`` (it was tried) or ``rules``; ``install``: the
    command that would get a wheel, where none is installed and one fits; ``rules``: what these say, where it was tried.
    """

    loads: bool | None
    evidence: str
    reason: str
    install: str | None = None
    rules: str | None = None


def installed_loads(host: Host, project: Project, catalogue: Catalogue, *, timeout_s: float = TIMEOUT_S) -> LoadsHere:
    """Judge the flash-attn that is installed, and where none is, whether a wheel of the catalogue would load."""
    if host.torch is None:
        return LoadsHere(False, "imported", host.trouble or "torch is not installed")
    policy = host_policy(host, default_policy(project.compat, trust=project.matrix.trust))
    index = WheelIndex(catalogue.wheels, Facts(project.compat, project.known_broken), policy)
    answer = answer_host(host, project, index)
    tried = load_extension(host.executable, timeout_s=timeout_s)
    if tried.stage != "absent":
        return _tried(tried, answer.why_not)
    if answer.wheel is None:
        return LoadsHere(False, "rules", f"flash-attn is not installed, and no wheel would load: {answer.why_not}")
    reason = f"flash-attn is not installed; {answer.wheel.filename} would load"
    return LoadsHere(True, "rules", reason, install_command(host, answer.wheel).command)


def wheel_loads(
    inside: Inside, host: Host, project: Project, *, really: bool, timeout_s: float = TIMEOUT_S
) -> LoadsHere:
    """Judge a wheel for this Python; ``really``: import its extension, which runs the wheel's code.

    Raises:
        DataError: the wheel cannot be unpacked.
    """
    if host.torch is None:
        return LoadsHere(False, "rules", host.trouble or "torch is not installed")
    ruled = _by_rules(inside, host, project)
    if not really:
        return ruled
    with tempfile.TemporaryDirectory(prefix="wheelwright-") as scratch:
        file = unpack_extension(inside.path, Path(scratch))
        if file is None:
            return LoadsHere(False, "rules", f"the wheel holds no {EXTENSION}.*.so")
        return _tried(load_extension(host.executable, file, timeout_s=timeout_s), None if ruled.loads else ruled.reason)


def _by_rules(inside: Inside, host: Host, project: Project) -> LoadsHere:
    policy = host_policy(host, default_policy(project.compat))
    wheel = as_wheel(inside, project.compat.flash_attn.repository)
    if wheel is None or host.torch is None:
        return LoadsHere(None, "rules", "its name does not say which torch and CUDA it is for: --import tries it")
    index = WheelIndex([wheel], Facts(project.compat, project.known_broken), policy)
    answer = answer_host(host, project, index)
    if not answer.answers:  # nothing that the resolver knows: another libc, ROCm, a torch of tomorrow
        return LoadsHere(False, "rules", answer.why_not or "the resolver does not know this machine")
    for cell in host_cells(host, host.torch):
        if (refused := refusal(inside, cell, index)) is not None:
            return LoadsHere(False, "rules", f"{refused.rule}: {refused.detail}")
    return LoadsHere(True, "rules", "no rule refuses it here")


def _tried(tried: Loading, rules: str | None) -> LoadsHere:
    if tried.loaded:
        return LoadsHere(True, "imported", f"{EXTENSION} was imported beside torch", rules=rules)
    what = "torch" if tried.stage == "start" else EXTENSION
    return LoadsHere(False, "imported", f"importing {what}: {tried.trouble}", rules=rules)
