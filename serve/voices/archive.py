"""A backup of voices: one zip file, nothing compressed, read as if a stranger had written it.

``manifest.jsonl`` has a line of JSON for the format, one for each voice (its row; size and SHA-256 of its file), one
for each voice that was deleted, and one with their numbers, last. ``voices/ID.safetensors`` is the audio. A reader
finds all of it as it was written, or says what is wrong before anything of it is used; no name in it is ever a path.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serve.errors import ServiceError, SettingsError, invalid, one_line
from serve.speech.audio import MOST_KEPT
from serve.voices.folder import SAMPLES, VOICE_ID
from serve.voices.records import VoiceInfo, check_name
from serve.voices.samples import DamagedSamples, unpack

MANIFEST: Final = "manifest.jsonl"
FORMAT: Final = "wheelwright voices"
# 300 s (the most that WW_MAX_REF_S can be) at the highest rate that is kept, and the header.
LARGEST: Final = 300 * MOST_KEPT * 4 + (1 << 20)
LONGEST_LINE: Final = 1 << 17

# What `zipfile` raises for a file that is none, is cut off, encrypted, or of a later version.
_NO_ZIP: Final = (zipfile.BadZipFile, KeyError, ValueError, EOFError, RuntimeError, struct.error)

_Id = Annotated[str, Field(pattern=f"^{VOICE_ID.pattern}$")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Head(_Line):
    format: Literal["wheelwright voices"]
    schema_: Literal[1] = Field(alias="schema")
    created: int


class _Row(_Line):
    id: _Id
    owner: str = Field(min_length=1, max_length=200)
    name: str
    language: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    transcript: str | None = Field(max_length=10_000)
    consent: str = Field(max_length=10_000)
    created: int = Field(ge=0, lt=2**62)
    digest: str = Field(max_length=200)
    rate: int = Field(ge=1, le=MOST_KEPT)
    duration_s: float = Field(ge=0, le=1e6)
    bytes: int = Field(ge=0, le=LARGEST)
    checksum: _Digest


class _Voice(_Line):
    voice: _Row
    size: int = Field(ge=0, le=LARGEST)
    sha256: _Digest


class _Deleted(_Line):
    deleted: _Id


class _End(_Line):
    voices: int
    gone: int


_LINE: Final[TypeAdapter[Any]] = TypeAdapter(_Head | _Voice | _Deleted | _End)


@dataclass(frozen=True, slots=True)
class Kept:
    """A voice in a backup: its row, and its file's size and SHA-256."""

    info: VoiceInfo
    size: int
    sha256: str


class Backup:
    """A backup that was read, and found whole."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive = archive
        self._path = path
        self.voices: list[Kept] = []
        self.deleted: set[str] = set()
        self._check_members()
        self._read_manifest()
        self._check_names()

    def content(self, kept: Kept) -> bytes:
        """The file of a voice, compared with the manifest.

        Raises:
            SettingsError: it is another one.
        """
        with self._archive.open(member(kept.info.id)) as file:
            content = file.read(kept.size + 1)
        if len(content) != kept.size or hashlib.sha256(content).hexdigest() != kept.sha256:
            raise self._wrong(f"the audio of {kept.info.id} is not what the manifest says")
        try:
            unpack(content, kept.info.checksum)
        except DamagedSamples as error:
            raise self._wrong(f"the audio of {kept.info.id}: {error}") from error
        return content

    def _read_manifest(self) -> None:
        ended = None
        for number, line in enumerate(self._lines(), 1):
            if ended is not None or isinstance(line, _Head) is not (number == 1):
                raise self._wrong(f"line {number} of its manifest is out of place")
            if isinstance(line, _Voice):
                self.voices.append(Kept(VoiceInfo(**line.voice.model_dump()), line.size, line.sha256))
            elif isinstance(line, _Deleted):
                self.deleted.add(line.deleted)
            elif isinstance(line, _End):
                ended = line
        if ended is None or (ended.voices, ended.gone) != (len(self.voices), len(self.deleted)):
            raise self._wrong("its manifest is not whole")
        ids = {kept.info.id for kept in self.voices}
        if len(ids) < len(self.voices) or ids & self.deleted:
            raise self._wrong("a voice is there twice, or is deleted, too")

    def _lines(self) -> Iterator[Any]:
        with self._archive.open(MANIFEST) as manifest:
            number = 0
            while line := manifest.readline(LONGEST_LINE):
                number += 1
                try:
                    yield _parsed(line)
                except (ValidationError, ServiceError) as error:
                    raise self._wrong(f"line {number} of its manifest is none of ours") from error

    def _check_members(self) -> None:
        entries = self._archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.is_dir() for entry in entries):
            raise self._wrong("it holds something compressed, or a folder")
        # Members may share their bytes: then a small file would fill the disk.
        if sum(entry.file_size for entry in entries) > self._path.stat().st_size:
            raise self._wrong("it says to hold more than there is")

    def _check_names(self) -> None:
        names = self._archive.namelist()
        wanted = {MANIFEST, *(member(kept.info.id) for kept in self.voices)}
        # Of a voice that was deleted while the backup was made the audio may be there: nobody takes it out.
        may_be = {member(voice) for voice in self.deleted}
        if len(set(names)) < len(names) or not wanted <= set(names) <= wanted | may_be:
            raise self._wrong("its files are not those of its manifest")

    def _wrong(self, what: str) -> SettingsError:
        return not_a_backup(self._path, what)


def member(voice_id: str) -> str:
    """The name of a voice's file within a backup."""
    return f"{SAMPLES}/{voice_id}.safetensors"


def not_a_backup(path: Path, what: str) -> SettingsError:
    """The error for a file that is not a complete backup."""
    remedy = "take another one; nothing of it was used"
    return SettingsError(f"{path} is no backup of voices that can be used: {what}", remedy=remedy)


@contextmanager
def reading(path: Path) -> Iterator[Backup]:
    """A backup, with every file of it compared with its manifest before it is handed out.

    Raises:
        SettingsError: there is none, or it is damaged; the message says what is wrong.
    """
    with ExitStack() as stack:
        try:
            backup = Backup(stack.enter_context(zipfile.ZipFile(path)), path)
            for kept in backup.voices:
                backup.content(kept)
        except OSError as error:
            raise not_a_backup(path, error.strerror or str(error)) from error
        except _NO_ZIP as error:
            raise not_a_backup(path, one_line(error)) from error
        yield backup


def _parsed(line: bytes) -> Any:
    parsed = _LINE.validate_json(line)
    if isinstance(parsed, _Voice) and check_name(parsed.voice.name, "name") != parsed.voice.name:
        raise invalid("bad_name", "the name is not normalized", "name", "")
    return parsed


def manifest(created: int, voices: Iterable[Kept], deleted: Iterable[str]) -> bytes:
    """The manifest's content."""
    kept, gone = [*voices], sorted(deleted)
    lines: list[dict[str, Any]] = [{"format": FORMAT, "schema": 1, "created": created}]
    lines += [{"voice": asdict(one.info), "size": one.size, "sha256": one.sha256} for one in kept]
    lines += [{"deleted": voice} for voice in gone]
    lines.append({"voices": len(kept), "gone": len(gone)})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
