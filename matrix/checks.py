"""What a structurally right ``matrix.yaml`` must also fulfil: it agrees with the facts and with itself.

Each check raises at the line of the value that is wrong, and names what would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from matrix.compat import Compat, TorchFacts, minor_of
from matrix.document import Document, KeyPath
from matrix.errors import DataError
from matrix.expand import expand
from matrix.model import COMPRESSIONS, Axes, Exclusion
from matrix.spec import perhaps
from matrix.trims import Trim
from matrix.values import Arch, Cuda, PythonVersion


def _join(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _unknown(document: Document, keys: KeyPath, value: str, known: Iterable[str]) -> DataError:
    known = list(known)
    return document.error(
        keys,
        f"{value!r} is not known to compat.yaml{perhaps(value, known, numbered=True)}",
        remedy=f"known: {_join(known)}",
    )


def known_pythons(compat: Compat) -> list[str]:
    """Every Python that some known torch was released for, oldest first."""
    return [str(python) for python in sorted({python for facts in compat.torch.values() for python in facts.python})]


def known_cudas(compat: Compat) -> list[str]:
    """Every CUDA that some known torch was built with, oldest first, and cpu."""
    return [str(cuda) for cuda in sorted({cuda for facts in compat.torch.values() for cuda in facts.cuda})] + ["cpu"]


def known_torches(compat: Compat) -> list[str]:
    """Every torch that may be named: minors and full versions."""
    return [text for facts in compat.torch.values() for text in (facts.minor, *map(str, facts.patches))]


def check_axes(document: Document, axes: Mapping[str, list[str]], compat: Compat) -> None:
    """Every value is known, stands once, and fits at least one value of the other axes."""
    known = {
        "python": known_pythons(compat),
        "torch": known_torches(compat),
        "cuda": known_cudas(compat),
        "gpu": list(compat.gpus),
        "platform": list(compat.platforms),
    }
    for axis, values in axes.items():
        for index, value in enumerate(values):
            keys: KeyPath = ("axes", axis, index)
            if axis in known and value not in known[axis] and not (axis == "gpu" and compat.gpu_name(value)):
                raise _unknown(document, keys, value, known[axis])
            if value in values[:index]:
                raise document.error(keys, f"{value!r} stands here twice", remedy="remove one of them")
    _check_axes_meet(document, axes, [_facts(compat, text) for text in axes["torch"]])


def _check_axes_meet(document: Document, axes: Mapping[str, list[str]], torches: Sequence[TorchFacts]) -> None:
    for index, text in enumerate(axes["cuda"]):
        cuda = Cuda.parse(text)
        if not cuda.is_cpu and not any(cuda in facts.cuda for facts in torches):
            raise document.error(
                ("axes", "cuda", index),
                f"no torch of this matrix has a CUDA {text} build",
                remedy=f"their builds: {_join(sorted({build for facts in torches for build in facts.cuda}))}, cpu",
            )
    for index, facts in enumerate(torches):
        if "cpu" not in axes["cuda"] and not any(str(cuda) in axes["cuda"] for cuda in facts.cuda):
            raise document.error(
                ("axes", "torch", index),
                f"torch {facts.minor} has no build for CUDA {_join(axes['cuda'])}",
                remedy=f"its builds: {_join(facts.cuda)}, cpu",
            )
    for index, text in enumerate(axes["python"]):
        if not any(PythonVersion.parse(text) in facts.python for facts in torches):
            raise document.error(("axes", "python", index), f"no torch of this matrix was released for Python {text}")


def _facts(compat: Compat, torch: str) -> TorchFacts:
    return compat.torch_facts(Version(torch))


def check_target(document: Document, name: str, row: Mapping[str, Any], compat: Compat) -> None:
    """A target's torch exists for its Python, CUDA and platform, and has code for each of its GPUs."""
    at: KeyPath = ("targets", name)
    if row["torch"] not in known_torches(compat):
        raise _unknown(document, (*at, "torch"), row["torch"], known_torches(compat))
    torch, cuda, facts = Version(row["torch"]), Cuda.parse(row["cuda"]), _facts(compat, row["torch"])
    if not compat.ships(torch, cuda, row["platform"]):
        builds = [build for build in facts.cuda if compat.ships(torch, build, row["platform"])]
        raise document.error(
            (*at, "cuda"),
            f"torch {torch} has no CUDA {cuda} build for {row['platform']}",
            remedy=f"its builds: {_join(builds)}, cpu",
        )
    if PythonVersion.parse(row["python"]) not in facts.python:
        raise document.error(
            (*at, "python"),
            f"torch {facts.minor} was not released for Python {row['python']}",
            remedy=f"its Pythons: {_join(facts.python)}",
        )
    _check_base(document, at, row, compat)
    _check_gpus(document, at, row, compat)
    _check_flash_attn(document, at, row, compat)


def check_export(document: Document, row: Mapping[str, Any] | None) -> None:
    """The level is one of the compression's own."""
    if row is None:
        return
    compression, level = row["compression"], row["level"]
    levels = COMPRESSIONS[compression].levels
    if level not in levels:
        raise document.error(
            ("export", "level"),
            f"{compression} has no level {level}",
            remedy=f"its levels: {levels[0]} to {levels[-1]}",
        )


def check_trims(document: Document, name: str, row: Mapping[str, Any], trims: Mapping[str, Trim]) -> None:
    """A trim that a target asks for is known, and said to be possible for its CUDA."""
    for index, wanted in enumerate(row.get("trims", [])):
        keys: KeyPath = ("targets", name, "trims", index)
        if wanted not in trims:
            raise document.error(
                keys,
                f"{wanted!r} is not known to trims.yaml{perhaps(wanted, trims)}",
                remedy=f"known: {_join(trims) or 'none'}",
            )
        trim = trims[wanted]
        if Cuda.parse(row["cuda"]) not in (*trim.proven, *trim.inferred):
            raise document.error(
                keys,
                f"trims.yaml says nothing of {wanted} on CUDA {row['cuda']}",
                remedy=f"it is for: {_join((*trim.proven, *trim.inferred))}",
            )


def _check_base(document: Document, at: KeyPath, row: Mapping[str, Any], compat: Compat) -> None:
    pythons = {python for base in compat.bases.registry for python in base.pythons}
    if PythonVersion.parse(row["python"]) not in pythons | set(compat.bases.bootstrap.values()):
        raise document.error(
            (*at, "python"),
            f"no base image has Python {row['python']}",
            remedy=f"they have: {_join(sorted(pythons))}",
        )
    if row["base"] == "devel" and Cuda.parse(row["cuda"]) not in compat.bases.cuda_devel:
        raise document.error(
            (*at, "base"),
            f"compat.yaml has no builder image for CUDA {row['cuda']}",
            remedy=f"bases.cuda_devel has: {_join(compat.bases.cuda_devel)}",
        )


def _check_gpus(document: Document, at: KeyPath, row: Mapping[str, Any], compat: Compat) -> None:
    cuda = Cuda.parse(row["cuda"])
    if cuda.is_cpu == bool(row["gpus"]):
        raise document.error(
            (*at, "gpus"),
            "a cpu target runs on no GPU" if cuda.is_cpu else "a CUDA target needs at least one GPU",
            remedy="write gpus: []" if cuda.is_cpu else f"known: {_join(compat.gpus)}",
        )
    code = compat.torch_code(Version(row["torch"]), cuda, row["platform"])
    for index, gpu in enumerate(row["gpus"]):
        keys = (*at, "gpus", index)
        name = compat.gpu_name(gpu)
        if name is None:
            raise _unknown(document, keys, gpu, compat.gpus)
        arch: Arch = compat.gpus[name]
        if row["platform"] not in compat.gpu_facts[name].platforms:
            raise document.error(
                keys,
                f"no {row['platform']} machine has {name}",
                remedy=f"it comes with: {_join(compat.gpu_facts[name].platforms)}",
            )
        if code is not None and not code.serves(arch):
            raise document.error(
                keys,
                f"torch {row['torch']} for CUDA {cuda} has no code for {name} ({arch})",
                remedy=f"it has code for: {_join(code.sass)}",
            )


def _check_flash_attn(document: Document, at: KeyPath, row: Mapping[str, Any], compat: Compat) -> None:
    specifier = SpecifierSet()
    if row["flash_attn"] is not None:
        try:
            specifier = SpecifierSet(row["flash_attn"])
        except InvalidSpecifier as error:
            raise document.error((*at, "flash_attn"), str(error), remedy="write it as in '>=2.8,<3'") from None
    if row["source_build"] != (row["base"] == "devel"):
        raise document.error((*at, "source_build"), "a source build needs base: devel, and only it does")
    if not row["source_build"]:
        return
    build = compat.flash_attn.source_build
    if Version(minor_of(Version(row["torch"]))) > build.max_torch:
        raise document.error(
            (*at, "source_build"),
            f"no released flash-attn source builds against torch {row['torch']} ({build.source})",
            remedy=f"use torch {build.max_torch} or older",
        )
    if not any(specifier.contains(sdist.version) for sdist in build.sdists):
        raise document.error(
            (*at, "flash_attn"),
            f"compat.yaml has no flash-attn source that fits {row['flash_attn']}",
            remedy=f"it has: {_join(sdist.version for sdist in build.sdists)}",
        )


def check_exclusions(
    document: Document,
    rows: Sequence[Mapping[str, Any]],
    exclude: Sequence[Exclusion],
    axes: Axes,
    compat: Compat,
) -> None:
    """Each exclusion names known values and leaves out at least one cell: a stale one would hide a mistake."""
    known = {"python": known_pythons(compat), "torch": known_torches(compat), "cuda": known_cudas(compat)}
    for index, (row, exclusion) in enumerate(zip(rows, exclude, strict=True)):
        keys: KeyPath = ("exclude", index, "match")
        for axis, value in row["match"].items():
            if axis in known and value not in known[axis]:
                raise _unknown(document, (*keys, axis), value, known[axis])
            if axis == "gpu" and compat.gpu_name(value) is None:
                raise _unknown(document, (*keys, axis), value, compat.gpus)
        if not row["match"]:
            raise document.error(keys, "an empty match would leave out every cell", remedy="name at least one axis")
        cells = expand(_narrowed(axes, exclusion), compat).cells
        if not any(exclusion.matches(cell) for cell in cells):
            raise document.error(
                keys, "this exclusion matches no cell of the axes", remedy="remove it, or correct its values"
            )


def _narrowed(axes: Axes, exclusion: Exclusion) -> Axes:
    """The part of the axes that an exclusion can match: every question loads the matrix, and need not expand it all."""
    return replace(
        axes,
        python=tuple(python for python in axes.python if exclusion.python in {None, python}),
        torch=tuple(torch for torch in axes.torch if exclusion.torch in {None, str(torch), minor_of(torch)}),
        cuda=tuple(cuda for cuda in axes.cuda if exclusion.cuda in {None, cuda}),
    )


def check_aliases(document: Document, aliases: Mapping[str, str], targets: Mapping[str, Any]) -> None:
    """Each alias is a new name for an existing target."""
    for alias, target in aliases.items():
        keys: KeyPath = ("aliases", alias)
        if target not in targets:
            raise document.error(
                keys,
                f"there is no target {target!r}{perhaps(target, targets)}",
                remedy=f"targets: {_join(targets)}",
            )
        if alias in targets:
            raise document.error(keys, f"{alias!r} is already the name of a target", remedy="choose another alias")
