"""A lock holds pins with their hashes and nothing else, is what was written, and fits what it was computed from."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from images.lock_inputs import bases_digest
from images.requirement_files import LISTS, parse_pins, read_stack_lock
from matrix.errors import DataError
from matrix.seal import broken_seal, sealed
from tests.running import tool

STACK = "py3.11-torch2.13.0-cpu"
GOOD = "0" * 64
READERS = (["images", "render"], ["images", "build", "cpu"])

# What uv or pip would take for more than a pin, below a requirement and its hashes.
INJECTIONS = [
    "--index-url https://evil.example/simple",
    "--extra-index-url https://evil.example/simple",
    "--find-links https://evil.example/",
    "--no-require-hashes",
    "--trusted-host evil.example",
    "-r /etc/shadow",
    "-c /etc/shadow",
    "-e .",
    "./folder",
    "/tmp/evil.tar.gz",
    "https://evil.example/evil-1.0-py3-none-any.whl",
    f"evil @ https://evil.example/evil-1.0-py3-none-any.whl --hash=sha256:{GOOD}",
    "evil @ file:///tmp/evil",
    "git+https://evil.example/evil",
    "evil",
    "evil==1.0",
    "evil>=1.0 \\",
    "evil[extra]==1.0 \\",
    "${HOME}==1.0 \\",
    "evil==${VERSION} \\",
    "evil==1.0 ; python_version < ${X} \\",
    "evil==1.0 ; nonsense \\",
    "evil==1.x \\",
    f"evil==1.0 --hash=sha256:{GOOD}",
    f"evil==1.0 --hash=md5:{'0' * 32} \\",
    f"    --hash=sha256:{GOOD}",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD} --index-url https://evil.example \\\n    --hash=sha256:{GOOD}",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD} \\\n-r x",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD[1:]}",
    f"evil==1.0 \\\n    --hash=sha512:{GOOD * 2}",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD}\n    # via x \\\n    --index-url https://evil.example",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD}\r\n-r x",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD}\n    # via \x1b[2J",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD}\n    # via \u202e",
    f"evil==1.0 \\\n    --hash=sha256:{GOOD}\n    # via x\u2028-r x",
    "\t",
    "",
    f"torch==2.13.0+cpu \\\n    --hash=sha256:{GOOD}",  # a second time
    f"TORCH==1.0 \\\n    --hash=sha256:{GOOD}",
    f"to_rch==1.0 \\\n    --hash=sha256:{GOOD}",
]


def plant(checkout: Path, addition: str, *, seal: bool, name: str = "torch.txt") -> Path:
    path = checkout / "dockerfiles" / "locks" / STACK / name
    text = path.read_bytes().decode() + addition + "\n"
    path.write_bytes((sealed(text) if seal else text).encode())
    return path


@pytest.mark.parametrize("injection", INJECTIONS)
def test_what_is_no_pin_is_refused_with_its_line_even_under_a_new_digest(checkout: Path, injection: str) -> None:
    before = len((checkout / "dockerfiles/locks" / STACK / "torch.txt").read_text().splitlines())
    plant(checkout, injection, seal=True)
    with pytest.raises(DataError, match=rf"torch\.txt:{before + 1}|torch\.txt:\d+ ") as caught:
        read_stack_lock(checkout / "dockerfiles" / "locks" / STACK)
    assert "make lock" in str(caught.value.remedy)
    assert str(caught.value).isprintable() or "\n  remedy" in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "injection", ["--index-url https://evil.example/simple", f"evil==1.0 \\\n    --hash=sha256:{GOOD}"]
)
def test_an_edited_lock_is_told_by_check_and_refused_by_render_and_build(checkout: Path, injection: str) -> None:
    plant(checkout, injection, seal=False)
    done = tool(checkout, "images", "lock", "--check", "--json")
    assert done.status == 1
    assert list(json.loads(done.out)["not_fresh"]) == [f"dockerfiles/locks/{STACK}"]
    assert f"{STACK}/torch.txt:" in done.out
    for reader in (*READERS, ["images", "environment"]):
        done = tool(checkout, *reader)
        assert done.status == 2, (reader, done.said)
        assert f"{STACK}/torch.txt:" in done.err


def test_a_package_that_was_added_under_a_new_digest_is_a_difference_that_review_sees(checkout: Path) -> None:
    """The limit of a digest in the file itself: what the grammar allows and the digest fits is a pin."""
    plant(checkout, f"evil==1.0 \\\n    --hash=sha256:{GOOD}", seal=True)
    assert tool(checkout, "images", "lock", "--check").status == 0
    assert tool(checkout, "images", "render", "--check").status == 1  # lock_hash


@pytest.mark.parametrize("name", ["requirements.in", "overrides.txt"])
def test_locks_of_other_inputs_are_refused(checkout: Path, name: str) -> None:
    path = checkout / "serve" / name
    path.write_text(path.read_text() + "evil ; sys_platform == 'never'\n")
    assert tool(checkout, "images", "lock", "--check").status == 1
    for reader in READERS:
        done = tool(checkout, *reader)
        assert done.status == 2, (reader, done.said)
        assert "computed from other inputs" in done.err


def test_an_inputs_line_written_by_hand_does_not_help(checkout: Path) -> None:
    folder = checkout / "dockerfiles" / "locks" / STACK
    for path in folder.iterdir():  # all of them under new digests: then the recomputed inputs differ
        text = path.read_text()
        path.write_text(sealed(text.replace(text.partition("# inputs: sha256:")[2][:64], GOOD)))
    assert tool(checkout, "images", "lock", "--check").status == 1
    assert tool(checkout, "images", "render").status == 2
    path = folder / "torch.txt"  # one of them: not of one run
    path.write_text(sealed(path.read_text().replace(GOOD, "1" * 64)))
    with pytest.raises(DataError, match="not of one run"):
        read_stack_lock(folder)


@pytest.mark.parametrize("change", ["null", "digest", "row", "seal"])
def test_bases_are_what_was_written(checkout: Path, change: str) -> None:
    path = checkout / "dockerfiles" / "locks" / "bases.yaml"
    text = path.read_text()
    if change == "null":
        text = text.replace("3.11-slim-bookworm: null", f"3.11-slim-bookworm: sha256:{GOOD}")
    elif change == "digest":
        text = text.replace("content: sha256:", "content: sha256:0", 1)
    elif change == "row":  # under a new digest, and with another image than the matrix asks for
        text = sealed(text.replace("python:3.11-slim-bookworm", "python:3.11-slim-other"))
        text = sealed(text.replace(text.partition("inputs: sha256:")[2][:64], bases_digest(["other"])))
    else:
        text = "".join(line for line in text.splitlines(keepends=True) if "content" not in line)
    path.write_text(text)
    done = tool(checkout, "images", "lock", "--check", "--json")
    assert done.status == 1
    assert list(json.loads(done.out)["not_fresh"]) == ["dockerfiles/locks/bases.yaml"]
    for reader in READERS:
        done = tool(checkout, *reader)
        assert done.status == 2, (reader, done.said)
        assert "bases.yaml" in done.err


def test_a_wheel_lock_that_was_edited_is_refused(checkout: Path) -> None:
    path = checkout / "matrix" / "lock.yaml"
    text = path.read_text()
    path.write_text(text.replace("evidence: label", "evidence: loaded"))
    for verb in (["images", "plan"], ["images", "render"], ["images", "build"]):
        done = tool(checkout, *verb)
        assert done.status == 2
        assert "matrix/lock.yaml:1 is not what its own digest says" in done.err
    assert tool(checkout, "wheel_resolver", "export", "a10g").status == 2
    assert tool(checkout, "wheel_resolver", "lock", "--offline").status == 2
    assert tool(checkout, "wheel_resolver", "lock", "--check").status == 1
    path.write_text("".join(line for line in text.splitlines(keepends=True) if "# content" not in line))
    assert tool(checkout, "images", "plan").status == 2


def test_a_lock_that_is_no_utf8_or_a_cut_one_is_refused_in_words(checkout: Path) -> None:
    path = checkout / "dockerfiles" / "locks" / STACK / "model.txt"
    text = path.read_bytes()
    for damaged in (text[:-1], text[:5000], b"", text.replace(b"\n", b"\r\n"), text + b"\xff\n", text + b"\x00\n"):
        path.write_bytes(damaged)
        done = tool(checkout, "images", "plan")
        assert done.status == 2
        assert "Traceback" not in done.err
        assert "model.txt" in done.err


@pytest.mark.parametrize(
    "place", [f"dockerfiles/locks/{STACK}/torch.txt", "serve/requirements.in", "serve/overrides.txt"]
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_link_is_not_followed_into_a_message(checkout: Path, place: str, *, whole: bool) -> None:
    secrets = checkout.parent / "secrets"
    secrets.mkdir()
    path = checkout / place
    for name in ("torch.txt", "model.txt", "requirements.in", "requirements-gpu.in", "overrides.txt"):
        (secrets / name).write_text("-----BEGIN canary-of-a-key\n")
    if whole:  # the folder is the link
        shutil.rmtree(path.parent)
        path.parent.symlink_to(secrets)
    else:
        path.unlink()
        path.symlink_to(secrets / path.name)
    for verb in (["images", "lock", "--check"], ["images", "render"]):
        done = tool(checkout, *verb)
        assert done.status in {1, 2}, (verb, done.said)
        assert "is a symbolic link" in done.said
        assert "canary" not in done.said


PARTS = ("a==1 \\", "b==2 ; python_version < '3' \\", f"    --hash=sha256:{GOOD}", f"    --hash=sha256:{GOOD} \\")
OTHERS = ("# c", "    # via a", "-r x", "--index-url https://e", "", "a", "b @ file:///x", "\\", "    -e .")
LINES = st.lists(st.sampled_from((*PARTS, *OTHERS)) | st.text(max_size=30), max_size=8)


@settings(max_examples=400, deadline=None)
@given(LINES)
@example(["a==1 \\", f"    --hash=sha256:{GOOD}", "    # via a"])
def test_whatever_is_read_is_what_stands_there(lines: list[str]) -> None:
    """What the parser accepts, written anew from what it read, is the same text but for its comments."""
    text = "".join(f"{line}\n" for line in lines)
    try:
        pins = parse_pins(text)
    except DataError:
        return
    written = []
    for pin in pins:
        head = f"{pin.name}=={pin.version}" + (f" ; {pin.marker}" if pin.marker else "")
        written += [f"{head} \\", *(f"    --hash=sha256:{digest} \\" for digest in pin.hashes)]
        written[-1] = written[-1].removesuffix(" \\")
    assert [line for line in text.split("\n") if line and not line.lstrip().startswith("#")] == written


@given(st.text(alphabet="ab#\n: ", max_size=40), st.integers(0, 200), st.sampled_from("ab#\n"))
def test_a_seal_shows_every_change(body: str, place: int, char: str) -> None:
    text = sealed(f"# head\n{body}")
    assert broken_seal(text) is None
    assert sealed(text) == text
    place %= len(text) + 1
    assert broken_seal(text[:place] + char + text[place:]) is not None
    assert broken_seal(text[:-1]) is not None or not body


def test_the_seal_is_plain_sha256_of_the_file_without_its_line() -> None:
    for path in sorted(Path("dockerfiles/locks").glob("*/*.txt")):
        lines = path.read_text().splitlines(keepends=True)
        (line,) = [line for line in lines if line.startswith("# content: sha256:")]
        bare = "".join(each for each in lines if each != line)
        assert line == f"# content: sha256:{hashlib.sha256(bare.encode()).hexdigest()}\n"
        assert path.name in LISTS
