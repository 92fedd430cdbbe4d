"""``providers:`` in the matrix: the order is the trust, the official one is always in it, mistakes have a line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from matrix import DATA_DIR, load_project
from matrix.errors import DataError

MATRIX = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8")
OFFICIAL = "Dao-AILab/flash-attention"
WHY = "because: b, source: s"
COMMUNITY = f"{{name: community, kind: github, repository: someone/wheels, {WHY}}}"
FOLDER = f"{{name: ours, kind: folder, path: wheels, {WHY}}}"
INDEX = f'{{name: page, kind: index, url: "https://wheels.example/simple/flash-attn/", {WHY}}}'


def matrix_with(folder: Path, *rows: str) -> Path:
    path = folder / "matrix.yaml"
    path.write_text(MATRIX + "\nproviders:\n" + "".join(f"  - {row}\n" for row in rows))
    return path


def test_without_the_key_only_the_official_releases_are_trusted() -> None:
    assert load_project().matrix.trust == (OFFICIAL,)


def test_the_official_releases_come_first_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_TRUST_ORIGINS", "https://wheels.example")
    matrix = load_project(matrix_with(tmp_path, COMMUNITY, FOLDER, INDEX)).matrix
    assert matrix.trust == (OFFICIAL, "community", "ours", "page")
    assert [(each.kind, each.place) for each in matrix.providers[1:]] == [
        ("github", "someone/wheels"),
        ("folder", str(tmp_path / "wheels")),
        ("index", "https://wheels.example/simple/flash-attn/"),
    ]
    named = f"{{name: upstream, kind: github, repository: dao-ailab/Flash-Attention, {WHY}}}"
    assert load_project(matrix_with(tmp_path, INDEX, named)).matrix.trust == ("page", OFFICIAL)


@pytest.mark.parametrize(
    ("rows", "keys", "words"),
    [
        ((COMMUNITY.replace("repository", "repositry"),), "providers[0].repositry", "perhaps you meant 'repository'"),
        ((COMMUNITY.replace("kind: github", "kind: gitlab"),), "providers[0].kind", "known: github, folder, index"),
        ((FOLDER.replace("folder", "github"),), "providers[0].path", "a provider of kind github has no 'path'"),
        ((f"{{name: x, kind: index, {WHY}}}",), "providers[0]", "a provider of kind index needs the key 'url'"),
        ((COMMUNITY, COMMUNITY), "providers[1].name", "'community' stands here twice"),
        ((COMMUNITY, COMMUNITY.replace("name: community", "name: other")), "providers[1].name", "stands here twice"),
        ((INDEX.replace("https", "http"),), "providers[0].url", "is not an https URL"),
        ((INDEX.replace("wheels.example", "me:secret@x"),), "providers[0].url", "without user or password"),
        ((COMMUNITY.replace("someone/wheels", "../wheels"),), "providers[0].repository", "owner/name"),
        ((FOLDER.replace("wheels", '"a\\0b"'),), "providers[0].path", "control character"),
        ((COMMUNITY.replace(", source: s", ""),), "providers[0]", "the key 'source' is missing"),
    ],
)
def test_a_mistake_names_file_line_key_and_reason(tmp_path: Path, rows: tuple[str, ...], keys: str, words: str) -> None:
    path = matrix_with(tmp_path, *rows)
    with pytest.raises(DataError) as caught:
        load_project(path)
    line = path.read_text().count("\n")  # the last row is the wrong one
    assert re.match(rf"\S*matrix\.yaml:{line} {re.escape(keys)}: ", str(caught.value)), str(caught.value)
    assert words in str(caught.value)
