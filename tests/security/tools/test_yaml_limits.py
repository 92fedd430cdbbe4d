"""Every YAML file goes through the one reader: what is built to cost time or memory, or to mean two things, is refused.

Each attack is tried on every file that is read, in a child process with a limit on its memory, and must be answered
with the file and a line within seconds: no traceback, no wait.
"""

from __future__ import annotations

import ast
import contextlib
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from images.planned import read_base_digests
from matrix import DATA_DIR, load_project
from matrix.compat_file import load_compat
from matrix.document import read_document, read_text
from matrix.errors import DataError
from matrix.known_broken import load_known_broken
from matrix.scalars import Kind, kind_of
from matrix.trims import load_trims
from wheel_resolver import lock

ROOT = DATA_DIR.parent
READERS: dict[str, Any] = {
    "matrix.yaml": load_project,
    "compat.yaml": load_compat,
    "known_broken.yaml": load_known_broken,
    "trims.yaml": load_trims,
    "lock.yaml": lock.read,
    "bases.yaml": read_base_digests,
}

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
)
#: What is in the file, and what the answer names.
ATTACKS: dict[str, tuple[str | bytes, str]] = {
    "billion laughs": (LAUGHS, ":1 an anchor (&a0)"),
    "billion laughs in a list": (
        "bases:\n" + "\n".join(f"  k{n}: &b{n} [{f'*b{n - 1}, ' * 10}]" for n in range(1, 10)),
        ":2 an anchor",
    ),
    "an alias to itself": ("a: &a [*a]\n", ":1 an anchor"),
    "brackets": ("bases: " + "[" * 3000 + "]" * 3000, ":1 nested deeper"),
    "braces": ("bases: " + "{a: " * 3000 + "}" * 3000, ":1 nested deeper"),
    "dashes": ("bases:\n" + "- " * 100_000 + "x\n", "nested deeper"),
    "question marks": ("? " * 100_000 + "x\n", ":1 nested deeper"),
    "question marks in flow": ("bases: {" + "? " * 100_000 + "}\n", ":1 not valid YAML"),
    "indentation": ("\n".join(" " * n + f"k{n}:" for n in range(1300)), "nested deeper"),
    "many values": ("schema: [" + "1," * 400_000 + "]\n", "more than 50,000 values"),
    "many keys": ("\n".join(f"k{n}: v" for n in range(70_000)), "more than 50,000 values"),
    "many empty lines": ("schema: 1\n" + "\n" * 900_000 + "bases: [\n", "not valid YAML"),
    "many comments": ("# x\n" * 200_000, ":1 the file is empty"),
    "a long word": ("schema: " + "x" * 900_000 + "\n", ":1 a text of 900,000 characters"),
    "a long text in quotes": ('schema: "' + "x " * 400_000 + '"\n', ":1 a text of"),
    "a long block": ("schema: |\n" + "  x\n" * 200_000, ":1 a text of"),
    "a long key": ("? " + "k" * 500_000 + "\n: 1\n", ":1 a text of 500,000 characters"),
    "a long key of the reader's limit": ("k" * 1000 + ": 1\n", ":1"),
    "base 60": ("schema: 1:" + "59:" * 300_000 + "0\n", ":1 a text of"),
    "base 60, within the limit": ("schema: 1:" + "59:" * 6_000 + "0\n", "number of"),
    "a long number": ("schema: " + "9" * 19_000 + "\n", "a number of 19,000 digits"),
    "a long number as a key": ("9" * 900 + ": 1\n", "a number of 900 digits"),
    "directives": ("%TAG !a! tag:a,2000:\n" * 45_000 + "--- x\n", ":1 a directive"),
    "two documents": ("schema: 1\n---\nschema: 1\n", ":2 not valid YAML"),
    "a tag": ("schema: !!python/object/apply:os.system [id]\n", ":1 a tag"),
    "binary": ("schema: !!binary aGVsbG8=\n", ":1 a tag"),
    "a merge key": ("<<: {schema: 1}\n", "<< without quotes is read as a merge key"),
    "NUL": (b"schema: 1\na: \0\n", r":2 character \x00 in column 4"),
    "a byte order mark": ("\ufeffschema: 1\n".encode(), r":1 character \ufeff in column 1"),
    "UTF-16": ("schema: 1\n".encode("utf-16"), ":1 byte 0 is not UTF-8"),
    "Latin-1": (b"schema: 1\nbases: {caf\xe9: null}\n", ":2 byte 21 is not UTF-8"),
    "a surrogate": (b"schema: \xed\xa0\x80\n", ":1 byte 8 is not UTF-8"),
    "overlong UTF-8": (b"schema: \xc0\x80\n", ":1 byte 8 is not UTF-8"),
    "a lone CR": (b"schema: 1 # x\rbases: {}\n", r":1 character \r in column 14"),
    "NEL": ("schema: 1 # x\x85bases: {}\n", r":1 character \x85 in column 14"),
    "a line separator": ("schema: 1 # x\u2028bases: {}\n", r":1 character \u2028 in column 14"),
    "a tab": ("schema:\t1\n", ":1 there is a tab in column 8"),
    "a reversed comment": ("schema: 1 # \u202e0\n", r":1 character \u202e in column 13"),
    "a joiner in a key": ("sche\u200dma: 1\n", r":1 character \u200d in column 5"),
    "an unseen letter in a key": ("schema\u3164: 1\n", r":1 character \u3164 in column 7"),
    "an escape in quotes": ('"sche\\e[2Jma": 1\n', r"sche\x1b[2Jma"),
    "a duplicate key": ("schema: 1\nschema: 1\n", "stands here twice"),
    "a list as a key": ("? [a]\n: b\n", "must be a key, and is a list"),
    "a megabyte": ("# " + "x" * 1_000_000, "larger than 1,000,000 bytes"),
    "nothing": ("", ":1 the file is empty"),
    "only a scalar": ("bases\n", "must be a mapping"),
    "cut off": ('schema: "1\n', "not valid YAML"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", READERS)
def test_each_file_is_refused_with_its_line_and_soon(name: str, attack: str, tmp_path: Path) -> None:
    content, words = ATTACKS[attack]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        READERS[name](path)
    took = time.monotonic() - start
    said = str(caught.value)
    assert name in said.splitlines()[0]
    if name == "bases.yaml" and attack in {"base 60, within the limit", "a long number"}:
        words = "unknown key 'schema'"  # that file has none, whatever its value
    assert words in said
    assert len(said) < 10_000
    assert took < 10  # two cores that others use too; the reproductions took 26 to 54 s


@pytest.mark.parametrize("attack", ["billion laughs", "brackets", "Latin-1", "base 60", "many values"])
def test_a_command_answers_within_its_memory(attack: str, tmp_path: Path) -> None:
    """The whole command, in a child that may take half a gigabyte of address space."""
    content, words = ATTACKS[attack]
    for folder in ("matrix", "dockerfiles/locks", "serve"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("matrix/matrix.yaml", "matrix/lock.yaml"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    bases = tmp_path / "dockerfiles" / "locks" / "bases.yaml"
    bases.write_bytes(content if isinstance(content, bytes) else content.encode())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))

    command = [sys.executable, "-m", "images", "plan", "--root", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, preexec_fn=limit
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert "bases.yaml:" in done.stderr
    assert words in done.stderr


#: Words without quotes that a reader of YAML 1.1 takes for something else than they look like.
SURPRISES = [
    "yes", "No", "ON", "off", "y", "N", "010", "0o17", "0x1f", "0b11", "1_000", "1e3", "1.5e+3", "+.inf", ".NaN", ".5",
    "5.", "1:30", "190:20:30.15", "-1:59", "2026-08-15", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43", "<<",
    "=", "00", "-0123", "08", "0_1", "9" * 19,
]  # fmt: skip


@pytest.mark.parametrize("word", SURPRISES)
def test_a_word_with_two_meanings_is_refused_in_words(word: str, tmp_path: Path) -> None:
    kind, what = kind_of(word)
    assert kind is Kind.SURPRISE
    path = tmp_path / "known_broken.yaml"
    path.write_text(f"schema: {word}\nknown_broken: []\n")
    with pytest.raises(DataError, match="must be a whole number from 1 to 1, and is ") as caught:
        load_known_broken(path)
    assert f"{word}, {what}" in caught.value.what
    path.write_text(f"schema: 1\nknown_broken: [{{match: {{torch: {word}}}, because: b, workaround: w, source: s}}]\n")
    with pytest.raises(DataError, match="without quotes is read as"):
        load_known_broken(path)


def test_whatever_pyyaml_would_make_a_number_or_a_date_is_no_text_to_us() -> None:
    """The other way: no word that PyYAML itself gives another type passes as text, nor as another number."""
    words = [
        *(word for word in SURPRISES if word not in {"<<", "="}),
        "~",
        "null",
        "true",
        "TRUE",
        "1",
        "-7",
        "2.9",
        "3.10",
        "sdpa",
        "12.8.1",
        "v2.8.3",
        "1:x",
        "a:b",
    ]
    words += [
        f"{sign}{a}{b}" for sign in ("", "-", "+") for a in ("0", "1", "12", "09") for b in ("", ".0", ".50", ":5")
    ]
    for word in words:
        theirs = yaml.safe_load(word)
        kind, _ = kind_of(word)
        if kind is Kind.TEXT:
            assert theirs == word
        elif kind in {Kind.WHOLE, Kind.NUMBER}:
            assert theirs == float(word), word
            assert isinstance(theirs, int) == (kind is Kind.WHOLE)
        elif kind is Kind.FLAG:
            assert theirs is (word.lower() == "true")
        elif kind is Kind.NULL:
            assert theirs is None


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "known_broken.yaml"
    path.write_bytes(b"schema: 1\r\nknown_broken: []\r\n")
    assert load_known_broken(path) == ()
    assert read_text(path) == "schema: 1\nknown_broken: []\n"


def test_yes_is_no_flag(tmp_path: Path) -> None:
    path = tmp_path / "matrix.yaml"
    text = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("source_build: false", "source_build: no", 1))
    with pytest.raises(
        DataError, match=r"source_build: must be true or false, and is no, true or false to some readers"
    ):
        load_project(path)


def test_a_text_file_has_a_limit_too(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_bytes(b"x" * 11)
    with pytest.raises(DataError, match="larger than 10 bytes"):
        read_text(path, 10)
    path.write_bytes(b"ok\n\xff\n")
    with pytest.raises(DataError, match=r"model\.txt:2 byte 3 is not UTF-8"):
        read_text(path, 10)


def test_one_module_parses_yaml() -> None:
    """Nobody else calls PyYAML's readers, by whatever name: the limits stand in one place."""
    parsing = {"load", "load_all", "safe_load", "safe_load_all", "full_load", "full_load_all", "unsafe_load", "compose",
               "unsafe_load_all", "compose_all", "parse", "scan"}  # fmt: skip
    found = set()
    for room in ("matrix", "wheel_resolver", "images", "serve"):
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                imported = isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"yaml", "ruamel"}
                called = (
                    isinstance(node, ast.Attribute)
                    and node.attr in parsing
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "yaml"
                )
                if called or imported:
                    found.add(str(path.relative_to(ROOT)))
    assert found == {"matrix/document.py"}


@pytest.mark.parametrize("end", range(0, 400, 7))
def test_a_file_that_was_cut_is_refused_or_read(end: int, tmp_path: Path) -> None:
    path = tmp_path / "bases.yaml"
    path.write_bytes((ROOT / "dockerfiles" / "locks" / "bases.yaml").read_bytes()[:end])
    with contextlib.suppress(DataError):
        read_base_digests(path)
    with contextlib.suppress(DataError):
        read_document(path)
