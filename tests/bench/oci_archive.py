"""What an OCI archive of an image holds: its layers, their bytes, and the time to unpack them."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import zstandard

_CHUNK = 1 << 20
_PACKERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.compressobj(6, wbits=31),
    "zstd": lambda: zstandard.ZstdCompressor(3).compressobj(),
}


@dataclass(frozen=True)
class Layer:
    """A layer: its digest, and its bytes as the archive (and a registry) has them."""

    digest: str
    packed: int
    media_type: str


@dataclass(frozen=True)
class Unpacked:
    """What unpacking took: bytes of the layers' tars, and seconds."""

    size: int
    seconds: float


def read_layers(archive: Path) -> list[Layer]:
    """The layers of the one image in an OCI archive, the lowest first."""
    with tarfile.open(archive) as tar:
        (manifest,) = _json(tar, "index.json")["manifests"]
        content = _json(tar, _blob(manifest["digest"]))
        while "manifests" in content:  # an index: the image, and perhaps attestations, which have no platform
            (manifest,) = [row for row in content["manifests"] if row["platform"]["os"] != "unknown"]
            content = _json(tar, _blob(manifest["digest"]))
    return [Layer(row["digest"], row["size"], row["mediaType"]) for row in content["layers"]]


def unpack(archive: Path, folder: Path) -> Unpacked:
    """Unpack every layer into a folder, one after the other, as an engine does (whiteouts stay as files)."""
    size, start = 0, time.perf_counter()
    command = ["tar", "--extract", "--file=-", "--exclude=./dev/*", "--exclude=dev/*", "--directory", str(folder)]
    for layer, stream in _streams(archive):
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            into = cast("IO[bytes]", process.stdin)
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                into.write(chunk)
        if process.returncode:
            raise ValueError(f"{archive}: tar ended with {process.returncode} in {layer.digest}")
    return Unpacked(size, time.perf_counter() - start)


def repacked(archive: Path, compression: str) -> int:
    """The bytes of all layers, had they been packed with gzip (level 6) or zstd (level 3)."""
    size = 0
    for _, stream in _streams(archive):
        packer = _PACKERS[compression]()
        while chunk := stream.read(_CHUNK):
            size += len(packer.compress(chunk))
        size += len(packer.flush())
    return size


def compression(layers: Iterable[Layer]) -> str:
    """What most of the bytes are packed with: ``gzip`` or ``zstd``; a base stays as it was pulled."""
    return "zstd" if max(layers, key=lambda layer: layer.packed).media_type.endswith("zstd") else "gzip"


def added(layers: Iterable[Layer], there: Iterable[Layer]) -> int:
    """The packed bytes of the layers that are not there yet: what a push or a pull moves."""
    known = {layer.digest for layer in there}
    return sum(layer.packed for layer in layers if layer.digest not in known)


def _streams(archive: Path) -> Iterator[tuple[Layer, IO[bytes]]]:
    layers = read_layers(archive)
    with tarfile.open(archive) as tar:
        for layer in layers:
            yield layer, _open(_member(tar, _blob(layer.digest)), layer.media_type)


def _open(packed: IO[bytes], media_type: str) -> IO[bytes]:
    if media_type.endswith("zstd"):
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True))
    return cast("IO[bytes]", gzip.open(packed)) if media_type.endswith("gzip") else packed


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(tar: tarfile.TarFile, name: str) -> Any:
    return json.load(_member(tar, name))


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{tar.name}: {name} is no file")
    return file
