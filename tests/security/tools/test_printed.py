"""No text of a stranger is obeyed where it is printed: terminal, log, a CI run's page, JSON, HTML.

Every text and key of every data file, what upstream answers, what is in a wheel, what an environment variable or the
command line holds: each is a canary once, and the commands run.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from images.__main__ import main as images_main
from images.hostsettings import read_host_settings
from images.planned import read_base_digests
from images.table import Column, format_table
from matrix import DATA_DIR
from matrix.__main__ import main as matrix_main
from matrix.cli import say, say_error, tell
from matrix.compat_file import load_compat
from matrix.errors import DataError, WheelwrightError
from matrix.known_broken import load_known_broken
from matrix.shown import hidden, json_text, shown, shown_lines
from matrix.trims import load_trims
from tests.resolver_http.conftest import Upstream
from tests.security.tools.canary import TAME, WILD, assert_inert, calls, places, with_text
from wheel_resolver import cli as resolver
from wheel_resolver import lock
from wheel_resolver.asking.coverage_cli import render_html
from wheel_resolver.locked.watch_cli import shipped_catalogue
from wheel_resolver.upstream import snapshot

ROOT = DATA_DIR.parent
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Capture = pytest.CaptureFixture[str]


def data_of(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


MATRIX, LOCK = data_of("matrix/matrix.yaml"), data_of("matrix/lock.yaml")


def each_once(data: Any, *targets: str) -> list[tuple[Any, ...]]:
    """The places of a file; of its targets, which are alike, only these."""
    return [at for at in places(data) if at[0] != "targets" or at[1] is None or at[1] in targets]


READ: dict[str, Callable[[Path], Any]] = {
    "matrix/compat.yaml": load_compat,
    "matrix/known_broken.yaml": load_known_broken,
    "matrix/trims.yaml": load_trims,
    "dockerfiles/locks/bases.yaml": read_base_digests,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "cache"))
    for name in ("GH_TOKEN", "GITHUB_TOKEN", "GITHUB_API_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout's data, to be changed."""
    for folder in ("matrix", "dockerfiles", "serve"):
        shutil.copytree(ROOT / folder, tmp_path / "root" / folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path / "root"


def write(path: Path, data: Any) -> None:
    path.write_text(yaml.dump(data, Dumper=_DUMPER, sort_keys=False, width=10**6), encoding="utf-8")


def whole_tool(root: Path) -> list[Callable[[], int]]:
    """The commands that read the matrix and the lock and need neither a network nor an engine."""
    at = ["--root", str(root)]
    return [
        lambda: matrix_main(["check", "--matrix", str(root / "matrix" / "matrix.yaml")]),
        lambda: resolver.main(["--torch", "2.9", "--offline", *at]),
        lambda: resolver.main(["lock", "--check", "--offline", *at]),
        lambda: resolver.main(["export", *at]),
        lambda: resolver.main(["fetch", "--offline", *at]),
        lambda: images_main(["plan", *at]),
        lambda: images_main(["lock", "--check", *at]),
        lambda: images_main(["render", "--check", *at]),
        lambda: images_main(["plan", "--json", *at]),
    ]


@pytest.mark.parametrize("at", each_once(MATRIX, "a10g"), ids=lambda at: ".".join(map(str, at)))
def test_a_matrix_that_holds_control_characters_is_refused_in_plain_words(
    at: tuple[Any, ...], root: Path, capsys: Capture
) -> None:
    write(root / "matrix" / "matrix.yaml", with_text(MATRIX, at, WILD))
    for command in whole_tool(root)[:2]:
        status, out, err = calls(command, capsys)
        assert (status, out) == (2, "")
        assert "matrix.yaml:" in err
        assert len(err.splitlines()) <= 2  # the error and its remedy, whatever lines the text has


@pytest.mark.parametrize(
    "at", [at for at in each_once(MATRIX, "a10g") if at[-1] in {"description", "because", "source"}],
    ids=lambda at: ".".join(map(str, at)),
)  # fmt: skip
def test_what_a_matrix_may_say_is_inert_in_every_command(at: tuple[Any, ...], root: Path, capsys: Capture) -> None:
    write(root / "matrix" / "matrix.yaml", with_text(MATRIX, at, TAME))
    assert calls(whole_tool(root)[0], capsys)[0] == 0
    for command in whole_tool(root)[1:]:
        calls(command, capsys)


@pytest.mark.parametrize("canary", [WILD, TAME], ids=["wild", "tame"])
@pytest.mark.parametrize("at", each_once(LOCK, "a10g", "devel"), ids=lambda at: ".".join(map(str, at)))
def test_every_text_of_the_lock(at: tuple[Any, ...], canary: str, root: Path, capsys: Capture) -> None:
    write(root / "matrix" / "lock.yaml", with_text(LOCK, at, canary))
    for command in whole_tool(root)[2:6]:
        status, _, err = calls(command, capsys)
        if canary == WILD:
            assert status == 2
            assert "lock.yaml:" in err


@pytest.mark.parametrize("name", READ)
def test_every_text_and_key_of_the_other_files(name: str, tmp_path: Path, capsys: Capture) -> None:
    data, path = data_of(name), tmp_path / Path(name).name

    def read() -> int:
        READ[name](path)
        return 0

    for index, at in enumerate(places(data)):
        write(path, with_text(data, at, WILD))
        status, _, err = calls(read, capsys)
        assert status == 2, at
        assert f"{path.name}:" in err
        if index % 4 == 0:
            write(path, with_text(data, at, TAME))
            calls(read, capsys)


def test_a_key_cannot_begin_a_line_of_its_own(root: Path, capsys: Capture) -> None:
    """What a CI runner reads at the beginning of a line it obeys: a target's name with a newline in it came there."""
    path = root / "matrix" / "matrix.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  t4:\n", '  "t4\\n::add-mask::x\\nRUN id":\n'), encoding="utf-8")
    status, _, err = calls(lambda: matrix_main(["check", "--matrix", str(path)]), capsys)
    assert status == 2
    assert r"targets.t4\n::add-mask::x\nRUN id" in err.splitlines()[0]


def test_generated_files_that_a_stranger_changed_are_shown_and_not_obeyed(root: Path, capsys: Capture) -> None:
    folder = root / "dockerfiles" / "rendered"
    for path in sorted(folder.iterdir()):
        text = path.read_text(encoding="utf-8")
        path.write_text(f"{WILD}\n{TAME}\n::set-output name=x::y\n{text}", encoding="utf-8")
    status, out, _ = calls(lambda: images_main(["render", "--check", "--root", str(root)]), capsys)
    assert status == 1
    assert r"\u202e" in out
    assert r"\x1b]0;wild" in out
    assert "-\\x3a:set-output" in out or "-::set-output" in out


VERBS = ("export", "fetch", "lock", "coverage", "snapshot", "watch")
ARGUMENTS: list[tuple[Callable[[list[str]], int], list[str]]] = [
    *((resolver.main, [f"--{name}", "CANARY"]) for name in (
        "torch", "python", "cuda", "abi", "gpu", "arch", "platform", "flash-attn", "provider", "driver", "glibc",
        "dtype", "matrix", "root", "require", "reuse", "no-such-option",
    )),
    (resolver.main, ["CANARY"]),
    (resolver.main, ["--CANARY"]),
    (resolver.main, ["--here", "--python", "CANARY"]),
    (resolver.main, ["verify", "CANARY"]),
    *((resolver.main, [verb, "CANARY"]) for verb in VERBS),
    *((resolver.main, [verb, "--root", "CANARY"]) for verb in VERBS),
    (resolver.main, ["export", "--lock", "CANARY"]),
    (resolver.main, ["lock", "--upgrade", "CANARY", "--offline"]),
    (resolver.main, ["lock", "--root", ".", "--output", "/CANARY", "--offline"]),
    (resolver.main, ["coverage", "--offline", "--platform", "CANARY"]),
    (resolver.main, ["verify", "x.whl", "--timeout", "CANARY"]),
    (resolver.main, ["watch", "--snapshot", "CANARY"]),
    *((images_main, [verb, "CANARY"]) for verb in ("plan", "render", "engine", "CANARY")),
    *((images_main, [verb, "--root", "CANARY"]) for verb in ("plan", "lock", "render")),
    (matrix_main, ["check", "--matrix", "CANARY"]),
    (matrix_main, ["CANARY"]),
]  # fmt: skip


@pytest.mark.parametrize("canary", [WILD, TAME], ids=["wild", "tame"])
@pytest.mark.parametrize(("main", "argv"), ARGUMENTS, ids=lambda part: " ".join(part) if isinstance(part, list) else "")
def test_what_is_given_on_the_command_line_is_shown(
    main: Callable[[list[str]], int], argv: list[str], canary: str, capsys: Capture
) -> None:
    given_ = [word.replace("CANARY", canary.replace("/", "")) for word in argv]
    status, _, err = calls(lambda: main(given_), capsys)
    assert status != 0
    assert "wild" in err or "tame" in err or "No such file" in err or "usage" in err or "no such option" in err


@pytest.mark.parametrize("canary", [WILD, TAME, f"http://127.0.0.1:1/{WILD}"], ids=["wild", "tame", "in a URL"])
@pytest.mark.parametrize("name", ["GITHUB_API_URL", "GH_TOKEN", "WHEELWRIGHT_CACHE"])
def test_what_the_environment_holds_is_shown(
    name: str, canary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv(name, f"{tmp_path}/{canary}" if name == "WHEELWRIGHT_CACHE" else canary)
    assert calls(lambda: resolver.main(["--torch", "2.9", "--refresh"]), capsys)[0] in {2, 3}
    calls(lambda: resolver.main(["fetch", "--offline"]), capsys)


def upstream_rows(canary: str) -> list[dict[str, Any]]:
    """A list of releases with the canary in every field, and one valid wheel."""
    name = "flash_attn-2.8.4+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    right = {"name": name, "state": "uploaded", "digest": f"sha256:{'0' * 64}", "size": 1,
             "updated_at": "2026-08-01T00:00:00Z", "browser_download_url": f"https://127.0.0.1/{name}"}  # fmt: skip
    rows = [right] + [{**right, "name": f"{canary}-{key}.whl", key: canary} for key in right if key != "name"]
    rows += [{**right, "name": f"{canary}.whl"}, {**right, "name": name.replace("torch2.9", f"torch2.9{canary}")}]
    return [
        {"tag_name": tag, "assets": rows, "name": canary, "body": canary}
        for tag in (canary, f"v2.8.4{canary}", "v2.8.4")
    ]


@pytest.mark.parametrize("canary", [WILD, TAME], ids=["wild", "tame"])
@pytest.mark.parametrize(
    "argv",
    [["--torch", "2.9"], ["--torch", "2.9", "--explain"], ["--torch", "2.9", "--json"], ["snapshot", "--check"],
     ["watch"],
     ["--torch", "2.9", "--json", "--explain"], ["snapshot", "--check", "--json"], ["watch", "--json"], ["coverage"],
     ["lock", "--check", "--refresh"]],
    ids=" ".join,
)  # fmt: skip
def test_what_upstream_answers_is_inert(
    argv: list[str], canary: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", upstream.url)
    upstream.releases(1, upstream_rows(canary))
    more = [] if argv[0] in {"snapshot", "watch", "lock"} else ["--refresh"]
    status, out, _ = calls(lambda: resolver.main([*argv, *more]), capsys)
    assert status in {0, 1, 2}
    if "--json" in argv and out:
        json.loads(out)


def test_a_snapshot_with_a_canary_at_any_place(tmp_path: Path, capsys: Capture) -> None:
    data = json.loads(snapshot.SHIPPED.read_text(encoding="utf-8"))
    data["releases"] = [{**data["releases"][0], "assets": data["releases"][0]["assets"][:1]}]
    path = tmp_path / "snapshot.json"

    def read() -> int:
        snapshot.read(path)
        return 0

    for canary in (WILD, TAME):
        for at in places(data):
            path.write_text(json.dumps(with_text(data, at, canary)), encoding="utf-8")
            calls(read, capsys)
    for damaged in (
        b"\xff\xfe",
        b'{"schema": 1, "as_of": "\xed\xa0\x80"}',
        b"[" * 100_000,
        b'{"schema": ' + b"9" * 5000,
    ):
        path.write_bytes(damaged)
        assert calls(read, capsys)[0] == 2


def test_package_settings_are_shown(tmp_path: Path, capsys: Capture) -> None:
    for canary in (WILD, TAME):
        file = tmp_path / "uv.toml"
        file.write_text(f"index-url = {json.dumps(canary)}\nextra-index-url = [{json.dumps(canary)}]\n", "utf-8")
        pip = f"global.index-url={canary!r}\nglobal.find-links={canary!r}\nglobal.proxy={canary!r}\n"
        for uv_files in ([], [file]):
            found = read_host_settings({}, pip_config=lambda _, pip=pip: pip, uv_files=uv_files)  # type: ignore[misc]
            calls(lambda found=found: say(f"package settings: {found.describe()}") or 0, capsys)  # type: ignore[misc]


def test_the_page_of_the_coverage_holds_no_markup_of_others() -> None:
    catalogue = replace(shipped_catalogue(load_compat(DATA_DIR / "compat.yaml")), source=f"{WILD}{TAME}")
    page = render_html([], catalogue, TAME)
    before = render_html([], replace(catalogue, source="s"), "p")
    assert page.count("<") == before.count("<")
    assert not {char for char in page if char != "\n" and hidden(char)}


def test_an_error_is_one_line_and_its_remedy(capsys: Capture) -> None:
    error = DataError(f"a.yaml:1 {WILD}", remedy=f"remove {WILD}", said=[WILD, TAME])
    say_error(error)
    said = capsys.readouterr().err
    assert_inert(said)
    assert len(said.splitlines()) == 4
    assert len(str(WheelwrightError("x" * 10**6, remedy="y" * 10**6, said=["z" * 10**6] * 1000))) < 120_000


def test_tables_and_talk(capsys: Capture) -> None:
    columns = (Column("target", lambda row: row[0]), Column("why", lambda row: row[1]))
    tell(format_table(columns, [(WILD, TAME), (TAME, WILD)], 80))
    say(WILD)
    said = capsys.readouterr()
    assert_inert(said.out + said.err)
    assert len(said.err.splitlines()) == 1


def test_a_traceback_is_inert_too(tmp_path: Path) -> None:
    program = tmp_path / "defect.py"
    program.write_text(
        "import sys\nfrom matrix.cli import run\n"
        f"def main():\n    raise RuntimeError({WILD!r} + chr(10) + '::error::x')\nsys.exit(run(main))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert_inert(done.stderr)


def test_a_terminal_that_knows_ascii_only_gets_escapes() -> None:
    program = "from matrix.cli import run, tell\nrun(lambda: tell('Größe 你好') or 0)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "Gr\\xf6\\xdfe \\u4f60\\u597d\n")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["", "::", " ::", "\u3000::", "##[", "##vso[", "\x1b[2J", "\ud800"]))
def test_shown_is_inert_and_stays_what_it_is(text: str, before: str) -> None:
    once = shown(before + text)
    assert hidden(once) is None
    assert shown(once) == once
    lines = shown_lines(before + text)
    assert_inert(lines)
    assert shown_lines(lines) == lines


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=20) | st.integers(), max_size=3), max_size=3))
def test_json_is_ascii_and_says_the_same(value: Any) -> None:
    text = json_text(value)
    assert text.isascii()
    assert_inert(text)
    assert json.loads(text) == value


def test_plain_text_of_any_language_stays() -> None:
    for text in (
        "Größe, naïve, Ångström",
        "你好，世界",
        "日本語　全角",
        "한국어",
        "Ελληνικά",
        "עברית",
        "العربية",
        "हिन्दी",
        "🙂 µ €",
    ):
        assert shown_lines(text) == text


def test_nothing_is_printed_past_the_one_place() -> None:
    """``print`` and the streams are used by `matrix.cli`; by what draws a bar; by what runs in a container or before
    the environment is made."""
    allowed = {"matrix/cli.py", "wheel_resolver/fetching/progress.py", "images/inside.py", "images/venv.py"}
    found = set()
    for room in ("matrix", "wheel_resolver", "images"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                if name in {
                    "print",
                    "sys.stdout.write",
                    "sys.stderr.write",
                    "argparse.ArgumentParser",
                    "pprint.pprint",
                }:
                    found.add(str(path.relative_to(ROOT)))
    assert found <= allowed, found - allowed


def test_the_lock_reader_takes_no_invisible_reason(tmp_path: Path) -> None:
    for at in (("targets", "cpu", "reason"), ("targets", "a10g", "wheel", "tag")):
        write(tmp_path / "lock.yaml", with_text(LOCK, at, "a\u202eb"))
        with pytest.raises(DataError, match=r"lock\.yaml:\d+ .* holds \\u202e, a control character"):
            lock.read(tmp_path / "lock.yaml")
