"""One run of ``docker buildx bake``: its options, its output as it comes, and what failed."""

from __future__ import annotations

import io
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from images import caches
from images.planned import Workspace
from matrix import Export, tree
from matrix.cli import say
from matrix.errors import WheelwrightError
from matrix.masking import NOTHING_KNOWN, Masker
from matrix.shown import shown

_LONGEST = 300
# What BuildKit says in a build that shared a step with another one whose client has gone away: it takes that client's
# inputs for the step, or the snapshot that it was making away with it.
_SHARED_STEP_LOST = re.compile(r"no active sessions|snapshot \S+ does not exist")
_TRIES = 3
_FIRST_THAT_ASKS = (0, 19)


class BuildError(WheelwrightError):
    """A step of a build failed; ``log`` is the file with all that bake said."""

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(what)
        self.log = str(log)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build.

    Attributes:
        base: where base images come from, one of ``images.bases.MODES``.
        cached: whether layers that were built before may be used.
        builder: the buildx builder; None for the one in use.
        context: of the docker CLI for a builder that is an engine: buildx takes such a one under its own context only.
        packing: how layers are packed; None for what the matrix says.
        export: a folder for the image as an OCI archive, beside the engine's image; None for none.
        masker: hides this host's secrets in what bake says.
        cache_from, cache_to: remote caches to read and to write, ``type=registry,ref=...`` (see ``images.caches``).
        buildx: its version.
    """

    base: str = "auto"
    cached: bool = True
    builder: str | None = None
    context: str | None = None
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    packing: Export | None = None
    export: Path | None = None
    buildx: str = ""
    masker: Masker = NOTHING_KNOWN


def allowed(options: BuildOptions, root: Path, override: Path) -> list[str]:
    """What buildx is told that this build may use outside the workspace: its secrets, and local caches.

    A buildx before 0.19 looks at no paths, and one before 0.17 has no such option; 0.19 warns, and 0.20 refuses.
    """
    version = re.match(r"v?(\d+)\.(\d+)", options.buildx)
    if version and (0, 0) < (int(version[1]), int(version[2])) < _FIRST_THAT_ASKS:  # 0.0: built without a version
        return []
    paths = [("read", override.parent)]
    paths += [("read", _there(root / folder)) for folder in caches.local_folders(options.cache_from)]
    paths += [("write", _there(root / folder)) for folder in caches.local_folders(options.cache_to)]
    return [f"--allow=fs.{way}={path}" for way, path in paths if not path.is_relative_to(root)]


def _there(path: Path) -> Path:
    """The path, or the first folder above it that there is: buildx grants no other."""
    return next(each for each in (path, *path.parents) if each.exists()).resolve()


def bake(
    workspace: Workspace, target: str, override: Path, log: Path, *, output: str, options: BuildOptions | None = None
) -> None:
    """Bake one target from the workspace's root; what bake says goes to stderr as it comes and, masked, to the log.

    Raises:
        BuildError: names the step that failed.
    """
    for left in reversed(range(_TRIES)):
        try:
            _bake(workspace, target, override, log, output=output, options=options)
        except BuildError as error:
            if not left or not _SHARED_STEP_LOST.search(error.what):
                raise
            say(f"{target}: a build that shared a step was ended: once more")
        else:
            return


def _bake(
    workspace: Workspace, target: str, override: Path, log: Path, *, output: str, options: BuildOptions | None
) -> None:
    chosen = options or BuildOptions()
    command = [
        "docker", *(["--context", chosen.context] if chosen.context else []),
        "buildx", "bake", "--progress=plain",
        *([] if chosen.cached else ["--no-cache"]),
        *(["--builder", chosen.builder] if chosen.builder else []),
        *allowed(chosen, workspace.root, override),
        "--file", "dockerfiles/docker-bake.json", "--file", str(override),
        "--set", f"{target}.output={output}", target,
    ]  # fmt: skip
    # Else buildx loads each stage that others take as a context too, as a nameless image packed with gzip, and what is
    # built from it keeps those layers.
    environment = os.environ | {"BUILDX_NO_DEFAULT_LOAD": "1"}
    with (
        io.TextIOWrapper(tree.open_file(log, "wb"), encoding="utf-8", line_buffering=True) as file,
        subprocess.Popen(
            command,
            cwd=workspace.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        try:
            for line in process.stdout:
                text = shown(chosen.masker(line).rstrip("\n").expandtabs())
                file.write(f"{text}\n")
                say(f"{target} | {text}")
        except BaseException:  # a full disk, Ctrl-C: what bake reads is removed next, so it must have ended
            process.terminate()
            process.communicate()
            raise
    if process.returncode != 0:
        raise BuildError(failing_step(tree.read_text(log)), log)


def failing_step(text: str) -> str:
    """What failed: the step by its name, and what it said last; else bake's own last error.

    A step that was only cancelled is not it. Bake gives no failed step when the engine goes away: then it is the step
    that was begun last and not ended.
    """
    found = re.findall(r"^(#\d+) ERROR: (.*)$", text, re.MULTILINE)
    failed = [row for row in found if "context canceled" not in row[1]] or found
    errors = [line for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines() or ["no output"]
    ended = set(re.findall(r"^(#\d+) (?:DONE|CACHED|CANCELED|ERROR)", text, re.MULTILINE))
    begun = [number for number in re.findall(r"^(#\d+) (?:\[|exporting )", text, re.MULTILINE) if number not in ended]
    if not failed and not begun:
        return errors[-1][:300]
    number, error = failed[-1] if failed else (begun[-1], errors[-1])
    # An instruction is known by its place (stage 2/5); other steps say what they do (load metadata for ...).
    names = re.findall(rf"^{number} (\[.*?\](?: (?!RUN ).{{1,200}})?|exporting to .+)", text, re.MULTILINE)
    said = re.findall(rf"^{number} \d+\.\d+ (.*\S.*)$", text, re.MULTILINE)
    error = re.sub(r'process "/bin/sh -c .*" did not complete successfully: ', "", error)
    return ": ".join([*names[:1], *_last_words(said), _shortened(error)]) + _meaning(error) + _pulling(text)


def _pulling(text: str) -> str:
    """The base of which a layer had not all come: BuildKit pulls late, and fails in the step that needs it."""
    for number, base in re.findall(r"^(#\d+) \[.*?\] FROM (\S+)", text, re.MULTILINE):
        layers = dict(re.findall(rf"^{number} (sha256:\w+) [\d.]+\w+ / [\d.]+\w+(.*)", text, re.MULTILINE))
        if any(not state.endswith("done") for state in layers.values()):
            return f" (while {base} was pulled)"
    return ""


def _meaning(error: str) -> str:
    """What an error means that names something else."""
    # containerd asks one unpacker after the other, and tells what the last one said, which is for no layer of ours
    unpacking = "unsupported diff media type" in error
    return " (the engine cannot unpack a layer: most often no space left on device)" if unpacking else ""


def _shortened(text: str) -> str:
    """Without its middle: the step comes first, the cause last (``no space left on device``)."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _last_words(said: list[str]) -> list[str]:
    """The last line; where an error with its causes stands at the end, all of it."""
    tail = said[-6:]
    start = next((index for index, line in enumerate(tail) if line.lower().startswith("error")), len(tail) - 1)
    return ["; ".join(line.strip() for line in tail[start:])[:600]] if tail else []
