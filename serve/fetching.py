"""Models from the hub: fetched whole or marked unfinished, at one commit, and gone on with where it stopped."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.digests import FILE, PATTERNS, RECORD, Digest, compare, digest_of, read_digests, write_digests
from serve.errors import NetworkError, SettingsError
from serve.hub_files import HubFile, listed, progress
from serve.ownership import let_in, refusal

log = logging.getLogger(__name__)

NEEDED = ("config.json", "generation_config.json", "speech_tokenizer/config.json")
WEIGHTS = ("model.safetensors", "speech_tokenizer/model.safetensors")
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


def fetch(model_id: str, revision: str | None = None, folder: Path | None = None, *, check: bool = False) -> Fetched:
    """Fetch a model, unless all of it is there; write the digests of its files.

    Args:
        model_id: ``owner/name`` on the hub.
        revision: branch, tag or commit; None for ``main``.
        folder: where to; None for the hub's own cache (``HF_HOME``), which answers when the hub cannot.
        check: read all that was there before, too, and fetch again what is not what its digest says.

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
            commit, files = listed(model_id, revision or "main")
        except OSError as error:
            if folder is not None:
                raise
            return _cached(model_id, revision, error)
        with progress(model_id, files, folder):
            if folder is None:
                # By name, not by commit: so the cache learns what the name stands for, and answers it offline.
                path = Path(huggingface_hub.snapshot_download(model_id, revision=revision, allow_patterns=[*PATTERNS]))
                if check and _drop_damaged(path):
                    huggingface_hub.snapshot_download(model_id, revision=revision, allow_patterns=[*PATTERNS])
                whole = _whole(path, model_id)
                _keep_digests(path, files)
                return whole
            return _into(folder, model_id, commit, files, check=check)
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


def cached(model_id: str) -> Path:
    """The folder of a model in the hub's cache, whole or not.

    Raises:
        SettingsError: it is not there.
    """
    import huggingface_hub  # noqa: PLC0415
    from huggingface_hub import errors  # noqa: PLC0415

    try:
        return Path(huggingface_hub.snapshot_download(model_id, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError) as error:
        remedy = "name its folder, set WW_MODEL_DIR, or fetch it with `python -m serve download`"
        raise SettingsError(f"{model_id} is not in the hub's cache here", remedy=remedy) from error


def _into(folder: Path, model_id: str, commit: str, files: Sequence[HubFile], *, check: bool) -> Fetched:
    """Fill a folder; its record says ``complete`` only when every file is there and is what the hub announced."""
    import huggingface_hub  # noqa: PLC0415

    before = _read_record(folder) or {}
    names = [file.name for file in files]
    fresh = before.get("complete") is not True or before.get("commit") != commit
    if fresh or (check and _drop_damaged(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        stale = set(before.get("files", ())) - set(names)
        _write_record(folder, model_id, commit, [*names, *sorted(stale)], complete=False)
        huggingface_hub.snapshot_download(model_id, revision=commit, local_dir=folder, allow_patterns=[*PATTERNS])
        for name in stale:  # of the commit that was here before: a loader would take them for this one's
            (folder / name).unlink(missing_ok=True)
        (folder / FILE).unlink(missing_ok=True)
        _keep_digests(folder, files)
        _write_record(folder, model_id, commit, names, complete=not lacking(folder))
    _keep_digests(folder, files)
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


def _keep_digests(folder: Path, files: Sequence[HubFile]) -> None:
    """Write the digests of what was fetched, unless they are there, or the folder is for reading only.

    Raises:
        NetworkError: a file is not what the hub announced.
    """
    if (folder / FILE).exists() or not os.access(folder, os.W_OK):
        return
    write_digests(folder, {file.name: _verified(folder, file) for file in files})
    log.info("wrote the digests of %s files to %s", len(files), folder / FILE)


def _verified(folder: Path, file: HubFile) -> Digest:
    """Compare a file with what the hub announced; one that differs is removed, so that the next run fetches it."""
    path = folder / file.name
    found = digest_of(path)
    if file.sha256 not in {None, found.sha256}:
        _drop(folder, file.name)
        raise NetworkError(f"{file.name} is not what the hub announced: its SHA-256 differs", remedy=GO_ON)
    if file.size not in {None, found.size}:
        _drop(folder, file.name)
        raise NetworkError(f"{file.name} is not what the hub announced: {found.size} bytes", remedy=GO_ON)
    return found


def _drop_damaged(folder: Path) -> bool:
    """Remove the files that are not what their digests say; whether there were some, or files are missing."""
    wrong = [
        (name, what) for name, what in compare(folder, read_digests(folder) or {}) if what in {"differs", "missing"}
    ]
    for name, what in wrong:
        log.warning("%s: %s %s, so it is fetched again", folder, name, what)
        _drop(folder, name)
    return bool(wrong)


def _drop(folder: Path, name: str) -> None:
    """Remove a file; of the hub's cache (``snapshots/COMMIT/name`` -> ``blobs/DIGEST``) what it is a link to, too."""
    real, blobs = (folder / name).resolve(), folder.resolve().parent.parent / "blobs"
    (folder / name).unlink(missing_ok=True)
    if folder.resolve().parent.name == "snapshots" and real.parent == blobs:
        real.unlink(missing_ok=True)


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


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
