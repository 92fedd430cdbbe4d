"""``python -m serve verify``: compare every byte of a checkpoint with its ``SHA256SUMS``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from serve.checkpoint import model_name
from serve.digests import FILE, checked_files, compare, digest_of, read_digests, write_digests
from serve.errors import SettingsError
from serve.fetching import cached
from serve.image import read_image
from serve.settings import read_settings


def main(arguments: Sequence[str]) -> int:
    """Print each file and what it is; 0 when all are the same, 1 when one is not."""
    parser = argparse.ArgumentParser(
        prog="python -m serve verify",
        description=__doc__,
        epilog="Exit status: 0 all files are what their digests say, 1 one is not, 2 there are no digests.",
    )
    parser.add_argument("dir", metavar="DIR", type=Path, nargs="?", help="default: WW_MODEL_DIR, else the hub's cache")
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the digests of the files as they are, which are trusted from then on",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    folder = options.dir or _folder()
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder", remedy="name one that holds a checkpoint")
    if options.write:
        _write(folder)
    digests = read_digests(folder)
    if digests is None:
        raise SettingsError(
            f"{folder} holds no {FILE}, so nothing says what its files must be",
            remedy="`python -m serve download` writes it as it fetches; --write takes the files as they are now",
        )
    found = dict(compare(folder, digests))
    if options.json:
        print(json.dumps({"schema": 1, "folder": str(folder), "files": found}, indent=2))
    else:
        width = max(map(len, found))
        print("".join(f"{name:<{width}}  {what}\n" for name, what in found.items()), end="")
    wrong = sum(what != "same" for what in found.values())
    if wrong:
        print(f"{wrong} of {len(found)} files are not what {folder / FILE} says", file=sys.stderr)
    return 1 if wrong else 0


def _folder() -> Path:
    settings = read_settings()
    return settings.model_dir or cached(model_name(settings, read_image(settings.image_json)))


def _write(folder: Path) -> None:
    if (folder / FILE).exists():
        raise SettingsError(f"{folder / FILE} is there already", remedy="delete it first, if it is to be made anew")
    try:
        write_digests(folder, {name: digest_of(folder / name) for name in checked_files(folder)})
    except OSError as error:
        raise SettingsError(f"{folder / FILE} cannot be written: {error}", remedy="make the folder writable") from error
