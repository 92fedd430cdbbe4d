"""A wheel is looked into before it is used: real extensions, compiled here, under the names of official wheels."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from matrix import Abi, Arch, Driver, load_project
from matrix.cli import run
from matrix.errors import DataError
from tests.extension import MEMBER, compile_extension, fat_binary
from tests.packing import members, pack
from wheel_resolver import cli, lock
from wheel_resolver.core.build import judged
from wheel_resolver.core.facts import Facts
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Asset, Release, Wheel
from wheel_resolver.inside import inspection
from wheel_resolver.inside.as_locked import require_as_locked
from wheel_resolver.inside.inspection import against_lock, against_recipe, at_hand, inspect, remember_loading
from wheel_resolver.inside.records import recorded
from wheel_resolver.inside.sass import read_sass
from wheel_resolver.locked.choosing import Tools
from wheel_resolver.locked.locking import make_lock
from wheel_resolver.upstream.catalogue import build_catalogue

PROJECT = load_project()
COMPAT = PROJECT.compat
FACTS = Facts(COMPAT)
OFFICIAL = COMPAT.flash_attn.repository
LISTED = "flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"  # its tag's recipe names it
UNLISTED = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    built: dict[str, bytes] = {}

    def build(**options: Any) -> bytes:
        key = repr(sorted(options.items()))
        if key not in built:
            built[key] = compile_extension(tmp_path_factory.mktemp("extension"), **options)
        return built[key]

    return build


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(cache: Path, name: str, extension: bytes, **options: Any) -> tuple[Wheel, Path]:
    """A wheel in the cache, and how a release lists it."""
    packed = pack(cache.parent / name, members({MEMBER: extension}, tag="cp311-cp311-linux_x86_64", **options))
    sha256 = hashlib.sha256(packed.read_bytes()).hexdigest()
    place = cache / "files" / sha256 / name
    place.parent.mkdir(parents=True, exist_ok=True)
    packed.replace(place)
    parsed = WheelName.parse(name)
    assert parsed is not None
    url = f"https://github.com/{name.replace('+', '%2B')}"
    return Wheel(parsed, name, url, sha256, place.stat().st_size, f"v{parsed.version}", OFFICIAL, None), place


def test_what_is_inside_is_read_once_for_each_sha256(
    cache: Path, extension: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, place = put(cache, LISTED, extension())
    assert wheel.sha256 is not None
    seen = inspect(place, wheel.sha256)
    assert (seen.abi, seen.cuda, seen.refusal, seen.compressed) == (Abi.TRUE, 12, None, False)
    assert seen.sass == (Arch(8, 0), Arch(9, 0), Arch(10, 0), Arch(12, 0))
    assert seen.glibc is not None
    assert seen.glibc <= Version("2.36")

    def opened(_: Path) -> None:
        raise AssertionError("it was opened again")

    monkeypatch.setattr(inspection, "look_inside", opened)
    assert inspect(place, wheel.sha256) == seen == at_hand(wheel) == recorded()[wheel.sha256]
    (record,) = place.parent.glob("*.inspection")
    record.write_text("{")  # damaged: it is made anew
    with pytest.raises(AssertionError, match="opened again"):
        inspect(place, wheel.sha256)


@pytest.mark.parametrize(
    ("name", "options", "against"),
    [
        (LISTED, {}, None),
        (UNLISTED, {}, None),
        (LISTED, {"abi": 0}, "abi: the name says cxx11abiTRUE, the file calls torch with FALSE"),
        (LISTED, {"cuda": 13}, "cuda: the name says cu12, the file links libcudart.so.13"),
        (LISTED, {"code": fat_binary(("8.0", "9.0"))}, "GPU code: its build recipe says that it holds sm_100, sm_120"),
        (UNLISTED, {"code": fat_binary(("8.0", "9.0"))}, None),  # inferred only: what was seen stands in its place
        (LISTED, {"code": b""}, "GPU code: its build recipe says that it holds sm_80, sm_90, sm_100, sm_120"),
    ],
)
def test_what_contradicts_name_or_recipe(
    cache: Path, extension: Callable[..., bytes], name: str, options: dict[str, Any], against: str | None
) -> None:
    wheel, place = put(cache, name, extension(**options))
    assert wheel.sha256 is not None
    found = against_recipe(inspect(place, wheel.sha256), wheel, FACTS)
    assert (found is None) if against is None else (found is not None and against in found)


def test_a_newer_glibc_than_the_recipe_says_contradicts_it(cache: Path, extension: Callable[..., bytes]) -> None:
    wheel, place = put(cache, LISTED, extension())
    assert wheel.sha256 is not None
    newer = replace(inspect(place, wheel.sha256), glibc=Version("2.38"))
    assert against_recipe(newer, wheel, FACTS) == "glibc: its build recipe says 2.32 at most, and the file needs 2.38"


def test_no_wheel_at_all_is_a_refusal_not_a_crash(cache: Path) -> None:
    wheel, place = put(cache, LISTED, b"not an extension")
    assert wheel.sha256 is not None
    seen = inspect(place, wheel.sha256)
    assert seen.refusal is not None
    assert "no ELF shared object" in seen.refusal


@pytest.mark.parametrize("code", [b"", fat_binary(("8.0",))[:40], b"\x50\xed\x55\xba" + b"\xff" * 60])
def test_damaged_gpu_code_is_not_guessed(tmp_path: Path, extension: Callable[..., bytes], code: bytes) -> None:
    file = tmp_path / "extension.so"
    file.write_bytes(extension(code=code))
    found = read_sass(file)
    assert found.archs == () if not code else found.archs is None
    assert ("holds no GPU code" if not code else "not known") in found.note


def test_code_for_one_architecture_only_and_its_compression_are_seen(
    tmp_path: Path, extension: Callable[..., bytes]
) -> None:
    file = tmp_path / "extension.so"
    file.write_bytes(extension(code=fat_binary(("8.0", "9.0a"), compressed=True, ptx="12.0")))
    found = read_sass(file)
    assert found.archs == (Arch(8, 0), Arch(9, 0, "a"))  # PTX is no machine code
    assert found.compressed


def test_what_was_seen_takes_the_place_of_what_was_inferred(cache: Path, extension: Callable[..., bytes]) -> None:
    wheel, place = put(cache, UNLISTED, extension(code=fat_binary(("8.0",), compressed=True)))
    assert wheel.sha256 is not None
    label = judged(wheel, FACTS).build
    seen = inspect(place, wheel.sha256)
    build = judged(wheel, replace(FACTS, inspected={wheel.sha256: seen})).build
    assert (str(label.evidence), str(build.evidence)) == ("label", "inspected")
    assert (label.inferred, build.inferred) == (("SASS",), ())
    assert build.code is not None
    assert build.code.sass == (Arch(8, 0),)
    assert (label.driver, build.driver) == (None, Driver.parse("550"))
    remember_loading(wheel.filename, wheel.sha256, "Python 3.11, torch 2.9.1, CUDA 12.8")
    loaded = judged(wheel, replace(FACTS, inspected=recorded())).build
    assert str(loaded.evidence) == "loaded"


def project_of(python: str = "3.11", torch: str = "2.8.0") -> Any:
    """Our a10g alone, for another Python and torch."""
    from matrix import PythonVersion  # noqa: PLC0415 - next to its only use

    target = replace(PROJECT.matrix.targets["a10g"], python=PythonVersion.parse(python), torch=Version(torch))
    return replace(PROJECT, matrix=replace(PROJECT.matrix, targets={"a10g": target}))


def tools(*wheels: Wheel, said: list[str] | None = None, look: bool = True) -> Tools:
    releases = [Release(each.tag, (Asset(each.filename, each.sha256, each.size, None),)) for each in wheels]
    catalogue = build_catalogue(
        releases, repository=OFFICIAL, origin="https://github.com", source="cache", as_of="", stale=False
    )
    say = (said if said is not None else []).append
    return Tools(lambda: catalogue, None, say, at_hand if look else lambda _: None)


def test_lock_looks_into_what_is_at_hand_and_writes_the_evidence(
    cache: Path, extension: Callable[..., bytes], tmp_path: Path
) -> None:
    wheel, _ = put(cache, LISTED, extension())
    project = project_of()
    by_recipe = make_lock(project, None, tools(wheel, look=False), upgrade=False).targets["a10g"].wheel
    inspected = make_lock(project, None, tools(wheel), upgrade=False)
    found = inspected.targets["a10g"].wheel
    assert by_recipe is not None
    assert found is not None
    assert (by_recipe.evidence, by_recipe.inspection) == ("recipe", None)
    assert found.evidence == "inspected"
    assert found.inspection is not None
    assert (found.inspection.abi, found.inspection.cuda) == (Abi.TRUE, 12)
    path = tmp_path / "lock.yaml"
    lock.write(inspected, path)
    assert lock.read(path) == inspected
    # Where the bytes are not at hand what was written stays: the lock does not depend on the machine.
    assert make_lock(project, lock.read(path), tools(wheel, look=False), upgrade=False) == inspected


def test_a_wheel_that_is_not_what_it_says_is_refused_in_the_lock_and_stays_so(
    cache: Path, extension: Callable[..., bytes], tmp_path: Path
) -> None:
    newer, _ = put(cache, LISTED.replace("2.8.3", "2.8.3.post1"), extension(abi=0), version="2.8.3.post1")
    older, _ = put(cache, LISTED, extension())
    said: list[str] = []
    made = make_lock(project_of(), None, tools(newer, older, said=said), upgrade=False)
    entry = made.targets["a10g"]
    assert entry.wheel is not None
    assert entry.wheel.name == LISTED
    (refused,) = entry.refused
    assert (refused.name, refused.sha256) == (newer.filename, newer.sha256)
    assert "the file calls torch with FALSE" in refused.because
    assert any(f"{newer.filename} is refused" in line for line in said)
    path = tmp_path / "lock.yaml"
    lock.write(made, path)
    for upgrade in (False, True, ("a10g",)):
        again = make_lock(project_of(), lock.read(path), tools(newer, older, look=False), upgrade=upgrade)
        kept = again.targets["a10g"]
        assert kept.wheel is not None
        assert kept.wheel.name == LISTED
        assert kept.refused == entry.refused


def test_a_pin_that_turns_out_wrong_is_replaced_and_where_nothing_is_left_that_is_said(
    cache: Path, extension: Callable[..., bytes]
) -> None:
    bad, _ = put(cache, LISTED, extension(cuda=13))
    pinned = make_lock(project_of(), None, tools(bad, look=False), upgrade=False)
    with pytest.raises(DataError, match="looked into and refused") as caught:
        make_lock(project_of(), pinned, tools(bad), upgrade=False)
    assert "the file links libcudart.so.13" in str(caught.value)


@pytest.mark.parametrize("root", [None, Path("/srv/mine")])
def test_a_build_stops_on_what_contradicts_and_says_how_to_record_it(
    cache: Path, extension: Callable[..., bytes], root: Path | None
) -> None:
    good, place = put(cache, LISTED, extension())
    project = project_of()
    locked = make_lock(project, None, tools(good), upgrade=False).targets["a10g"].wheel
    assert locked is not None
    require_as_locked(place, locked, project, "a10g", root=root)
    bad, other = put(cache, LISTED, extension(abi=0))
    assert bad.sha256 is not None
    with pytest.raises(DataError, match="locked for a10g, is not what it says") as caught:
        require_as_locked(other, replace(locked, sha256=bad.sha256), project, "a10g", root=root)
    assert "the name says cxx11abiTRUE, the file calls torch with FALSE" in str(caught.value)
    command = "python -m wheel_resolver lock --inspect" + (f" --root {root}" if root else "")
    assert str(caught.value).endswith(command)


def test_and_on_what_contradicts_the_lock(cache: Path, extension: Callable[..., bytes]) -> None:
    wheel, place = put(cache, UNLISTED, extension(code=fat_binary(("8.0", "9.0"))))
    assert wheel.sha256 is not None
    project = project_of(torch="2.9.1")
    locked = make_lock(project, None, tools(wheel, look=False), upgrade=False).targets["a10g"].wheel
    assert locked is not None
    assert [str(arch) for arch in locked.sass] == ["sm_80", "sm_90", "sm_100", "sm_120"]  # inferred from its version
    seen = inspect(place, wheel.sha256)
    said = against_lock(seen, locked)
    assert said == "GPU code: the lock says sm_80, sm_90, sm_100, sm_120, the file holds sm_80, sm_90"
    with pytest.raises(DataError, match="GPU code: the lock says"):
        require_as_locked(place, locked, project, "a10g", root=None)
    recorded_now = make_lock(project, None, tools(wheel), upgrade=False).targets["a10g"].wheel
    assert recorded_now is not None
    require_as_locked(place, recorded_now, project, "a10g", root=None)


def test_a_question_answers_from_what_was_looked_into(
    cache: Path, extension: Callable[..., bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel, place = put(cache, LISTED, extension())
    assert wheel.sha256 is not None
    shelf, matrix = tmp_path / "shelf", tmp_path / "matrix.yaml"
    shelf.mkdir()
    shutil.copy(place, shelf / LISTED)
    (shelf / "SHA256SUMS").write_text(f"{wheel.sha256}  {LISTED}\n")
    row = "providers:\n  - {name: shelf, kind: folder, path: shelf, because: b, source: s}\n"
    text = (Path(lock.LOCK_FILE).parent / "matrix.yaml").read_text(encoding="utf-8")
    matrix.write_text(text + row)
    question = ["--torch", "2.8", "--python", "3.11", "--cuda", "12.8", "--gpu", "A10G", "--offline", "--json"]

    def evidence() -> str:
        words = [*question, "--matrix", str(matrix), "--provider", "shelf"]
        assert run(lambda: cli.main(words)) == 0
        return str(json.loads(capsys.readouterr().out)["resolutions"][0]["evidence"])

    assert evidence() == "label"
    inspect(place, wheel.sha256)
    assert evidence() == "inspected"


def test_check_says_the_same_whatever_is_cached(
    cache: Path, extension: Callable[..., bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The committed lock stays fresh on a machine that has the wheel, whatever that wheel is."""
    wheel, _ = put(cache, LISTED, extension(abi=0))
    path = tmp_path / "lock.yaml"
    base = ["lock", "--output", str(path)]
    assert run(lambda: cli.main([*base, "--offline"])) == 0
    entry = lock.read(path).targets["a10g"].wheel
    assert entry is not None
    place = cache / "files" / entry.sha256 / entry.name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"other bytes: set aside by the cache")
    assert wheel.sha256 is not None
    assert run(lambda: cli.main([*base, "--check"])) == 0
    capsys.readouterr()
    assert run(lambda: cli.main([*base, "--check", "--inspect"])) == 2
    assert "--inspect downloads, and --check was given too" in capsys.readouterr().err
