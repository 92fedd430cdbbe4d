"""What the hub says of a model's files, and how far their download is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve.digests import is_read

log = logging.getLogger(__name__)
PROGRESS_S = 10.0
"""Seconds between two lines of progress in a log."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub lists it; size and sha256 where it says them (sha256: of large files)."""

    name: str
    size: int | None
    blob: str | None
    sha256: str | None


def listed(model_id: str, revision: str) -> tuple[str, list[HubFile]]:
    """The commit that the revision stands for now, and its files that the service reads."""
    import huggingface_hub  # noqa: PLC0415

    info = huggingface_hub.HfApi().model_info(model_id, revision=revision, files_metadata=True)
    if info.sha is None:
        raise OSError("the hub does not say which commit it has")
    found = [
        HubFile(entry.rfilename, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
        for entry in info.siblings or ()
        if is_read(entry.rfilename)
    ]
    return info.sha, found


@contextmanager
def progress(model_id: str, files: Sequence[HubFile], folder: Path | None) -> Iterator[None]:
    """Say every few seconds how far it is, from a thread of its own; the hub's bars are for terminals."""
    done = threading.Event()
    total = sum(file.size or 0 for file in files)

    def watch() -> None:
        before, at = _on_disk(model_id, files, folder), time.monotonic()
        while not done.wait(PROGRESS_S):
            have, now = _on_disk(model_id, files, folder), time.monotonic()
            part = f" of {total / 1e9:.2f} GB ({100 * min(have, total) // total} %)" if total else " GB"
            log.info("fetching %s: %.2f%s, %.1f MB/s", model_id, have / 1e9, part, (have - before) / (now - at) / 1e6)
            before, at = have, now

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _on_disk(model_id: str, files: Sequence[HubFile], folder: Path | None) -> int:
    """Bytes of the files that are here, unfinished ones included."""
    from huggingface_hub import constants  # noqa: PLC0415
    from huggingface_hub.file_download import repo_folder_name  # noqa: PLC0415

    if folder is not None:
        unfinished_files = [*(folder / ".cache/huggingface/download").rglob("*.incomplete")]
        return sum(_size(path) for path in [*(folder / file.name for file in files), *unfinished_files])
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model_id, repo_type="model") / "blobs"
    names = [name for file in files if (name := file.sha256 or file.blob)]
    return sum(_size(blobs / name) + _size(blobs / f"{name}.incomplete") for name in names)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
