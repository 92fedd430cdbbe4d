"""Models from the hub: fetched whole or marked unfinished, at one commit, and gone on with where it stopped."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.errors import NetworkError, SettingsError
from serve.ownership import let_in, refusal

log = logging.getLogger(__name__)

RECORD = "wheelwright-download.json"
"""In a folder that `fetch` filled: ``{"schema", "model", "commit", "complete", "files"}``."""
# What the service reads. A repository also holds a README with pictures, and sometimes the weights in other formats.
PATTERNS = ("*.json", "merges.txt", "*.safetensors")
NEEDED = ("config.json", "generation_config.json", "speech_tokenizer/config.json")
WEIGHTS = ("model.safetensors", "speech_tokenizer/model.safetensors")
PROGRESS_S = 10.0
"""Seconds between two lines of progress in a log."""
GO_ON = "run it again: it goes on where it stopped"
ELSEWHERE = (
    "set WW_MODEL_DIR to a folder that holds a Qwen3-TTS Base checkpoint (`python -m serve.tiny DIR` writes a test one)"
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model on this disk.

    Args:
        folder: where the checkpoint is.
        commit: the hub's commit that it is of.
    """

    folder: Path
    commit: str


@dataclass(frozen=True, slots=True)
class _File:
    """A file as the hub lists it; size and sha256 where it says them (sha256: of large files)."""

    name: str
    size: int | None
    blob: str | None
    sha256: str | None


def fetch(model_id: str, revision: str | None = None, folder: Path | None = None) -> Fetched:
    """Fetch a model, unless all of it is there.

    Args:
        model_id: ``owner/name`` on the hub.
        revision: branch, tag or commit; None for ``main``.
        folder: where to; None for the hub's own cache (``HF_HOME``), which answers when the hub cannot.

    Raises:
        SettingsError: the hub has no such model or revision, or the folder holds something else.
        NetworkError: it cannot be fetched; what was fetched stays.
    """
    import huggingface_hub  # noqa: PLC0415 - takes half a second, and a set WW_MODEL_DIR needs none of it
    from huggingface_hub import errors  # noqa: PLC0415

    if folder is not None:
        _refuse_foreign(folder, model_id)
    try:
        try:
            commit, files = _listed(model_id, revision or "main")
        except OSError as error:
            if folder is not None:
                raise
            return _cached(model_id, revision, error)
        with _progress(model_id, files, folder):
            if folder is None:
                # By name, not by commit: so the cache learns what the name stands for, and answers it offline.
                path = huggingface_hub.snapshot_download(model_id, revision=revision, allow_patterns=[*PATTERNS])
                return _whole(Path(path), model_id)
            return _into(folder, model_id, commit, files)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        what = f"{model_id}{f' at {revision}' if revision else ''} is not on the hub, or not for you: {_reason(error)}"
        raise SettingsError(what, remedy="check the name; a private model needs HF_TOKEN") from error
    except PermissionError as error:
        if error.filename is None or (why := refusal(Path(error.filename))) is None:
            raise NetworkError(f"{model_id} cannot be fetched: {_reason(error)}") from error
        raise SettingsError(why, remedy=let_in(folder or Path(error.filename).parent)) from error
    except (OSError, ValueError, errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
        remedy = ELSEWHERE if folder is None else GO_ON
        raise NetworkError(f"{model_id} cannot be fetched: {_reason(error)}", remedy=remedy) from error


def unfinished(folder: Path) -> str | None:
    """Why the folder is no whole checkpoint, if `fetch` began to fill it and did not end; else None."""
    record = _read_record(folder)
    if record is None or record.get("complete") is True:
        return None
    return f"the download of {record.get('model')} into it was not finished"


def _into(folder: Path, model_id: str, commit: str, files: Sequence[_File]) -> Fetched:
    """Fill a folder; its record says ``complete`` only when every file is there and is what the hub announced."""
    import huggingface_hub  # noqa: PLC0415

    before = _read_record(folder) or {}
    names = [file.name for file in files]
    if before.get("complete") is not True or before.get("commit") != commit:
        folder.mkdir(parents=True, exist_ok=True)
        stale = set(before.get("files", ())) - set(names)
        _write_record(folder, model_id, commit, [*names, *sorted(stale)], complete=False)
        huggingface_hub.snapshot_download(model_id, revision=commit, local_dir=folder, allow_patterns=[*PATTERNS])
        for name in stale:  # of the commit that was here before: a loader would take them for this one's
            (folder / name).unlink(missing_ok=True)
        for file in files:
            _verify(folder, file)
        _write_record(folder, model_id, commit, names, complete=not lacking(folder))
    return _whole(folder, model_id, commit)


def _cached(model_id: str, revision: str | None, why: OSError) -> Fetched:
    """What the hub's cache holds of the model; when that is nothing, ``why`` the hub did not answer is raised."""
    import huggingface_hub  # noqa: PLC0415
    from huggingface_hub import errors  # noqa: PLC0415

    try:
        path = Path(huggingface_hub.snapshot_download(model_id, revision=revision, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        raise why from None
    if missing := lacking(path):
        what = (
            f"the hub does not answer, and the copy of {model_id} in its cache is unfinished: no {', '.join(missing)}"
        )
        raise NetworkError(what, remedy="start it once more with a network: it goes on where it stopped")
    log.info("the hub does not answer (%s): taking %s from its cache", type(why).__name__, model_id)
    return Fetched(path, path.name)


def _whole(folder: Path, model_id: str, commit: str | None = None) -> Fetched:
    if missing := lacking(folder):
        what = f"{model_id} has no {', '.join(missing)}, so it is no Qwen3-TTS checkpoint"
        raise SettingsError(what, remedy="use Qwen/Qwen3-TTS-12Hz-0.6B-Base or Qwen/Qwen3-TTS-12Hz-1.7B-Base")
    # The hub's cache names a snapshot's folder by the commit.
    return Fetched(folder, commit or folder.name)


def lacking(folder: Path) -> list[str]:
    """The files that no checkpoint can be without, and that the folder does not hold."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        missing += [part for part in _shards(index, name) if not (folder / part).is_file()]
    return missing


def _shards(index: Path, name: str) -> list[str]:
    """The files of one part's weights: those of its index where there is one."""
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return [name]
    return sorted(str(Path(name).parent / shard) for shard in shards)


def _listed(model_id: str, revision: str) -> tuple[str, list[_File]]:
    """The commit that the revision stands for now, and its files that the service reads."""
    import huggingface_hub  # noqa: PLC0415

    info = huggingface_hub.HfApi().model_info(model_id, revision=revision, files_metadata=True)
    if info.sha is None:
        raise OSError("the hub does not say which commit it has")
    found = [
        _File(entry.rfilename, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
        for entry in info.siblings or ()
        if any(fnmatch.fnmatch(entry.rfilename, pattern) for pattern in PATTERNS)
    ]
    return info.sha, found


def _verify(folder: Path, file: _File) -> None:
    """Compare a file with what the hub announced; one that differs is removed, so that the next run fetches it."""
    path = folder / file.name
    if file.sha256 is None:
        return
    with path.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() == file.sha256:
            return
    path.unlink()
    raise NetworkError(f"{file.name} is not what the hub announced: its SHA-256 differs", remedy=GO_ON)


def _refuse_foreign(folder: Path, model_id: str) -> None:
    """A folder that holds a checkpoint of someone else's making is not written into."""
    record = _read_record(folder)
    if record is None:
        if (folder / "config.json").exists():
            what = f"{folder} holds a checkpoint that was not fetched by this command"
            raise SettingsError(what, remedy="name an empty folder with --to")
    elif record.get("model") != model_id:
        raise SettingsError(f"{folder} holds {record.get('model')}", remedy="name an empty folder with --to")


def _read_record(folder: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}  # a record that cannot be read does not say that the folder is whole
    return record if isinstance(record, dict) else {}


def _write_record(folder: Path, model_id: str, commit: str, files: Sequence[str], *, complete: bool) -> None:
    record = {"schema": 1, "model": model_id, "commit": commit, "complete": complete, "files": [*files]}
    new = folder / f"{RECORD}.new"
    new.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    new.replace(folder / RECORD)


@contextmanager
def _progress(model_id: str, files: Sequence[_File], folder: Path | None) -> Iterator[None]:
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


def _on_disk(model_id: str, files: Sequence[_File], folder: Path | None) -> int:
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


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
