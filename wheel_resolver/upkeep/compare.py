"""What upstream publishes against ``compat.yaml``: the edits that make it true, and what people must look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from matrix.compat import Compat, Shipped, TorchFacts
from matrix.values import Cuda
from wheel_resolver.upkeep.edit import Editor, flow, folded
from wheel_resolver.upkeep.recipes import Recipe
from wheel_resolver.upkeep.torch_index import TorchBuild, by_minor

X86 = "linux_x86_64"


@dataclass(slots=True)
class Findings:
    """The file as it should be, and what the index cannot tell.

    Attributes:
        editor: its lines, changed in place.
        by_hand: sentences for whoever reads the difference.
    """

    editor: Editor
    by_hand: list[str] = field(default_factory=list)


def compare_torch(builds: Iterable[TorchBuild], compat: Compat, findings: Findings) -> None:
    """Bring the torch minors up to the index, from the oldest that ``compat.yaml`` knows on."""
    listed = by_minor(builds)
    known = list(compat.torch)
    for minor, own in listed.items():
        if minor in compat.torch:
            _compare_minor(compat.torch[minor], own, compat, findings)
        elif Version(minor) > Version(known[-1]):
            _add_minor(minor, own, compat, findings)
    for minor in known:
        if minor not in listed:
            findings.by_hand.append(f"torch {minor}: the index has no CUDA build of it any more")


def _compare_minor(facts: TorchFacts, builds: Sequence[TorchBuild], compat: Compat, findings: Findings) -> None:
    minor, editor = facts.minor, findings.editor
    versions = sorted({build.version for build in builds})
    patches = sorted({*facts.patches, *versions})
    if patches != list(facts.patches):
        editor.set_list(minor, "patches", list(map(str, patches)), after="patches")
    on_x86 = [build for build in builds if build.platform == X86]
    cudas = {build.cuda for build in on_x86}
    if new := sorted(cudas - set(facts.cuda)):
        _add_cudas(facts, new, editor)
    inferred = compat.data["torch"][minor].get("cuda_inferred", [])
    if left := [text for text in inferred if Cuda.parse(text) not in cudas]:
        findings.by_hand.append(f"torch {minor}: CUDA {', '.join(left)} is still inferred: the index has no such build")
    elif inferred:
        editor.set_list(minor, "cuda_inferred", [], after="cuda")
        findings.by_hand.append(
            f"torch {minor}: CUDA {', '.join(inferred)} is no longer inferred: see matrix.yaml's exclude"
        )
    pythons = sorted({build.python for build in on_x86})
    if all_pythons := [python for python in pythons if python not in facts.python]:
        known = sorted({*facts.python, *all_pythons})
        editor.set_list(minor, "python", list(map(str, known)), after="python")
    _compare_gaps(facts, on_x86, versions, findings)
    _tell_withdrawn(facts, builds, compat, findings)
    _tell_without_code(minor, builds, compat, findings)


def _add_cudas(facts: TorchFacts, new: Sequence[Cuda], editor: Editor) -> None:
    """Release notes are not read here, so a build that only the index has is an unannounced one."""
    unannounced = sorted({*facts.unannounced, *new})
    editor.set_list(facts.minor, "cuda_unannounced", list(map(str, unannounced)), after="cuda")


def _compare_gaps(
    facts: TorchFacts, builds: Sequence[TorchBuild], versions: Sequence[Version], findings: Findings
) -> None:
    """A patch that lacks a CUDA or a Python that others of its minor have: `not_built`."""
    cudas, pythons = {build.cuda for build in builds}, {build.python for build in builds}
    rows: list[str] = []
    for version in versions:
        own = [build for build in builds if build.version == version]
        rows += [
            f'{{patch: "{version}", cuda: "{cuda}"}}'
            for cuda in sorted(cudas - {build.cuda for build in own})
            if not any(each.python is None and each.names(version, cuda, X86) for each in facts.not_built)
        ]
        rows += [
            f'{{patch: "{version}", python: "{python}"}}'
            for python in sorted(pythons - {build.python for build in own})
            if not any(each.python == python and each.patch in {None, version} for each in facts.not_built)
        ]
    if rows:
        findings.editor.add_rows(facts.minor, "not_built", rows, after="cuda")


def _tell_withdrawn(facts: TorchFacts, builds: Sequence[TorchBuild], compat: Compat, findings: Findings) -> None:
    """Tell of builds that compat.yaml lists and the index lacks: a lost file does not prove that it never existed."""
    there = {(build.version, build.cuda, build.platform) for build in builds}
    for platform in compat.platforms:
        for version in facts.patches:
            own = {build.version for build in builds if build.platform == platform}
            gone = [
                str(cuda)
                for cuda in facts.cuda
                if compat.ships(version, cuda, platform) and (version, cuda, platform) not in there
            ]
            if gone and version in own:
                findings.by_hand.append(
                    f"torch {version} for CUDA {', '.join(gone)} on {platform} is not on the index: never built, or "
                    "withdrawn"
                )
        for version, cuda, _ in sorted(each for each in there if each[2] == platform):
            if version in facts.patches and compat.shipped(version, cuda, platform) is Shipped.NO:
                findings.by_hand.append(
                    f"torch {version} for CUDA {cuda} on {platform} is on the index, and said not to be"
                )


def _tell_without_code(minor: str, builds: Sequence[TorchBuild], compat: Compat, findings: Findings) -> None:
    for cuda, platform in sorted({(build.cuda, build.platform) for build in builds}):
        if platform in compat.platforms and (minor, cuda, platform) not in compat.torch_sass:
            findings.by_hand.append(
                f"torch {minor} for CUDA {cuda} on {platform}: torch_sass has no row "
                "(torch.cuda.get_arch_list() of that build)"
            )


def _add_minor(minor: str, builds: Sequence[TorchBuild], compat: Compat, findings: Findings) -> None:
    """A new minor: what the index tells, and the rest as it was of the last one, to be looked at."""
    last = list(compat.torch.values())[-1]
    on_x86 = [build for build in builds if build.platform == X86]
    if not on_x86:
        return
    cudas = sorted({build.cuda for build in on_x86})
    default = last.default_cuda if last.default_cuda in cudas else cudas[-1]
    guess = f"as of {last.minor} (inferred)"
    rows = [
        f"patches: {flow(sorted({str(build.version) for build in on_x86}, key=Version))}",
        f"cuda: {flow(map(str, cudas))}",
        f'default_cuda: "{default}"  # {guess}',
        f"python: {flow(map(str, sorted({build.python for build in on_x86})))}",
        f'abi: "{last.abi}"  # {guess}',
        f"triton: {flow(last.triton)}  # {guess}",
        f"manylinux: {max(build.manylinux for build in on_x86)}",
        f'cxx: "{last.cxx}"  # {guess}',
    ]
    findings.editor.add_minor(minor, rows)
    findings.by_hand.append(
        f"torch {minor} is new: its default_cuda, abi, triton and cxx are those of {last.minor}; look them up, and "
        "take the comments away"
    )
    _tell_without_code(minor, builds, compat, findings)


def compare_recipes(recipes: Mapping[str, Recipe], compat: Compat, findings: Findings) -> None:
    """Add the tags that have no recipe yet; say which known ones are built otherwise than `compat.yaml` says."""
    rows = compat.data["flash_attn"]["recipes"]
    by_tag = {tag: _as_recipe(row) for row in rows for tag in row["tags"]}
    last = _as_recipe(rows[-1])
    for tag, recipe in recipes.items():
        if tag in by_tag:
            if by_tag[tag] != recipe:
                findings.by_hand.append(f"flash-attn {tag}: its workflow says otherwise than its row: {recipe}")
        elif recipe == last:
            findings.editor.add_tag(tag)
        else:
            findings.editor.add_recipe(_rows(tag, recipe))
            last = recipe
            findings.by_hand.append(
                f"flash-attn {tag} is built in a new way: look into one of its wheels (sass, glibc, runtime_gate)"
            )
        if recipe.runner not in compat.data["flash_attn"]["runners"]:
            findings.by_hand.append(f"flash-attn {tag}: the glibc of {recipe.runner} is not in flash_attn.runners")


def _as_recipe(row: Mapping[str, object]) -> Recipe:
    text: Mapping[str, Sequence[str]] = row  # type: ignore[assignment] # as the file's shape has it
    torch: Mapping[str, Sequence[str]] = row["torch"]  # type: ignore[assignment]
    return Recipe(
        runner=str(row["runner"]),
        python=tuple(text["python"]),
        toolkits=tuple(text["toolkits"]),
        torch={version: tuple(cudas) for version, cudas in torch.items()},
        archs=tuple(text["archs"]),
        compressed=bool(row.get("compressed", False)),
    )


def _rows(tag: str, recipe: Recipe) -> list[str]:
    torch = [f'"{version}": {flow(cudas)}' for version, cudas in recipe.torch.items()]
    return [
        f"tags: [{tag}]",
        f"runner: {recipe.runner}",
        f"python: {flow(recipe.python)}",
        f"toolkits: {flow(recipe.toolkits)}",
        *folded("torch", torch),
        f"archs: {flow(recipe.archs)}",
        *(["compressed: true"] if recipe.compressed else []),
    ]
