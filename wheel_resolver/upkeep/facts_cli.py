"""``python -m wheel_resolver facts``: read what upstream publishes, and show how ``compat.yaml`` differs from it.

Read are PyTorch's wheel index and, of each flash-attention tag that has no recipe yet, its workflow and ``setup.py``.
A release of torch is then: run it, read the difference, ``--write``, ``make lock``.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from packaging.version import InvalidVersion, Version

from matrix import DATA_DIR, Compat, tree
from matrix.cli import Parser, say, tell, tell_json
from matrix.compat_file import load_compat
from matrix.difference import difference
from matrix.document import display_name
from matrix.errors import DataError, ExitCode, NetworkError
from matrix.origins import PYTORCH_VARIABLE
from wheel_resolver.files import write_atomic
from wheel_resolver.places import add_root, places
from wheel_resolver.upkeep.compare import Findings, compare_recipes, compare_torch
from wheel_resolver.upkeep.edit import Editor
from wheel_resolver.upkeep.recipes import NotUnderstoodError, Recipe, read_recipe
from wheel_resolver.upkeep.torch_index import TIMEOUT_S, list_torch
from wheel_resolver.upstream.github import HEADERS, Api, api_from, list_releases
from wheel_resolver.upstream.pages import NotThereError, Pages

_WORKFLOWS = ("publish.yml", "_build.yml")
#: Older tags serve no torch that compat.yaml knows.
_OLDEST = Version("2.6.3")


def main(argv: Sequence[str]) -> int:
    """Run ``facts`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    where = places(options)
    path = where.writable((DATA_DIR if where.root is None else where.root / "matrix") / "compat.yaml")
    old = tree.read_text(path)
    compat = load_compat(path)
    findings = Findings(Editor.of(old))
    _read_torch(compat, findings)
    _read_flash_attn(compat, findings, every=options.all_tags)
    if findings.editor.text != old:
        findings.editor.set_day(_today())
    new = findings.editor.text
    changed = new != old
    if changed and options.write:
        _write(path, new)
    name = display_name(path)
    text = difference(old, new, f"a/{name}", f"b/{name}") if changed else ""
    if options.json:
        tell_json({"changed": changed, "written": changed and options.write, "diff": text, "by_hand": findings.by_hand})
    elif text:
        tell(text)
    for sentence in findings.by_hand:
        say(f"by hand: {sentence}")
    outcome = "as upstream publishes" if not changed else "written" if options.write else "differs from upstream"
    say(f"{name}: {outcome}")
    return ExitCode.NEGATIVE if changed and not options.write else ExitCode.OK


def _read_torch(compat: Compat, findings: Findings) -> None:
    origin = (os.environ.get(PYTORCH_VARIABLE) or compat.origins["pytorch_wheels"]).rstrip("/")
    cudas = {cuda for facts in compat.torch.values() for cuda in facts.cuda}
    compare_torch(list_torch(origin, cudas, until=time.monotonic() + TIMEOUT_S), compat, findings)


def _read_flash_attn(compat: Compat, findings: Findings, *, every: bool) -> None:
    """Read the tags without a recipe, or every tag, which are some fifty files."""
    repository = compat.flash_attn.repository
    api = api_from(os.environ, compat.origins["github_api"])
    known = {tag for row in compat.data["flash_attn"]["recipes"] for tag in row["tags"]}
    until = time.monotonic() + TIMEOUT_S
    tags = [release.tag for release in list_releases(api, repository, timeout_s=TIMEOUT_S)]
    recipes: dict[str, Recipe] = {}
    for tag in sorted(filter(_is_ours, tags), key=Version):
        if every or tag not in known:
            try:
                recipes[tag] = _recipe(api, repository, tag, until)
            except NotUnderstoodError as error:
                findings.by_hand.append(f"flash-attn {tag}: {error}; its recipe is for somebody to read")
    compare_recipes(recipes, compat, findings)


def _is_ours(tag: str) -> bool:
    try:
        version = Version(tag)
    except InvalidVersion:
        return False
    return tag == f"v{version}" and version >= _OLDEST and not version.is_prerelease


def _recipe(api: Api, repository: str, tag: str, until: float) -> Recipe:
    pages = Pages(api.url, HEADERS, access=api.access, until=until, folder=None)

    def text(path: str) -> str | None:
        url = f"{api.url}/repos/{repository}/contents/{path}?ref={tag}"
        try:
            found, _ = pages.get(url, partial(_content, api.url))
        except NotThereError:
            return None
        return found

    workflows = {name: found for name in _WORKFLOWS if (found := text(f".github/workflows/{name}")) is not None}
    setup = text("setup.py")
    if not workflows or setup is None:
        raise NotUnderstoodError("it has no publish.yml, or no setup.py")
    return read_recipe(workflows, setup)


def _content(place: str, body: bytes) -> str:
    """The text of a file as GitHub's contents API sends it."""
    try:
        row = json.loads(body)
        content = row["content"] if isinstance(row, Mapping) and row.get("encoding") == "base64" else None
        return base64.b64decode(content or "", validate=False).decode("utf-8")
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise NetworkError(f"{place}: the answer is no file's content (a captive portal?)") from None


def _write(path: Path, new: str) -> None:
    """Take the difference over, if what comes of it is right.

    Raises:
        DataError: it is not, or it cannot be written: then the file is as it was.
    """
    with tempfile.TemporaryDirectory(prefix="wheelwright-") as folder:
        tried = Path(folder) / path.name
        tried.write_text(new, encoding="utf-8")
        try:
            load_compat(tried)
        except DataError as error:
            raise DataError(
                f"what upstream publishes does not fit {display_name(path)}, which stays as it was: {error.what}",
                remedy="take the difference over by hand",
            ) from None
    try:
        write_atomic(path, new)
    except OSError as error:
        raise DataError(f"{display_name(path)}: cannot be written: {error.strerror}") from None


def _today() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    day = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return day.date().isoformat()


def _parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m wheel_resolver facts",
        description="Compare compat.yaml with PyTorch's index and flash-attention's tags; exit 1 where it differs.",
    )
    made.add_argument("--write", action="store_true", help="take the difference over")
    made.add_argument("--all-tags", action="store_true", help="read every tag, and not only those without a recipe")
    add_root(made)
    made.add_argument("--json", action="store_true", help="print JSON")
    return made
