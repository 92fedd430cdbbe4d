"""The loader: the real data is right, and every mistake is an error with file, line, key path and remedy."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix import DATA_DIR, Cuda, Driver, load_project
from matrix.__main__ import main
from matrix.compat_file import load_compat
from matrix.document import read_document
from matrix.errors import DataError, ExitCode
from matrix.known_broken import load_known_broken

MATRIX = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8")


def error_of(tmp_path: Path, text: str | bytes) -> DataError:
    path = tmp_path / "matrix.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        load_project(path)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


def line_of(text: str, needle: str) -> int:
    return text[: text.index(needle)].count("\n") + 1


def test_the_real_matrix() -> None:
    project = load_project()
    targets = project.matrix.targets
    assert [(name, target.tier) for name, target in targets.items()] == [
        ("a10g", "default"),
        ("t4", "default"),
        ("h100", "extra"),
        ("cpu", "default"),
        ("devel", "source"),
    ]
    assert targets["a10g"].stack == targets["t4"].stack == targets["h100"].stack == "py3.12-torch2.9.1-cu128"
    assert targets["cpu"].stack == "py3.11-torch2.13.0-cpu"
    assert [cell.gpu for cell in targets["a10g"].cells(project.compat)] == ["A10G", "A100", "L4"]
    assert [cell.arch for cell in targets["cpu"].cells(project.compat)] == [None]
    assert project.matrix.aliases == {"latest": "a10g"}


def test_the_real_facts() -> None:
    compat = load_project().compat
    assert compat.driver_floor(Cuda.parse("12.8")) == Driver(525, 60, 13)
    assert compat.driver_floor(Cuda.parse("cpu")) is None
    assert compat.origins["pytorch_wheels"] == "https://download.pytorch.org/whl"
    assert str(compat.bases.bootstrap["bookworm"]) == "3.11"
    assert compat.bases.registry[0].image == "python:{python}-slim-bookworm"
    # What is compiled in a builder must load in the oldest runtime base: its glibc may not be newer.
    oldest = min(base.glibc for base in compat.bases.registry)
    assert all(base.glibc <= oldest for base in compat.bases.cuda_devel.values())


def test_every_gpu_name_and_every_build_is_consistent() -> None:
    compat = load_project().compat
    for facts in compat.torch.values():
        assert facts.default_cuda in facts.cuda, facts.minor
        for cuda in facts.cuda:
            assert compat.ships(facts.patches[-1], cuda, "linux_x86_64"), (facts.minor, str(cuda))


MISTAKES = [
    ("unknown key", "    tier: default\n", "    teir: default\n", "targets.a10g.teir", "perhaps you meant 'tier'"),
    ("unknown tier", "    tier: default\n", "    tier: defualt\n", "targets.a10g.tier", "perhaps you meant 'default'"),
    ("3.10 is 3.1", 'python: ["3.10"', "python: [3.10", "axes.python[0]", "read as the number 3.1"),
    ("2.10 is 2.1", '"2.10"', "2.10", "axes.torch[4]", "2.10 without quotes is read as the number 2.1"),
    ("TRUE is a boolean", "abi: [derived]", "abi: [TRUE]", "axes.abi[0]", "without quotes is read as true or false"),
    ("a date", '"2.9.1"', "2026-08-15", "targets.a10g.torch", "without quotes is read as a timestamp"),
    ("wrong type", "    gpus: [T4]\n", "    gpus: T4\n", "targets.t4.gpus", "must be a list"),
    ("a mapping wanted", "aliases:\n  latest: a10g\n", "aliases: a10g\n", "aliases", "must be a mapping"),
    ("null", "    tier: default\n", "    tier:\n", "targets.a10g.tier", "nothing (null)"),
    ("missing key", "    tier: default\n", "", "targets.a10g", "the key 'tier' is missing"),
    ("unknown gpu", "    gpus: [T4]\n", "    gpus: [T5]\n", "targets.t4.gpus[0]", "not known to compat.yaml"),
    ("unknown torch", '"2.15"]', '"2.99"]', "axes.torch[9]", "not known to compat.yaml"),
    ("unknown patch", '"2.9.1"', '"2.9.7"', "targets.a10g.torch", "not known to compat.yaml"),
    ("unknown python", '"3.14"]', '"3.99"]', "axes.python[4]", "not known to compat.yaml"),
    ("twice", 'gpu: [T4,', "gpu: [T4, T4,", "axes.gpu[1]", "stands here twice"),
    ("no such build", 'cuda: "12.8"', 'cuda: "12.4"', "targets.a10g.cuda", "torch 2.9.1 has no CUDA 12.4 build"),
    ("no such Python", 'python: "3.13"', 'python: "3.9"', "targets.devel.python", "was not released for Python 3.9"),
    ("no torch has it", '"13.2", cpu]', '"12.1", cpu]', "axes.cuda[4]", "no torch of this matrix has a CUDA 12.1"),
    ("gpu without code", 'cuda: "12.8"\n    platform: linux_x86_64\n    gpus: [T4]',
     'cuda: "12.8"\n    platform: linux_aarch64\n    gpus: [T4]', "targets.t4.gpus[0]", "has no code for T4 (sm_75)"),
    ("cpu with a gpu", "    gpus: []\n", "    gpus: [T4]\n", "targets.cpu.gpus", "a cpu target runs on no GPU"),
    ("stale exclusion", 'torch: "2.15", cuda: "13.0"', 'torch: "2.15", cuda: "12.8"', "exclude[0].match", "no cell"),
    ("empty exclusion", '{torch: "2.15", cuda: "13.0"}', "{}", "exclude[0].match", "would leave out every cell"),
    ("excluded", 'torch: "2.15", cuda: "13.0"', 'torch: "2.15", cuda: "13.9"', "exclude[0].match.cuda", "known"),
    ("no such level", "zstd, level: 3}", "gzip, level: 12}", "export.level", "gzip has no level 12"),
    ("alias to nothing", "latest: a10g", "latest: a10h", "aliases.latest", "perhaps you meant 'a10g'"),
    ("alias of a target", "latest: a10g", "t4: a10g", "aliases.t4", "already the name of a target"),
    ("target name", "  a10g:\n", "  A10G!:\n", "targets.A10G!", "is not a name"),
    ("source build", 'torch: "2.13.0"\n    cuda: "13.0"', 'torch: "2.14.1"\n    cuda: "13.0"',
     "targets.devel.source_build", "no released flash-attn source builds"),
    ("specifier", '">=2.8.0.post2"', '">=2.8.0.post2,=="', "targets.a10g.flash_attn", "version specifier"),
    ("devel without source", "    base: devel\n", "    base: slim\n", "targets.devel.source_build", "base: devel"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "bad", "keys", "words"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES]
)
def test_a_mistake_names_file_line_key_and_reason(tmp_path: Path, right: str, bad: str, keys: str, words: str) -> None:
    assert right in MATRIX
    message = str(error_of(tmp_path, MATRIX.replace(right, bad, 1)))
    head, _, _ = message.partition(": ")
    assert re.fullmatch(r"\S*matrix\.yaml:\d+ " + re.escape(keys), head), message
    assert words in message


def test_the_line_is_that_of_the_mistake(tmp_path: Path) -> None:
    text = MATRIX.replace("latest: a10g", "latest: a10h")
    assert f"matrix.yaml:{line_of(text, 'latest: a10h')} aliases.latest" in str(error_of(tmp_path, text))


def test_the_quoted_form_is_shown(tmp_path: Path) -> None:
    error = error_of(tmp_path, MATRIX.replace('python: ["3.10"', "python: [3.10"))
    assert error.remedy == 'write "3.10", with the quotes'


def test_a_duplicate_key_names_both_lines(tmp_path: Path) -> None:
    message = str(error_of(tmp_path, MATRIX.replace("    tier: extra\n", "    tier: extra\n    tier: source\n")))
    assert re.search(r"matrix\.yaml:\d+ targets\.h100\.tier: the key stands here twice \(first on line \d+\)", message)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("schema: 1\n\taxes: {}\n", ":2 there is a tab in column 1"),
        ("schema: [1\n", "not valid YAML"),
        ("a: &x 1\nb: *x\n", ":1 an anchor (&x)"),
        ("a: *nothing\n", ":1 an alias (*nothing)"),
        ("--- 1\n--- 2\n", "not valid YAML"),
        ("- 1\n", "must be a mapping"),
        ("2.9: x\n", "2.9 without quotes is read as the number 2.9"),
        ("? [a]\n: b\n", "must be a key, and is a list"),
        ("schema: !!int x\n", ":1 a tag (tag:yaml.org,2002:int) is not allowed"),
        ("schema: 2\n", "must be a whole number from 1 to 1"),
        ("schema: .nan\n", "must be a whole number"),
        ("schema: !!python/object:os.system {}\n", ":1 a tag (tag:yaml.org,2002:python/object:os.system)"),
        ("a: " + "[" * 100_000 + "]" * 100_000, ":1 nested deeper than 50 levels"),
        ("- " * 100_000 + "x", ":1 nested deeper than 50 levels"),
        ("? " * 100_000 + "x", ":1 nested deeper than 50 levels"),
        (b"schema: 1 # caf\xe9\n", ":1 byte 15 is not UTF-8"),
        (b"x" * 1_000_001, "larger than"),
    ],
)
def test_what_is_no_matrix_at_all(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in str(error_of(tmp_path, text))


def test_a_control_character_has_its_line(tmp_path: Path) -> None:
    assert "matrix.yaml:2 character" in str(error_of(tmp_path, "schema: 1\na: \x07\n"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_text_makes_a_traceback(data: st.DataObject) -> None:
    """Cut and scribbled matrices are read, or refused by a DataError; never anything else."""
    start = data.draw(st.integers(0, len(MATRIX)))
    end = data.draw(st.integers(start, min(len(MATRIX), start + 40)))
    scribble = data.draw(
        st.one_of(st.text(max_size=12), st.sampled_from(["!!int x", "<<: {}", "? ", "- ", "|", '"', "{[", "%"]))
    )
    text = MATRIX[:start] + scribble + MATRIX[end:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(DataError):
            load_project(path)


def test_a_merge_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "an anchor (&a0) is not allowed" in str(error_of(tmp_path, "\n".join(rows)))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.yaml: cannot be read: No such file"):
        load_project(tmp_path / "absent.yaml")


def test_a_gpu_may_be_written_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(MATRIX.replace("    gpus: [T4]\n", "    gpus: [t4]\n"))
    assert load_project(path).matrix.targets["t4"].gpus == ("T4",)


@pytest.mark.parametrize(
    ("match", "words"), [("{}", "would condemn every wheel"), ('{torch: "=>2"}', "is not a version specifier")]
)
def test_known_broken_mistakes(tmp_path: Path, match: str, words: str) -> None:
    path = tmp_path / "known_broken.yaml"
    path.write_text(f"schema: 1\nknown_broken:\n  - {{match: {match}, because: b, workaround: w, source: s}}\n")
    with pytest.raises(DataError, match=words):
        load_known_broken(path)


@pytest.mark.parametrize(
    ("right", "bad", "said"),
    [
        ('T4: {arch: "7.5"', "T4: {arch: 7.5", r"gpus\.T4\.arch: 7\.5 without quotes"),
        ('driver: "410.78"', "driver: 410.78", r"gpus\.T4\.driver: 410\.78 without quotes"),
        ('driver: "410.78"', 'driver: "new"', r"gpus\.T4\.driver: 'new' is not"),
        ('{"2.0.1": ["11.7", "11.8"]', '{"2.0.1": ["11.7"]', r"recipes\[0\]\.torch\.2\.0\.1: names 1 builds of torch"),
        ("tags: [v2.8.1]\n      runner: ubuntu-22.04", "tags: [v2.8.1]\n      runner: arch", r"recipes\[11\]\.runner"),
    ],
)
def test_compat_mistakes_have_lines(tmp_path: Path, right: str, bad: str, said: str) -> None:
    path = tmp_path / "compat.yaml"
    text = (DATA_DIR / "compat.yaml").read_text()
    assert right in text
    path.write_text(text.replace(right, bad, 1))
    line = line_of(path.read_text(), bad) + bad.count("\n")
    with pytest.raises(DataError, match=rf"compat\.yaml:{line} \S*{said}"):
        load_compat(path)


def test_the_check_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert "5 targets" in capsys.readouterr().out
    assert main(["check", "--json"]) == 0
    assert '"stack": "py3.11-torch2.13.0-cpu"' in capsys.readouterr().out


def test_the_documentation_lists_every_target() -> None:
    text = (DATA_DIR.parent / "docs" / "matrix.md").read_text(encoding="utf-8")
    for target in load_project().matrix.targets.values():
        gpus = ", ".join(target.gpus) or "none"
        row = f"| `{target.name}` | {target.tier} | {target.stack} | {gpus} | {target.attention.value} |"
        assert row in text


@pytest.mark.parametrize("before", ["", " ", "[", "{", ",", ":", "?", '"k":', "!!str ", "- ", "\n  "])
def test_an_anchor_is_seen_wherever_a_node_may_begin(tmp_path: Path, before: str) -> None:
    """PyYAML decides what is an anchor or an alias; none of them gets past the reader."""
    path = tmp_path / "anchored.yaml"
    for shape in ("b: {}&x 1", "b: [{}&x 1]", "b: [1,{}&x 2]", '{{"a"{}&x 1}}', "- {}&x 1", "b: {}*x"):
        path.write_text(text := shape.format(before))
        try:
            found = any(getattr(event, "anchor", None) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        except yaml.YAMLError:
            continue
        if found:
            with pytest.raises(DataError, match=r":\d+ (an anchor \(&|an alias \(\*|a tag)"):
                read_document(path)
