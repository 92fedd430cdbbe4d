"""``verify`` on wheels made to be dangerous, or to be endless to read: it names what does harm, and its report ends."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.packing import NAME, members, pack
from tests.security.tools.canary import TAME, WILD, calls
from wheel_resolver import cli
from wheel_resolver.inside.dangers import dangers
from wheel_resolver.inside.inspection import inspect
from wheel_resolver.inside.wheel_inside import look_inside

INFO = "flash_attn-2.8.3.dist-info"
Capture = pytest.CaptureFixture[str]


def verify(path: Path, capsys: Capture) -> tuple[int, str, dict[str, Any]]:
    status, out, err = calls(lambda: cli.main(["verify", str(path)]), capsys)
    if status == 2:
        return status, err, {}
    again, text, _ = calls(lambda: cli.main(["verify", str(path), "--json"]), capsys)
    assert again == status
    return status, out, json.loads(text)["wheel"]


def with_metadata(path: Path, **files: str) -> Path:
    """A wheel whose METADATA or WHEEL is another text."""
    every = members({})
    return pack(path / NAME, {**every, **{f"{INFO}/{name}": text.encode() for name, text in files.items()}})


HEAD = "Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.8.3\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"


def test_half_a_million_requirements_make_a_short_report(tmp_path: Path, capsys: Capture) -> None:
    lines = "".join(f"Requires-Dist: p{n}\n" for n in range(560_000))
    path = with_metadata(tmp_path, METADATA=(HEAD + lines)[:9_900_000])
    count = (HEAD + lines)[:9_900_000].count("Requires-Dist: p")
    status, out, data = verify(path, capsys)
    assert status == 1
    assert len(out) < 20_000
    assert "p0, p1, p2, " in out
    assert f"and {count - 20:,} more" in out
    assert data["counts"]["requires"] == count
    assert len(json.dumps(data)) < 100_000


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"METADATA": HEAD.replace("2.8.3", "9" * 5000)}, "Version has 5,000 characters"),
        ({"METADATA": HEAD.replace("2.8.3", "9" * 200)}, "contradicts version"),
        ({"METADATA": HEAD.replace("flash_attn", "x" * 9_000_000)}, "Name has 9,000,000 characters"),
        ({"WHEEL": WHEEL + "".join(f"Tag: py{n}-none-any\n" for n in range(400_000))}, "and 399,980 more"),
        ({"WHEEL": WHEEL + f"Tag: {'-'.join('.'.join([part] * 9000) for part in 'abc')}\n"}, "Tag has"),
        ({"WHEEL": WHEEL + f"Tag: x\nTag: {'.'.join(map(str, range(9000)))}-b-c\n"}, "contradicts tags"),
        ({"METADATA": HEAD + f"Requires-Dist: {'x' * 9_000_000}\n"}, "characters more"),
        ({"RECORD": "".join(f"flash_attn/{n}.py,sha256=x,1\n" for n in range(300_000))}, "more"),
        ({"RECORD": "x\n" * 1_000_000}, "more"),
    ],
    ids=["digits", "fewer", "name", "tags", "alternatives", "more of them", "requirement", "RECORD", "lines"],
)  # fmt: skip
def test_long_texts_are_cut_and_said(files: dict[str, str], words: str, tmp_path: Path, capsys: Capture) -> None:
    status, out, data = verify(with_metadata(tmp_path, **files), capsys)
    assert status in {1, 2}
    assert words in " ".join(out.split())
    assert len(out) < 60_000
    assert len(json.dumps(data)) < 6_000_000


DANGERS = {
    "evil.pth": "runs at every start of Python",
    "Evil.PTH": "runs at every start of Python",
    "flash_attn-2.8.3.data/purelib/evil.pth": "runs at every start of Python",
    "flash_attn-2.8.3.data/platlib/evil.pth": "runs at every start of Python",
    "flash_attn-2.8.3.data/data/lib/python3.12/site-packages/evil.pth": "runs at every start of Python",
    "sitecustomize.py": "is imported at every start of Python",
    "usercustomize/__init__.py": "is imported at every start of Python",
    "flash_attn-2.8.3.data/purelib/sitecustomize.cpython-312.so": "is imported at every start of Python",
    "flash_attn-2.8.3.data/scripts/python": "is installed outside of site-packages, into scripts",
    "flash_attn-2.8.3.DATA/data/etc/profile": "is installed outside of site-packages, into data",
    "flash_attn-2.8.3.data/headers/x.h": "is installed outside of site-packages, into headers",
    "Flash_Attn/__init__.py": "differs from",
    "flash_attn/__INIT__.py": "differs from",
}


@pytest.mark.parametrize("name", DANGERS)
def test_what_does_more_than_lie_there_is_named_and_refused(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = pack(tmp_path / NAME, members({name: b"import os"}))
    status, out, data = verify(path, capsys)
    assert status == 1
    assert any(name in text and DANGERS[name] in text for text in data["dangers"])
    assert any(line.startswith("dangerous   ") for line in out.splitlines())
    refusal = inspect(path, look_inside(path).sha256).refusal  # what `lock` asks: such a wheel is passed over
    assert refusal is not None
    assert DANGERS[name] in refusal


def test_composed_and_decomposed_letters_are_alike(tmp_path: Path) -> None:
    path = pack(tmp_path / NAME, members({"flash_attn/\u00e9.py": b"", "flash_attn/e\u0301.py": b""}))
    assert any("differs from" in text for text in look_inside(path).dangers)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_an_entry_that_is_no_file_is_named(kind: int, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / NAME
    every = members({"flash_attn/link": b"/etc/passwd"})
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in every.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((kind | 0o777) << 16) if name.endswith("link") else (0o100644 << 16)
            archive.writestr(info, text)
    status, out, data = verify(path, capsys)
    assert status == 1
    (said,) = data["dangers"]
    assert said.startswith(
        "flash_attn/link is a link" if kind == stat.S_IFLNK else "flash_attn/link is a device or a pipe"
    )
    assert "dangerous   flash_attn/link" in out


def test_a_common_wheel_has_no_dangers(tmp_path: Path) -> None:
    inside = look_inside(pack(tmp_path / NAME, members({"flash_attn/models/weights.pth": b"", "flash_attn/x.py": b""})))
    assert inside.dangers == ()
    assert inside.installs == ("flash_attn", INFO)


def test_twenty_thousand_dangers_make_a_short_report(tmp_path: Path, capsys: Capture) -> None:
    path = pack(tmp_path / NAME, members({f"{n}{'x' * 100}.pth": b"" for n in range(19_000)}))
    status, out, data = verify(path, capsys)
    assert status == 1
    assert len(out) < 20_000
    assert "dangerous   ... and 18,980 more" in out
    assert data["counts"]["dangers"] == 19_000
    assert len(data["dangers"]) == 1_000
    refusal = inspect(path, look_inside(path).sha256).refusal
    assert refusal is not None
    assert len(refusal) < 20_000  # a lock keeps it


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "C:/x", "\\x", "a\\..\\x", "x\x00y", "a\x1b[2J"])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / NAME
    every = members({"flash_attn/PLACEHOLDER": b"x"})
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in every.items():
            info = zipfile.ZipInfo("x")
            info.filename = name if member.endswith("PLACEHOLDER") else member
            archive.writestr(info, text)
    status, said, _ = verify(path, capsys)
    assert status in {1, 2}
    assert "leads out of the folder" in said or "differs" in said


@pytest.mark.parametrize("canary", [WILD, TAME], ids=["wild", "tame"])
def test_every_text_of_a_wheel_is_inert(canary: str, tmp_path: Path, capsys: Capture) -> None:
    one_line = canary.replace("\n", " ").replace("\r", " ").replace("\u2028", " ")
    member = "flash_attn/" + "".join(char for char in one_line if char >= " " and char not in "\\:/").replace("..", "")
    every = members({member: b"x", f"flash_attn/{'x' * 10}.so": b"\x7fELF"})
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {one_line}\nVersion: {one_line}\nRequires-Dist: {one_line}\n"
        f"Requires-Python: {one_line}\n",
        "WHEEL": f"Tag: {one_line}\n",
        "RECORD": f'"{one_line}",sha256=x,1\n{one_line}\n',
    }
    path = pack(tmp_path / NAME, {**every, **{f"{INFO}/{name}": text.encode() for name, text in texts.items()}})
    status, _, data = verify(path, capsys)
    assert status == 1
    assert data["counts"]["requires"] == 1
    other = path.rename(tmp_path / f"{canary.replace('/', '')[:100]}.whl")
    calls(lambda: cli.main(["verify", str(other)]), capsys)


def test_dangers_of_nothing() -> None:
    assert dangers([]) == ()
