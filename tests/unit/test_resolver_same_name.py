"""One name, several files: the newest upload is meant, or none, and the official releases are asked for more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.errors import DataError, NetworkError
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.upstream import snapshot
from wheel_resolver.upstream.catalogue import Catalogue, build_catalogue
from wheel_resolver.upstream.snapshot import Snapshot, dumps
from wheel_resolver.upstream.snapshot_cli import others_form
from wheel_resolver.upstream.wheel_folder import copy_wheel, list_folder

NAME = "flash_attn-2.8.3+cu128torch2.11-cp312-cp312-linux_x86_64.whl"
OTHER = NAME.replace("cp312", "cp313")
File = tuple[str, str | None, str | None]  # tag, digest, date


def catalogue(*files: File, name: str = NAME, rebuilds: bool = True, more: tuple[Release, ...] = ()) -> Catalogue:
    releases = [Release(tag, (Asset(name, digest and digest * 64, 7, date),)) for tag, digest, date in files]
    return build_catalogue(
        (*releases, *more), repository="someone/wheels", origin="https://x.example", source="network",
        as_of="2026-01-01T00:00:00Z", stale=False, rebuilds=rebuilds,
    )  # fmt: skip


def dated(day: int) -> str:
    return f"2026-01-{day:02}T00:00:00Z"


@pytest.mark.parametrize(
    ("files", "tag", "digest", "older"),
    [
        ([("v2", "b", dated(2)), ("v1", "a", dated(1))], "v2", "b", ["v1"]),
        ([("v1", "a", dated(1)), ("v2", "b", dated(2))], "v2", "b", ["v1"]),  # the order of the list says nothing
        ([("v9", "a", dated(1)), ("v2", "b", dated(2))], "v2", "b", ["v9"]),  # nor does the tag
        ([("v2", "a", dated(2)), ("v1", "a", dated(1))], "v2", "a", []),  # one file on two tags
        ([("v3", "c", dated(3)), ("v2", "b", dated(2)), ("v1", "a", dated(1))], "v3", "c", ["v2", "v1"]),
        ([("v3", "c", dated(3)), ("v2", "b", dated(2)), ("v1", "b", dated(1))], "v3", "c", ["v2"]),
        ([("v2", "b", None), ("v1", "a", dated(1))], "v1", "a", ["v2"]),  # an unknown date is the oldest
        ([("v2", "b", None), ("v1", "a", None)], "v2", "b", ["v1"]),
        ([("v2", None, dated(2)), ("v1", "a", dated(1))], "v1", "a", []),
        ([("v2", None, dated(2)), ("v1", None, dated(1))], "v2", None, []),
    ],
)
def test_the_newest_upload_of_a_name_wins(files: list[File], tag: str, digest: str | None, older: list[str]) -> None:
    found = catalogue(*files)
    (wheel,) = found.wheels
    assert (wheel.tag, wheel.sha256) == (tag, digest and digest * 64)
    assert wheel.url.startswith(f"https://x.example/someone/wheels/releases/download/{tag}/")
    assert [each.old.tag for each in found.superseded] == older
    for each in found.superseded:
        assert each.new == wheel
        assert all(str(word) in each.detail for word in (each.old.tag, each.old.sha256, wheel.tag, wheel.sha256))
    assert (found.listed, found.disputed) == (len(files), ())


def test_two_digests_on_one_tag_are_fatal_for_that_name_alone() -> None:
    twice = Release("v2", tuple(Asset(NAME, digit * 64, 7, dated(2)) for digit in "ab"))
    other = Release("v3", (Asset(OTHER, "c" * 64, 7, dated(3)),))
    found = catalogue(("v4", "d", dated(4)), more=(twice, other))
    assert [wheel.filename for wheel in found.wheels] == [OTHER]
    assert found.disputed == (f"{NAME} has 2 digests on tag v2: {'a' * 64}, {'b' * 64}; the name is not used",)


def test_the_official_releases_have_one_digest_for_a_name() -> None:
    with pytest.raises(DataError, match="has two digests"):
        catalogue(("v2", "b", dated(2)), ("v1", "a", dated(1)), rebuilds=False)


TAGS, DIGESTS, DATES = ["v1", "v2", "v3"], ["a", "b", None], [None, dated(1), dated(2)]
FILES = st.lists(st.tuples(*map(st.sampled_from, (TAGS, DIGESTS, DATES))), min_size=1, max_size=6)


@given(FILES)
def test_whatever_is_listed_a_name_is_one_wheel_or_none(files: list[File]) -> None:
    found = catalogue(*files)
    conflict = any(len({digest for on, digest, _ in files if on == tag and digest}) > 1 for tag, _, _ in files)
    assert (len(found.wheels), len(found.disputed)) == ((0, 1) if conflict else (1, 0))
    for wheel in found.wheels:
        digests = {digest * 64 for _, digest, _ in files if digest}
        assert {wheel.sha256, *(each.old.sha256 for each in found.superseded)} - {None} == digests
        dates = [date or "" for _, digest, date in files if digest or not digests]
        newest = {digest and digest * 64 for _, digest, date in files if (date or "") == max(dates)}
        assert wheel.sha256 in newest


def test_a_bad_row_of_a_shipped_list_costs_that_row(tmp_path: Path) -> None:
    good = Snapshot("someone/wheels", "2026-01-01T00:00:00Z", (Release("v1", (Asset(NAME, "a" * 64, 7, None),)),))
    row = f'["{NAME}", "{"a" * 64}", 7, null]'
    assert row in dumps(good)
    path = tmp_path / "list.json"
    for bad in ('["x.whl", "short", 7, null]', '["x.whl", null, -1, null]', "[1, null, null, null]", "7", "[]", "null"):
        path.write_text(dumps(good).replace(row, f"{bad}, {row}"))
        assert snapshot.read(path, forgiving=True) == good
        with pytest.raises(DataError):  # the official list is whole, or it is none
            snapshot.read(path)


def test_the_shipped_form_is_the_same_for_the_same_releases() -> None:
    names = [
        NAME,
        OTHER,
        NAME.replace("linux_x86_64", "win_amd64"),
        NAME.replace("2.8.3", "2.5.9"),
        "odd.whl",
        "notes.txt",
    ]
    releases = [
        Release(tag, tuple(Asset(name, "a" * 64, 7, None) for name in names))
        for tag in ("v0.9.1", "nightly", "v0.10.0")
    ]
    listed = Snapshot("someone/wheels", "2026-01-01T00:00:00Z", tuple(releases))
    made, left_out = others_form(listed)
    assert [release.tag for release in made.releases] == ["v0.10.0", "v0.9.1", "nightly"]
    assert {tuple(asset.name for asset in release.assets) for release in made.releases} == {(NAME, OTHER)}
    assert left_out == ("odd.whl",) * 3
    shuffled = [Release(each.tag, tuple(reversed(each.assets))) for each in releases]
    random.Random(1).shuffle(shuffled)
    assert others_form(Snapshot("someone/wheels", listed.as_of, tuple(shuffled)))[0] == made


@pytest.mark.parametrize("sums", [NAME, NAME.replace("+", "%2B")])
@pytest.mark.parametrize("saved", [NAME, NAME.replace("+", "%2B"), NAME.replace("+", "%2b")])
def test_a_file_of_a_folder_is_known_by_either_spelling(tmp_path: Path, saved: str, sums: str) -> None:
    (tmp_path / saved).write_bytes(b"a wheel")
    (tmp_path / "SHA256SUMS").write_text(f"{'a' * 64}  {sums}\n")
    ((asset,),) = [release.assets for release in list_folder(tmp_path)]
    assert (asset.name, asset.sha256, asset.size) == (NAME, "a" * 64, 7)
    assert asset.url is not None
    copy_wheel(asset.url, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"a wheel"


def test_a_file_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"a wheel")
    (tmp_path / OTHER).symlink_to(tmp_path / "gone.whl")
    assert [asset.name for asset in list_folder(tmp_path)[0].assets] == [NAME]
    with pytest.raises(NetworkError):
        list_folder(tmp_path / "absent")
