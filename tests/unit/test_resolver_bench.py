"""The right answers that the documentation claims, and that the benchmark measures what it says (no times here)."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import bench_resolver
import comparison
import github_list
import guess
import pytest
import rival_child
import rivals
import sdist_guess
import synthetic
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from matrix import DATA_DIR, Abi, Arch, Cell, Cuda, PythonVersion, load_project
from matrix.errors import DataError, NetworkError

COMPAT = load_project().compat
DOCS = (DATA_DIR.parent / "docs" / "resolver.md").read_text(encoding="utf-8")
CELL = Cell(PythonVersion(3, 12), Version("2.9.1"), Cuda(13, 0), Abi.TRUE, Arch(8, 0), "A100", "linux_x86_64")

SETUP = """
import torch
from torch.utils.cpp_extension import CUDA_HOME

PACKAGE_NAME = "flash_attn"
BASE_WHEEL_URL = (
    "https://github.com/Dao-AILab/flash-attention/releases/download/{tag_name}/{wheel_name}"
)
raise SystemExit("what else the file does must not run")


def get_platform():
    if sys.platform.startswith("linux"):
        return f'linux_{platform.uname().machine}'
    raise ValueError("Unsupported platform: {}".format(sys.platform))


def get_package_version():
    with open(Path(this_dir) / "flash_attn" / "__init__.py", "r") as f:
        version_match = re.search(r"^__version__\\s*=\\s*(.*)$", f.read(), re.MULTILINE)
    public_version = ast.literal_eval(version_match.group(1))
    local_version = os.environ.get("FLASH_ATTN_LOCAL_VERSION")
    return f"{public_version}+{local_version}" if local_version else str(public_version)


def get_wheel_url():
    cuda = parse(torch.version.cuda)
    torch_version = parse(torch.__version__)
    version = get_package_version()
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    abi = str(torch._C._GLIBCXX_USE_CXX11_ABI).upper()
    name = f"{PACKAGE_NAME}-{version}+cu{cuda.major}torch{torch_version.major}.{torch_version.minor}cxx11abi{abi}"
    name = f"{name}-{tag}-{tag}-{get_platform()}.whl"
    return BASE_WHEEL_URL.format(tag_name=f"v{version}", wheel_name=name), name
"""


def test_the_documentation_has_our_answers_and_the_guesses() -> None:
    index = guess.shipped()
    cells = guess.official_cells(COMPAT)
    for line in guess.table(guess.offline_rows(cells, index), cells, index).splitlines():
        assert line in DOCS  # what the other tools answer is not known without the package index
    assert guess.answers_table() in DOCS


def test_the_cells_begin_with_torch_2_4() -> None:
    assert min(cell.torch for cell in guess.official_cells(COMPAT)) >= Version("2.4")


def test_ours_is_never_wrong_and_never_compiles_unasked() -> None:
    index = guess.shipped()
    cells = guess.official_cells(COMPAT)
    found = guess.score(cells, guess.our_row(cells, index).answers, index)
    assert found.right > 0
    assert (found.wrong, found.source_build, found.right + found.none) == (0, 0, len(cells))


@pytest.mark.parametrize(("version", "cuda"), [("2.8.3", 12), ("2.8.3.post1", 13), ("2.8.3.post2", 13)])
def test_the_copied_guess(version: str, cuda: int) -> None:
    name = f"flash_attn-{version}+cu{cuda}torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    assert guess.guessed(CELL, version) == (f"v{version}", name)


def test_each_answer_is_judged() -> None:
    index = guess.shipped()
    cell = next(cell for cell in guess.official_cells(COMPAT) if index.best(cell))
    fits = index.fitting(cell)[0].filename
    other = next(
        wheel.filename for wheel in index.wheels if wheel.filename not in {w.filename for w in index.fitting(cell)}
    )
    answers = [
        guess.Answer(fits),
        guess.Answer(other),
        guess.Answer("no.whl"),
        guess.Answer(None, builds=True),
        guess.Answer(None),
    ]
    assert guess.score([cell] * 5, answers, index) == guess.Score(1, 2, 1, 1, unlisted=1)


def test_pip_takes_what_is_there_compiles_else_and_refuses_another_python() -> None:
    known, newer = ("v1", "a.whl"), SpecifierSet(">=3.13")
    assert guess.pip_answer(CELL, known, SpecifierSet(">=3.9"), {known}) == guess.Answer("a.whl")
    assert guess.pip_answer(CELL, ("v1", "b.whl"), SpecifierSet(""), {known}) == guess.Answer(None, builds=True)
    assert guess.pip_answer(CELL, known, newer, {known}) == guess.Answer(None)


def pack(folder: Path, version: str, setup: str) -> Path:
    """An sdist as far as the guess reads it."""
    path = folder / f"flash_attn-{version}.tar.gz"
    files = {
        "PKG-INFO": "Metadata-Version: 2.4\nName: flash_attn\nRequires-Python: >=3.9\n",
        "setup.py": setup,
        "flash_attn/__init__.py": f'__version__ = "{version}"\n',
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"flash_attn-{version}/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_the_guess_is_made_by_the_code_of_the_sdist(tmp_path: Path) -> None:
    setup = sdist_guess.read_sdist(pack(tmp_path, "2.8.9", SETUP), Version("2.8.9"))
    name = "flash_attn-2.8.9+cu13torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    assert setup.guess(CELL) == ("v2.8.9", name)
    assert setup.requires_python == SpecifierSet(">=3.9")


def test_code_that_needs_more_than_is_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="CUDA_HOME"):
        sdist_guess.take_out("def get_wheel_url():\n    return CUDA_HOME\n")
    with pytest.raises(DataError, match="get_wheel_url"):
        sdist_guess.take_out("")
    with pytest.raises(DataError, match=r"it holds no flash_attn-2\.8\.8/"):
        sdist_guess.read_sdist(pack(tmp_path, "2.8.9", SETUP), Version("2.8.8"))


def test_an_sdist_that_cannot_be_had_is_a_row_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_: object) -> Path:
        raise NetworkError("no index")

    monkeypatch.setattr(comparison, "get_sdist", lacking)
    index = guess.shipped()
    rows = comparison.sdist_rows([CELL], index)
    assert [row.why for row in rows] == ["no index"] * 3
    shown = comparison.Comparison([CELL], rows, index)
    assert "| the URL guessed by 2.8.3 | not run | | | |" in shown.show()
    assert "the URL guessed by 2.8.3: not run: no index" in shown.show()
    assert shown.as_data()["rows"][0] == {"name": "the URL guessed by 2.8.3", "not_run": "no index", "notes": ()}


def test_the_wire_lists_as_github_does_and_notes_the_rest() -> None:
    listed = github_list.releases()
    wire = rival_child.Wire("o/r", listed)
    root = "https://api.github.com/repos/o/r/releases"
    assert wire.answer(f"{root}?per_page=3")[1].count(b'"tag_name"') == 3
    assert wire.answer(f"{root}/tags/{listed[1]['tag_name']}")[0] == 200
    assert wire.answer(f"{root}/tags/v0")[0] == 404
    for refused in ("https://api.github.com/repos/other/r/releases", "https://example.com/registry.toml"):
        with pytest.raises(ConnectionError):
            wire.answer(refused)
    assert wire.refused == {"api.github.com/repos/other/r/releases", "example.com/registry.toml"}
    assert wire.first == 3


DETECTOR = """import platform, sys
def url():
    import torch
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    abi = torch._C._GLIBCXX_USE_CXX11_ABI
    return f"https://x.test/a%2Bcu{torch.version.cuda}torch{torch.__version__}{abi}-{python}-{platform.machine()}.whl"
"""


def fake_tool(folder: Path, cli: str) -> Path:
    """A folder as `install` leaves it, with a tool that answers like mlwheels."""
    package = folder / "mlwheels"
    package.mkdir()
    for name, text in {"__init__": "", "detector": DETECTOR, "cli": cli}.items():
        (package / f"{name}.py").write_text(text)
    return folder


def test_a_tool_sees_the_cell_and_nothing_of_this_machine(tmp_path: Path) -> None:
    cli = "from mlwheels import detector\ndef main():\n    print(detector.url())\n    return 0\n"
    [tool] = [each for each in rivals.all_rivals("2.8.3") if each.tool == "mlwheels"]
    row = rivals.ask(tool, "it", fake_tool(tmp_path, cli), [CELL], "2.8.3")
    assert row == guess.Row("it", [guess.Answer("a+cu13.0torch2.9.1+cu130True-cp312-x86_64.whl")])


@pytest.mark.parametrize(
    ("cli", "why"),
    [
        ("raise ImportError('no such thing')", "ended with status 1: ImportError: no such thing"),
        ("import packaging", "ended with status 1: ModuleNotFoundError: No module named 'packaging'"),
        ("print('hello')\ndef main():\n    return 1", "Expecting value"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "no network in this comparison"),
    ],
)
def test_a_tool_that_fails_is_a_row_that_says_why(
    cli: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = rivals.Rival("mlwheels", "0", "it")
    monkeypatch.setattr(rivals, "install", lambda _: fake_tool(tmp_path, cli))
    [row] = rivals.ask_rivals([tool], [CELL], "2.8.3")
    assert row.answers == ()
    assert why in row.why


def test_the_synthetic_data_are_what_the_benchmark_says() -> None:
    wheels = synthetic.wheels(COMPAT, 500)
    assert len({wheel.filename for wheel in wheels}) == 500
    known = synthetic.all_cells(COMPAT)
    assert len(set(known)) == len(known) > 30_000
    assert list(synthetic.cells(COMPAT, 10)) == list(synthetic.cells(COMPAT, 10))
    assert len(list(synthetic.cells(COMPAT, len(known) + 1))) == len(known) + 1


def test_the_benchmark_answers_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_resolver, "WHEELS", 2000)
    row = bench_resolver.answer_many(50)
    assert (row["cells"], row["wheels"]) == (50, 2000)
    assert 0 < row["matched"] < 50
