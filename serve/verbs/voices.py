"""``python -m serve voices``: backups, and audio that the database does not know; also while a service runs."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve.api.keys import NAME, read_keys
from serve.errors import ServiceError, SettingsError, StartError
from serve.image import read_image
from serve.logs import configure_logs, line_format
from serve.settings import Settings, read_settings
from serve.voices.adoption import Wish, adopt, held_label
from serve.voices.backup import make_backup, restore
from serve.voices.folder import VOICE_ID
from serve.voices.opening import open_as_it_is, open_shelf
from serve.voices.quarantine import DAY_S
from serve.voices.shelf import Shelf
from serve.voices.store import data_folder, quota_of, why_no_folder


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; 0, or 1 where some of it could not be done."""
    options = _parser().parse_args(arguments)
    settings = read_settings()
    configure_logs(settings.log_level, line_format(settings.log_format, read_image(settings.image_json)))
    folder = options.data_dir or data_folder(settings)
    if folder is None:
        raise SettingsError(f"there are no voices: {why_no_folder()}", remedy="set WW_DATA_DIR, or give --data-dir")
    run: Callable[[argparse.Namespace, Settings, Path], int] = options.run
    try:
        return run(options, settings, folder)
    except (OSError, sqlite3.Error) as error:
        what = f"{folder}: {getattr(error, 'strerror', None) or error}"
        raise StartError(what, remedy="what was done stays done: put that right, and run it again") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve voices", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, run, meaning in (
        ("backup", _backup, "write all voices, and which were deleted, into one file"),
        ("restore", _restore, "bring the voices of a backup back; what is there stays, what was deleted stays deleted"),
        ("adopt", _adopt, "make audio in quarantine a voice again; without an id: list what is there"),
        ("discard", _discard, "delete audio in quarantine, for good"),
    ):
        verb = verbs.add_parser(name, help=meaning, description=meaning)
        verb.set_defaults(run=run)
        verb.add_argument("--data-dir", metavar="DIR", type=Path, help="default: WW_DATA_DIR, else /data")
        verb.add_argument("--json", action="store_true", help="print JSON")
        if name in {"backup", "restore"}:
            verb.add_argument("file", metavar="FILE", type=Path, help="the backup")
        else:
            verb.add_argument("ids", metavar="ID", nargs="*", type=_id, help="voice_...")
            verb.add_argument("--all", action="store_true", help="all that is in quarantine")
        if name == "adopt":
            verb.add_argument("--owner", metavar="NAME", help="whose it is: the name of a key, or anonymous")
            verb.add_argument("--name", help="of the voice; default: what the file says")
            verb.add_argument("--language", help="default: what the file says, else auto")
            verb.add_argument("--ref-text", metavar="TEXT", help="what is said in it; default: what the file says")
            verb.add_argument("--consent", metavar="TEXT", help="who agreed; default: what the file says")
    return parser


def _id(text: str) -> str:
    if not VOICE_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("an id is voice_ and 24 hex digits")
    return text


def _backup(options: argparse.Namespace, settings: Settings, folder: Path) -> int:
    made = make_backup(open_as_it_is(folder, settings.quarantine_days), options.file)
    _print(options, asdict(made), f"{options.file}: {made.voices} voices, {made.deleted} that were deleted")
    for voice in made.damaged:
        print(f"error: the audio of {voice} is damaged or missing: it is not in the backup", file=sys.stderr)
    return 1 if made.damaged else 0


def _restore(options: argparse.Namespace, settings: Settings, folder: Path) -> int:
    done = restore(open_shelf(folder, settings.quarantine_days, without_database=True), options.file)
    counts = {what: len(voices) for what, voices in asdict(done).items()}
    _print(options, asdict(done), ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()))
    for why in done.conflicts:
        print(f"error: not restored: {why}", file=sys.stderr)
    return 1 if done.conflicts else 0


def _adopt(options: argparse.Namespace, settings: Settings, folder: Path) -> int:
    if not options.ids and not options.all:
        return _list(options, open_as_it_is(folder, settings.quarantine_days))
    owner = options.owner or ""
    if not NAME.fullmatch(owner):
        raise SettingsError(
            "--owner names no caller", remedy="give the name of a key, or anonymous where there are none"
        )
    keys = {key.id for key in read_keys(settings)} or {"anonymous"}
    if owner not in keys:
        print(f"note: no key that is set here is called {owner}: only such a one will see the voices", file=sys.stderr)
    shelf = open_shelf(folder, settings.quarantine_days)
    ids = _chosen(options, shelf)
    if options.name is not None and len(ids) > 1:
        raise SettingsError("--name is one voice's, and several are named", remedy="adopt them one by one")
    wish = Wish(owner, options.name, options.language, options.ref_text, options.consent)
    adopted, failed = [], 0
    for voice in ids:
        try:
            adopted.append(adopt(shelf, quota_of(settings), voice, wish).id)
        except (ServiceError, SettingsError) as error:
            failed += 1
            what = error.message if isinstance(error, ServiceError) else error.what
            print(f"error: {voice} is not adopted: {what}\n  remedy: {error.remedy}", file=sys.stderr)
    _print(options, {"adopted": adopted}, "\n".join(adopted))
    return 1 if failed else 0


def _discard(options: argparse.Namespace, settings: Settings, folder: Path) -> int:
    shelf = open_shelf(folder, settings.quarantine_days)
    ids = _chosen(options, shelf)
    if lacking := [voice for voice in ids if not os.path.lexists(shelf.quarantine.find(voice))]:
        raise SettingsError(f"not in quarantine: {', '.join(lacking)}", remedy="`voices adopt` lists what is there")
    for voice in ids:
        shelf.discard(voice)
    _print(options, {"discarded": ids}, "\n".join(ids))
    return 0


def _chosen(options: argparse.Namespace, shelf: Shelf) -> list[str]:
    if bool(options.ids) is options.all:
        raise SettingsError("either ids or --all", remedy="`voices adopt` lists what is in quarantine")
    return [held.id for held in shelf.quarantine.held()] if options.all else [*dict.fromkeys(options.ids)]


def _list(options: argparse.Namespace, shelf: Shelf) -> int:
    rows: list[dict[str, Any]] = []
    for held in shelf.quarantine.held():
        label = held_label(held)
        known = {key: label.get(key) for key in ("name", "language", "transcript", "consent", "created")}
        until = _day(held.since + shelf.quarantine.days * DAY_S)
        rows.append({"id": held.id, "bytes": held.bytes, "since": _day(held.since), "until": until} | known)
    # A file in a folder may be anybody's: nothing that it says reaches a terminal as it is.
    lines = [f"{row['id']}  {row['bytes']:>10}  until {row['until']}  {row['name'] or '(no name)'!a}" for row in rows]
    _print(options, {"quarantine": rows}, "\n".join(lines) if lines else "nothing is in quarantine")
    return 0


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _print(options: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    print(json.dumps({"schema": 1} | document, indent=2) if options.json else text)
