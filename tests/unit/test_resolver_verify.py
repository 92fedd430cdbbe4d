"""``verify``: real extensions, compiled here and packed as wheels; what is inside, and what contradicts."""

from __future__ import annotations

import functools
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from matrix import Abi, Arch, load_project
from matrix.cli import run
from matrix.errors import DataError
from tests.extension import MEMBER, compile_extension, fat_binary
from tests.packing import TAG, members, pack
from wheel_resolver import cli
from wheel_resolver.inside import wheel_file
from wheel_resolver.inside.sass import Sass
from wheel_resolver.inside.shared_object import NotElfError, read_shared_object
from wheel_resolver.inside.verifying import contradictions, served
from wheel_resolver.inside.wheel_inside import look_inside

# No release has it: 2.8.2 came before torch 2.9.
NAME = f"flash_attn-2.8.2+cu12torch2.9cxx11abiTRUE-{TAG}-{TAG}-linux_x86_64.whl"
PROJECT = load_project()

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Compile the extension: against a CUDA runtime's soname, and with one C++ ABI or the other."""
    folder = tmp_path_factory.mktemp("extension")
    return functools.cache(lambda cuda=12, abi=1: compile_extension(folder / f"{cuda}-{abi}", cuda=cuda, abi=abi))


@pytest.fixture
def wheel(extension: Callable[..., bytes], tmp_path: Path) -> Path:
    return pack(tmp_path / NAME, members({MEMBER: extension()}, version="2.8.2"))


def repacked(wheel: Path, name: str = NAME, **changes: bytes | None) -> Path:
    """The wheel with members replaced, added (or left out: None); RECORD stays."""
    with zipfile.ZipFile(wheel) as archive:
        every: dict[str, bytes] = {member: archive.read(member) for member in archive.namelist()}
    for member, text in changes.items():
        every.pop(member, None)
        if text is not None:
            every[member] = text
    wheel.unlink()
    return pack(wheel.with_name(name), every)


def found_in(path: Path) -> list[str]:
    return [each.what for each in contradictions(look_inside(path))]


def test_what_is_inside(wheel: Path) -> None:
    inside = look_inside(wheel)
    (each,) = inside.extensions
    assert (each.member, each.machine, each.cuda, each.abi, each.python) == (MEMBER, "x86_64", 12, Abi.TRUE, TAG)
    assert {"libcudart.so.12", "libstdc++.so.6", "libc.so.6"} <= set(each.needed)
    assert each.glibc is not None
    assert Version("2.2") <= each.glibc <= Version(os.confstr("CS_GNU_LIBC_VERSION").split()[1])  # type: ignore[union-attr]
    assert (inside.metadata.version, inside.metadata.requires) == ("2.8.2", ("torch", "einops"))
    assert inside.faults == ()
    assert contradictions(inside) == ()


def test_which_targets_and_cells_it_serves(wheel: Path) -> None:
    project = with_python(TAG)
    found = served(look_inside(wheel), project)
    assert found is not None
    assert found.targets["a10g"] is None
    assert {name: each.rule for name, each in found.targets.items() if each} == {
        "t4": "arch", "cpu": "cuda", "devel": "cuda",
    }  # fmt: skip
    assert {(str(cell.python.tag), cell.torch.minor, cell.cuda.major) for cell in found.cells} == {(TAG, 9, 12)}


def with_python(tag: str) -> Any:
    """The project with the FA2 targets on the Python that the test's wheel is for."""
    from matrix import PythonVersion  # noqa: PLC0415

    python = PythonVersion(int(tag[2]), int(tag[3:]))
    targets = {
        name: replace(target, python=python) if name in {"a10g", "h100"} else target
        for name, target in PROJECT.matrix.targets.items()
    }
    return replace(PROJECT, matrix=replace(PROJECT.matrix, targets=targets))


def test_the_inside_can_refuse_what_the_name_promises(extension: Callable[..., bytes], tmp_path: Path) -> None:
    liar = pack(tmp_path / NAME, members({MEMBER: extension(13, 0)}, version="2.8.2"))
    inside = look_inside(liar)
    assert [str(each) for each in contradictions(inside)] == [
        "cuda: the name says cu12, the file links libcudart.so.13",
        "abi: the name says cxx11abiTRUE, the file calls torch with FALSE",
    ]
    found = served(inside, with_python(TAG))
    assert found is not None
    assert found.cells == ()
    refused = found.targets["a10g"]
    assert refused is not None
    assert (refused.rule, refused.detail, refused.inside) == ("cuda", "links CUDA 13, not 12", True)


def test_glibc_and_machine_code_inside_are_believed(wheel: Path) -> None:
    inside = look_inside(wheel)
    newer = replace(inside, extensions=tuple(replace(each, glibc=Version("2.99")) for each in inside.extensions))
    assert served(newer, PROJECT).cells == ()  # type: ignore[union-attr]
    hopper = replace(inside, sass=Sass((Arch(9, 0),), ""))
    assert {cell.gpu for cell in served(hopper, PROJECT).cells} == {"H100"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (NAME.replace("2.8.2", "2.8.1"), ["version"]),
        (NAME.replace("x86_64", "aarch64"), ["tags", "machine"]),
        (NAME.replace(TAG, "cp39"), ["tags", "python"]),
        (NAME.replace("flash_attn-", "xformers-"), ["project"]),
        (NAME.replace("cu12", "cu13"), ["cuda"]),
        (NAME.replace("TRUE", "FALSE"), ["abi"]),
        (NAME.replace("+cu12torch2.9cxx11abiTRUE", ""), []),  # compiled at home: it promises nothing
    ],
)
def test_a_name_that_says_otherwise(wheel: Path, name: str, what: list[str]) -> None:
    assert found_in(wheel.rename(wheel.with_name(name))) == what


def test_record_is_checked(wheel: Path) -> None:
    inside = look_inside(
        repacked(wheel, **{"flash_attn/__init__.py": b"import os", "extra.py": b"", "flash_attn/x": b""})
    )
    assert [fault.split(":")[0] for fault in inside.faults] == [
        "flash_attn/__init__.py is not as recorded",
        "extra.py is not in RECORD",
        "flash_attn/x is not in RECORD",
    ]
    inside = look_inside(repacked(wheel, **{MEMBER: None, "extra.py": None, "flash_attn/x": None}))
    assert f"RECORD lists {MEMBER}, which is not there" in inside.faults
    assert found_in(wheel) == ["extension"]


def test_an_extension_that_is_none(wheel: Path) -> None:
    inside = look_inside(repacked(wheel, **{MEMBER: b"\x7fELF but no more"}))
    assert any("is no ELF shared object" in fault for fault in inside.faults)


@pytest.mark.parametrize(
    "member", ["../up.py", "/abs.py", "a/../../b", "C:/x", "a\\b", "line\nbreak", "flash_attn/__init__.py"]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_lead_out_are_refused(wheel: Path, member: str, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(member, "x")
    assert run(lambda: cli.main(["verify", str(wheel)])) == 2
    err = capsys.readouterr().err
    assert "leads out of the folder" in err or "is there twice" in err
    assert "Traceback" not in err


def test_zip_bombs_are_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repacked(wheel, bomb=bytes(50_000_000))
    with pytest.raises(DataError, match="a zip bomb"):
        look_inside(wheel)
    monkeypatch.setattr(wheel_file, "MAX_MEMBERS", 3)
    repacked(wheel, bomb=None)
    with pytest.raises(DataError, match="a zip bomb"):
        look_inside(wheel)


def test_what_is_no_wheel_exits_2(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = wheel.read_bytes()
    info = "flash_attn-2.8.2.dist-info"
    cases: list[tuple[str, str]] = []

    def case(words: str) -> None:
        assert run(lambda: cli.main(["verify", str(wheel)])) == 2
        cases.append((words, capsys.readouterr().err))

    wheel.write_bytes(b"no zip")
    case("not a whole wheel")
    wheel.write_bytes(good[: len(good) // 2])
    case("not a whole wheel")
    wheel.write_bytes(good[:200] + bytes(200) + good[400:])
    case("not a whole wheel")
    for member, words in (
        (f"{info}/METADATA", "has no flash"),
        (f"{info}/WHEEL", "has no"),
        (f"{info}/RECORD", "has no"),
    ):
        wheel.write_bytes(good)
        repacked(wheel, **{member: None})
        case(words)
    wheel.write_bytes(good)
    repacked(wheel, **{f"{info}/METADATA": b"Name: flash_attn\n"})
    case("has no Version")
    wheel.write_bytes(good)
    repacked(wheel, **{"other-1.dist-info/METADATA": b""})
    case("holds 2 .dist-info folders")
    wheel.write_bytes(good)
    wheel.rename(tmp_path / "renamed.whl")
    assert run(lambda: cli.main(["verify", str(tmp_path / "renamed.whl")])) == 2
    cases.append(("is not the name of a wheel", capsys.readouterr().err))
    assert run(lambda: cli.main(["verify", str(tmp_path)])) == 2
    cases.append(("is not a file", capsys.readouterr().err))
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer, without end
    assert run(lambda: cli.main(["verify", str(tmp_path / "pipe")])) == 2
    cases.append(("is not a file", capsys.readouterr().err))
    assert run(lambda: cli.main(["verify", str(tmp_path / "absent")])) == 2
    cases.append(("cannot be read", capsys.readouterr().err))
    for words, err in cases:
        assert words in err
        assert err.startswith("error: ")
        assert "remedy: " in err


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 1 << 20), junk=st.binary(min_size=1, max_size=64), cut=st.booleans())
def test_no_bytes_break_the_reader(
    extension: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory, place: int, junk: bytes, cut: bool
) -> None:
    data = extension()
    place %= len(data)
    broken = data[:place] if cut else data[:place] + junk + data[place + len(junk) :]
    file = tmp_path_factory.mktemp("broken") / "x.so"
    file.write_bytes(broken)
    try:
        read_shared_object(file, MEMBER)
    except NotElfError as error:
        assert str(error)  # noqa: PT017 - either answer is right


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=20))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_bytes_break_the_wheel_reader(
    extension: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    """The end of the file is where the names, sizes and places of a zip file stand."""
    path = tmp_path_factory.mktemp("broken") / NAME
    data = bytearray(pack(path, members({MEMBER: extension()}, version="2.8.2")).read_bytes())
    for place, value in changes:
        data[-1 - place % min(len(data), 1000)] = value
    path.write_bytes(data)
    try:
        look_inside(path)
    except DataError as error:
        assert error.remedy  # noqa: PT017 - either answer is right


def test_machine_code_is_read_from_the_bytes_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fat_binary(["8.0", "10.0a"], ptx="12.0")
    codes = [whole, fat_binary(["8.0"], compressed=True), b"", whole[:-40]]
    made = [compile_extension(tmp_path / "made", code=code) for code in codes]
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # no tool of CUDA's is needed

    def sass(extension: bytes) -> Sass:
        return look_inside(pack(tmp_path / NAME, members({MEMBER: extension}, version="2.8.2"))).sass

    plain, compressed, empty, cut = map(sass, made)
    assert plain == Sass((Arch(8, 0), Arch(10, 0, "a")), "as its fat binaries list it")
    assert compressed == Sass((Arch(8, 0),), "as its fat binaries list it", compressed=True)
    assert empty == Sass((), "holds no GPU code")
    assert (cut.archs, cut.note.startswith("not known: ")) == (None, True)


def test_the_command(wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main(["verify", str(wheel)])) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "x86_64, needs glibc 2." in out
    assert "links the CUDA runtime 12, C++ ABI TRUE" in out
    assert "target t4: no, arch: flash-attn needs sm_80 or newer" in out
    assert run(lambda: cli.main(["verify", "--json", str(wheel)])) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data) == {"schema", "wheel", "here"}
    assert set(data["wheel"]) == {
        "name", "path", "size", "sha256", "known", "metadata", "files", "extensions", "sass", "faults",
        "contradictions", "serves", "dangers", "installs", "counts",
    }  # fmt: skip
    assert data["wheel"]["serves"]["targets"]["t4"]["rule"] == "arch"
    assert data["wheel"]["serves"]["cells"]["count"] > 0


def test_texts_of_the_wheel_cannot_write_to_the_terminal(wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Name: flash_attn\nVersion: 2.8.2\nRequires-Dist: torch\x1b[2Jred\x9b \u202e\n"
    repacked(wheel, **{"flash_attn-2.8.2.dist-info/METADATA": text.encode()})
    assert run(lambda: cli.main(["verify", str(wheel)])) == 1
    out = capsys.readouterr().out
    assert "torch\\x1b[2Jred\\x9b \\u202e" in out
    assert out.replace("\n", "").isprintable()


def test_a_file_under_a_listed_name_with_another_digest(wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    assert run(lambda: cli.main(["verify", str(wheel.rename(wheel.with_name(listed)))])) == 1
    assert "4e2f9e39313266b1544b68138b15b91ee6221eccf14f7902b7c6620351340810 (as" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "nothing to verify"), (["x.whl", "--import"], "needs --env"), (["--env", "--import"], "needs a WHEEL")],
)
def test_what_does_not_go_together(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main(["verify", *arguments])) == 2
    assert words in capsys.readouterr().err
