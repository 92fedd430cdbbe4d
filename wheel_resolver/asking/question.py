"""The command line's question: options to axes, each value checked against the facts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix import Abi, Arch, Compat, Cuda, Project, PythonVersion
from matrix.checks import known_cudas, known_pythons, known_torches
from matrix.compat import minor_of
from matrix.errors import UsageError
from matrix.expand import Expansion, expand
from matrix.matrix_file import newest_patch
from matrix.model import Axes, Exclusion
from matrix.spec import perhaps
from wheel_resolver.core.foreign import system_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as given: each a list, empty where the option was not given."""

    torch: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    abi: tuple[str, ...] = ()
    gpu: tuple[str, ...] = ()
    arch: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()

    @property
    def names_a_cell(self) -> bool:
        """Whether all that decides if torch can run there was said: torch, CUDA and GPU."""
        return bool(self.torch and self.cuda and (self.gpu or self.arch))


def cells_asked(asked: Asked, project: Project) -> Expansion:
    """Expand a question; what it does not say ranges over the matrix.

    A GPU that is in no machine of the matrix's platforms, as a GB10, is asked for on its own, unless one was named.

    Raises:
        UsageError: a value is not known; the message lists the known ones.
    """
    compat, axes = project.compat, project.matrix.axes
    asked = _rocm_apart(asked)
    chosen = replace(
        axes,
        torch=_torches(asked.torch, compat) or axes.torch,
        python=tuple(
            PythonVersion.parse(text) for text in _values("--python", asked.python, known_pythons(compat), compat)
        )
        or axes.python,
        cuda=_cudas(asked.cuda, compat) or axes.cuda,
        abi=tuple(_parse("--abi", text, Abi.parse) for text in asked.abi) or axes.abi,
        gpu=_gpus(asked, compat) or axes.gpu,
        platform=_platforms(asked.platform, compat) or axes.platform,
    )
    applying = [rule for rule in project.matrix.exclude if not _asked_for(rule, asked)]
    by_platform: dict[tuple[str, ...], list[tuple[str | None, Arch]]] = {}
    for gpu in chosen.gpu:
        by_platform.setdefault(_platforms_of(gpu, chosen.platform, asked, compat), []).append(gpu)
    parts = [
        expand(
            _unique(replace(chosen, gpu=tuple(gpus), platform=platforms)), compat, applying,
            cpu=not (asked.gpu or asked.arch), unlisted=bool(asked.torch and asked.cuda),
        )
        for platforms, gpus in by_platform.items()
    ]  # fmt: skip
    skipped: Counter[str] = Counter()
    for part in parts:
        skipped.update(part.skipped)
    cells = dict.fromkeys(cell for part in parts for cell in part.cells)
    return Expansion(tuple(cells), dict(sorted(skipped.items())))


def _platforms_of(
    gpu: tuple[str | None, Arch], platforms: tuple[str, ...], asked: Asked, compat: Compat
) -> tuple[str, ...]:
    having = {platform for facts in compat.like(*gpu) for platform in facts.platforms}
    if asked.platform or not having or having.intersection(platforms):
        return platforms
    return tuple(platform for platform in compat.platforms if platform in having)


def _rocm_apart(asked: Asked) -> Asked:
    """``--torch 2.9.1+rocm6.4`` names a torch, and what it was built for."""
    named = dict.fromkeys(text.partition("+")[2] for text in asked.torch if "+rocm" in text)
    if not named:
        return asked
    if asked.cuda and set(asked.cuda) != set(named):
        raise UsageError(
            f"--torch {','.join(asked.torch)} is for {', '.join(named)}, and --cuda says {','.join(asked.cuda)}",
            remedy="leave --cuda out",
        )
    torches = tuple(text.partition("+")[0] if "+rocm" in text else text for text in asked.torch)
    return replace(asked, torch=torches, cuda=tuple(named))


def nothing_left(asked: Asked, expansion: Expansion, compat: Compat) -> str:
    """Say why a question has no cell, and what PyTorch did ship of the torches that it names."""
    lines = ["no cell is left of what was asked: "]
    lines[0] += "; ".join(f"{reason} ({count})" for reason, count in expansion.skipped.items())
    platform = asked.platform[0] if asked.platform else compat.platforms[0]
    for text in asked.torch:
        torch = newest_patch(text.partition("+rocm")[0], compat)
        builds, pythons = (
            ", ".join(map(str, values)) for values in (compat.builds(torch, platform), compat.pythons(torch))
        )
        lines.append(f"  torch {torch} was shipped for CUDA {builds} and cpu, on Python {pythons}")
    return "\n".join(lines)


def _asked_for(exclusion: Exclusion, asked: Asked) -> bool:
    """Whether every value that an exclusion names was asked for by name: then the asker knows."""
    named = [
        (exclusion.python, asked.python),
        (exclusion.torch, asked.torch),
        (exclusion.cuda, asked.cuda),
        (exclusion.gpu, asked.gpu),
        (exclusion.platform, asked.platform),
    ]
    return all(given for value, given in named if value is not None)


def _unique(axes: Axes) -> Axes:
    return replace(axes, **{name: tuple(dict.fromkeys(getattr(axes, name))) for name in axes.__slots__})


def _values(option: str, given: Sequence[str], known: Iterable[str], compat: Compat) -> tuple[str, ...]:
    known = list(known)
    for text in given:
        if text not in known:
            raise UsageError(
                f"{option} {text}: not known to compat.yaml ({compat.as_of})", remedy=f"known: {', '.join(known)}"
            )
    return tuple(given)


def _cudas(given: Sequence[str], compat: Compat) -> tuple[Cuda, ...]:
    """CUDA versions; a ROCm stands for itself: no wheel serves it, and the answer says so."""
    numbers = [text for text in given if not text.startswith("rocm")]
    _values("--cuda", numbers, known_cudas(compat), compat)
    return tuple(_parse("--cuda", text, Cuda.parse) for text in given)


def _platforms(given: Sequence[str], compat: Compat) -> tuple[str, ...]:
    """Platforms; one of Windows or macOS stands for itself, as a ROCm does."""
    _values("--platform", [text for text in given if system_of(text) is None], compat.platforms, compat)
    return tuple(given)


def _torches(given: Sequence[str], compat: Compat) -> tuple[Version, ...]:
    """Torch versions: a known one, or a pre-release of a known minor, such as NGC's ``2.9.0a0+145a3a7bda``."""
    known = list(known_torches(compat))
    for text in given:
        public, _, build = text.partition("+")
        if build and public in known:
            what = f"--torch {text}: +{build} names a build of torch {public}"
            raise UsageError(what, remedy=_apart(public, build))
        if text not in known and not _known_prerelease(text, compat):
            raise UsageError(f"--torch {text}: {_unknown_torch(text, compat)}", remedy=f"known: {', '.join(known)}")
    return tuple(newest_patch(text, compat) for text in given)


def _apart(public: str, build: str) -> str:
    """How to ask for what a local part names; flash-attn's wheels are for CUDA, and a build for others gets none."""
    found = re.fullmatch(r"cu(\d\d)(\d)", build)
    if found is None and build != "cpu":
        return (
            f"flash-attn's wheels are for CUDA builds of torch, and +{build} is no such build; torch's own "
            f"SDPA runs there. For a CUDA build: --torch {public} --cuda 12.8"
        )
    return f"write --torch {public} --cuda {f'{found[1]}.{found[2]}' if found else 'cpu'}"


def _unknown_torch(text: str, compat: Compat) -> str:
    """Say of a torch that is not known whether it is newer than our facts, older, or no release of theirs."""
    try:
        version = Version(text)
    except InvalidVersion:
        return f"not known to compat.yaml ({compat.as_of})"
    minors = [Version(minor) for minor in compat.torch]
    own = Version(minor_of(version))
    if own > minors[-1]:
        return f"newer than our facts: compat.yaml of {compat.as_of} ends at torch {minors[-1]}"
    if own < minors[0]:
        return f"older than our facts: compat.yaml of {compat.as_of} begins at torch {minors[0]}"
    facts = compat.torch.get(str(own))
    if facts is not None and version > facts.patches[-1]:
        return f"newer than our facts: compat.yaml of {compat.as_of} knows torch {', '.join(map(str, facts.patches))}"
    return f"not known to compat.yaml ({compat.as_of})"


def _known_prerelease(text: str, compat: Compat) -> bool:
    try:
        version = Version(text)
    except InvalidVersion:
        return False
    return version.is_prerelease and minor_of(version) in compat.torch


def _parse(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _gpus(asked: Asked, compat: Compat) -> tuple[tuple[str | None, Arch], ...]:
    """GPUs by name, and architectures under the name of no GPU in particular."""
    found: list[tuple[str | None, Arch]] = []
    for text in asked.gpu:
        name = compat.gpu_name(text)
        if name is None:
            hint = perhaps(text.upper(), compat.gpus, numbered=True)
            raise UsageError(
                f"--gpu {text}: not known to compat.yaml{hint}",
                remedy=f"known: {', '.join(compat.gpus)}; or use --arch",
            )
        found.append((name, compat.gpus[name]))
    known_archs = sorted(set(compat.gpus.values()))
    for text in asked.arch:
        arch = _parse("--arch", text, Arch.parse)
        if arch not in known_archs:
            raise UsageError(
                f"--arch {text}: no GPU of compat.yaml is {arch}", remedy=f"known: {', '.join(map(str, known_archs))}"
            )
        found.append((None, arch))
    return tuple(found)


def flash_attn_asked(given: Sequence[str]) -> tuple[SpecifierSet, ...]:
    """Read ``--flash-attn``: one specifier (``>=2.8,<3``), or versions of which any will do (``2.8.3,2.8.1``).

    Raises:
        UsageError: it is neither.
    """
    if not given:
        return ()
    try:
        if all(part[:1].isdigit() for part in given):
            return tuple(SpecifierSet(f"=={Version(part)}") for part in given)
        return (SpecifierSet(",".join(given)),)
    except (InvalidSpecifier, InvalidVersion):
        raise UsageError(
            f"--flash-attn {','.join(given)}: neither versions nor a specifier", remedy="write 2.8.3, or '>=2.8,<3'"
        ) from None
