"""The values of a question's options: each read as people write it, and looked up in the facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from packaging.version import Version

from matrix import Abi, Arch, Compat, Cuda, PythonVersion
from matrix.checks import known_cudas, known_pythons, known_torches
from matrix.compat import minor_of
from matrix.errors import UsageError
from matrix.known import cudas_of, gpu_error, newest_patch, of_range
from matrix.torch_asked import TorchAsked, joined
from matrix.words import platform_of
from wheel_resolver.core.foreign import system_of

T = TypeVar("T")

_NOT_THE_DRIVERS = ". It is the CUDA that torch was built with (torch.version.cuda), not the driver's or the toolkit's"


def torches(given: Sequence[str]) -> tuple[TorchAsked, ...]:
    """What ``--torch`` names; a part that begins with an operator belongs to the one before it."""
    return tuple(_read("--torch", text, TorchAsked.parse) for text in joined(given))


def by_build(
    asked: Sequence[TorchAsked], cudas_given: Sequence[str], compat: Compat
) -> Mapping[Cuda | None, list[TorchAsked]]:
    """The torches by the CUDA that they name; None for those that name none. With no torch there is one group.

    Raises:
        UsageError: ``--cuda`` says another one; or a release's local part is no CUDA build.
    """
    groups: dict[Cuda | None, list[TorchAsked]] = {} if asked else {None: []}
    for torch in asked:
        if torch.cuda is not None:
            _check_same(torch, cudas_given, compat)
        elif torch.local and torch.version is not None and not torch.version.is_prerelease:
            raise UsageError(f"--torch {torch}: +{torch.local} names a build of torch", remedy=_no_cuda_build(torch))
        groups.setdefault(torch.cuda, []).append(torch)
    return groups


def _check_same(torch: TorchAsked, cudas_given: Sequence[str], compat: Compat) -> None:
    for text in cudas_given:
        if torch.cuda not in cudas([text], compat):
            raise UsageError(
                f"--torch {torch} is for {_spoken(torch.cuda)}, and --cuda says {text}", remedy="leave --cuda out"
            )


def _spoken(cuda: Cuda | None) -> str:
    return f"CUDA {cuda}" if cuda is not None and not (cuda.is_cpu or cuda.is_rocm) else str(cuda)


def _no_cuda_build(torch: TorchAsked) -> str:
    """flash-attn's wheels are for CUDA, and a build for others gets none."""
    return (
        f"flash-attn's wheels are for CUDA builds of torch, and +{torch.local} is no such build; torch's own "
        f"SDPA runs there. For a CUDA build: --torch {torch.version} --cuda 12.8"
    )


def releases(given: Sequence[str], compat: Compat) -> tuple[Version, ...]:
    """Torch versions: known ones, or a pre-release of a known minor, such as NGC's ``2.9.0a0+145a3a7bda``."""
    return tuple(version for torch in torches(given) for version in _releases(torch, compat))


def _releases(torch: TorchAsked, compat: Compat) -> tuple[Version, ...]:
    if torch.range is not None:
        if found := of_range(torch.range, compat):
            return found
        first, *_, last = compat.torch
        what = f"--torch {torch}: no torch that compat.yaml ({compat.as_of}) knows is in this range"
        raise UsageError(what, remedy=f"it knows {first} to {last}")
    version = torch.version
    if version is None:  # a torch that is asked for is a version or a range
        raise AssertionError(torch)
    known = known_torches(compat)
    if str(version) not in known and not (version.is_prerelease and minor_of(version) in compat.torch):
        raise UsageError(f"--torch {torch}: {_unknown_torch(version, compat)}", remedy=f"known: {', '.join(known)}")
    return (newest_patch(str(version), compat),)


def _unknown_torch(version: Version, compat: Compat) -> str:
    """Say of a torch that is not known whether it is newer than our facts, older, or no release of theirs."""
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


def pythons(given: Sequence[str], compat: Compat) -> tuple[PythonVersion, ...]:
    """Pythons that some torch was released for."""
    found = tuple(_read("--python", text, PythonVersion.parse) for text in given)
    _all_known("--python", dict(zip(given, found, strict=True)), known_pythons(compat), compat)
    return found


def cudas(given: Sequence[str], compat: Compat) -> tuple[Cuda, ...]:
    """CUDA versions, all of a major that is named alone; a ROCm stands for itself: no wheel serves it."""
    found: list[Cuda] = []
    for text in given:
        some = cudas_of(text, compat) or (_read("--cuda", text, Cuda.parse),)
        if not some[0].is_rocm:
            _all_known("--cuda", {text: some[0]}, known_cudas(compat), compat, _NOT_THE_DRIVERS)
        found += some
    return tuple(found)


def abis(given: Sequence[str]) -> tuple[Abi, ...]:
    """C++ ABIs."""
    return tuple(_read("--abi", text, Abi.parse) for text in given)


def platforms(given: Sequence[str], compat: Compat) -> tuple[str, ...]:
    """Platforms; one of Windows or macOS stands for itself, as a ROCm does."""
    found = dict(zip(given, map(platform_of, given), strict=True))
    own = {text: tag for text, tag in found.items() if system_of(tag) is None}
    _all_known("--platform", own, compat.platforms, compat)
    return tuple(found.values())


def gpus(names: Sequence[str], archs: Sequence[str], compat: Compat) -> tuple[tuple[str | None, Arch], ...]:
    """GPUs by name, and architectures under the name of no GPU in particular."""
    found: list[tuple[str | None, Arch]] = []
    for text in names:
        name = compat.gpu_name(text)
        if name is None:
            what, remedy = gpu_error(text, compat)
            raise UsageError(f"--gpu {text}: {what}", remedy=f"{remedy}; or use --arch")
        found.append((name, compat.gpus[name]))
    known = sorted(set(compat.gpus.values()))
    for text in archs:
        arch = _read("--arch", text, Arch.parse)
        if arch not in known:
            raise UsageError(
                f"--arch {text}: no GPU of compat.yaml is {arch}", remedy=f"known: {', '.join(map(str, known))}"
            )
        found.append((None, arch))
    return tuple(found)


def _all_known(option: str, found: Mapping[str, object], known: Sequence[str], compat: Compat, note: str = "") -> None:
    """Refuse what is not known, in the words that were typed."""
    for text, value in found.items():
        if str(value) not in known:
            raise UsageError(
                f"{option} {text}: not known to compat.yaml ({compat.as_of})",
                remedy=f"known: {', '.join(known)}{note}",
            )


def _read(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
