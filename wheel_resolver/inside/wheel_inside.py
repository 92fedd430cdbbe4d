"""Look inside a wheel: all that its bytes say, whatever its name says."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from matrix import Abi
from wheel_resolver.fetching.fetch import file_sha256
from wheel_resolver.inside.dangers import dangers
from wheel_resolver.inside.sass import Sass, read_sass
from wheel_resolver.inside.shared_object import NotElfError, SharedObject, read_shared_object
from wheel_resolver.inside.wheel_file import Metadata, check_record, open_wheel, read_metadata, unpack

#: The extension that flash-attn's Python imports.
EXTENSION = "flash_attn_2_cuda"


@dataclass(frozen=True, slots=True)
class Inside:
    """What was found.

    Attributes:
        faults: files that are not as RECORD says, extensions that are none.
        dangers: what does more than lie there, or is not what it seems.
        installs: the names that it puts into site-packages.
    """

    path: Path
    size: int
    sha256: str
    metadata: Metadata
    files: int
    faults: tuple[str, ...]
    extensions: tuple[SharedObject, ...]
    sass: Sass
    dangers: tuple[str, ...] = ()
    installs: tuple[str, ...] = ()

    @property
    def glibc(self) -> Version | None:
        """The glibc that all extensions together need."""
        return max((each.glibc for each in self.extensions if each.glibc is not None), default=None)

    @property
    def cuda(self) -> tuple[int, ...]:
        """The majors of the CUDA runtimes that are linked: one, or something is wrong."""
        return tuple(sorted({each.cuda for each in self.extensions if each.cuda is not None}))

    @property
    def abi(self) -> tuple[Abi, ...]:
        """The C++ ABIs that the calls of torch show: one, none, or something is wrong."""
        return tuple(sorted({each.abi for each in self.extensions if each.abi is not None}))


def look_inside(path: Path) -> Inside:
    """Look inside a wheel; its extensions are unpacked into a temporary folder, one at a time.

    Raises:
        DataError: it is no wheel that can be looked into.
    """
    with open_wheel(path) as archive, tempfile.TemporaryDirectory(prefix="wheelwright-") as scratch:
        metadata = read_metadata(path, archive)
        faults = list(check_record(path, archive))
        extensions: list[SharedObject] = []
        found: list[Sass] = []
        members = [name for name in archive.namelist() if name.endswith(".so") or ".so." in name]
        for member in members:
            file = unpack(archive, member, Path(scratch) / "extension.so")
            try:
                extensions.append(read_shared_object(file, member))
            except NotElfError as error:
                faults.append(f"{member} is no ELF shared object: {error}")
                continue
            found.append(read_sass(file))
        return Inside(
            path, path.stat().st_size, file_sha256(path), metadata, len(archive.namelist()), tuple(faults),
            tuple(extensions), _together(found), dangers(archive.infolist()),
            tuple(dict.fromkeys(name.split("/")[0] for name in archive.namelist())),
        )  # fmt: skip


def _together(found: Sequence[Sass]) -> Sass:
    """The architectures of all extensions; not known where one of them is not."""
    notes = "; ".join(dict.fromkeys(each.note for each in found)) or "the wheel holds no extension"
    if not found or any(each.archs is None for each in found):
        return Sass(None, notes)
    archs = tuple(sorted({arch for each in found for arch in each.archs or ()}))
    return Sass(archs, notes, compressed=any(each.compressed for each in found))


def unpack_extension(path: Path, folder: Path) -> Path | None:
    """Unpack flash-attn's extension under its own name; None where the wheel has none.

    Raises:
        DataError: it is no wheel that can be looked into.
    """
    with open_wheel(path) as archive:
        for member in archive.namelist():
            if member.split("/")[-1].split(".")[0] == EXTENSION and member.endswith(".so"):
                return unpack(archive, member, folder / member.split("/")[-1])
    return None
