"""``python -m wheel_resolver facts`` against a server that has PyTorch's index and flash-attention's tags."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from matrix import DATA_DIR, load_project
from matrix.cli import run
from matrix.compat_file import load_compat
from tests.resolver_http.conftest import Upstream
from tests.resolver_http.upstream_facts import (
    REPOSITORY,
    serve_tags,
    serve_torch,
    setup_py,
    table,
    torch_names,
    workflow,
)
from wheel_resolver import cli
from wheel_resolver.upkeep.recipes import NotUnderstoodError, read_recipe

COMPAT = load_project().compat
ROWS = COMPAT.data["flash_attn"]["recipes"]
BY_TAG = {tag: row for row in ROWS for tag in row["tags"]}


@dataclass
class Far:
    """The far end, a copy of the data, and the command."""

    upstream: Upstream
    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def file(self) -> Path:
        return self.root / "matrix" / "compat.yaml"

    def facts(self, *words: str, status: int) -> tuple[dict[str, Any], str]:
        assert run(lambda: cli.main(["facts", "--root", str(self.root), "--json", *words])) == status
        told = self.capsys.readouterr()
        return json.loads(told.out) if told.out else {}, told.err

    def added(self, *words: str) -> list[str]:
        """The lines that the difference adds, without the day."""
        report, _ = self.facts(*words, status=1)
        return [
            line[1:]
            for line in report["diff"].split("\n")
            if line.startswith("+") and not line.startswith(("+++", "+as_of"))
        ]


@pytest.fixture
def far(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Far:
    monkeypatch.setenv("GITHUB_API_URL", upstream.url)
    monkeypatch.setenv("WHEELWRIGHT_PYTORCH_WHEELS", f"{upstream.url}/whl")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    shutil.copytree(DATA_DIR, tmp_path / "root" / "matrix", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    serve_torch(upstream, torch_names(COMPAT))
    serve_tags(upstream, BY_TAG)
    return Far(upstream, tmp_path / "root", capsys)


def test_where_upstream_has_nothing_new_there_is_no_difference_and_nothing_is_written(far: Far) -> None:
    before = far.file.read_bytes()
    report, said = far.facts("--write", "--all-tags", status=0)
    assert (report["changed"], report["diff"]) == (False, "")
    assert far.file.read_bytes() == before
    assert "as upstream publishes" in said
    # Only what the index cannot tell is left: the inferred build of the newest torch.
    assert [text for text in report["by_hand"] if "2.15" not in text] == []


def test_known_tags_are_not_read_again_unless_asked(far: Far) -> None:
    far.facts(status=0)
    assert not [path for path, _ in far.upstream.asked if "/contents/" in path]


def test_a_new_patch_and_a_new_python(far: Far) -> None:
    wheel = "torch-2.15.1+cu132-cp{0}-cp{0}-manylinux_2_28_x86_64.whl"
    serve_torch(far.upstream, [*torch_names(COMPAT), *(wheel.format(python) for python in ("312", "316"))])
    added = far.added()
    assert '    patches: ["2.15.0", "2.15.1"]' in added
    assert '    python: ["3.11", "3.12", "3.13", "3.14", "3.14t", "3.15", "3.15t", "3.16"]' in added
    assert '      - {patch: "2.15.0", python: "3.16"}' in added
    assert '      - {patch: "2.15.1", python: "3.11"}' in added


def test_a_cuda_of_an_old_torch_that_no_release_note_names(far: Far) -> None:
    """What field reports showed of torch 2.9 for CUDA 12.9."""
    text = far.file.read_text(encoding="utf-8").replace('    cuda_unannounced: ["12.9"]\n', "", 1)
    far.file.write_text(text, encoding="utf-8")
    assert far.added() == ['    cuda_unannounced: ["12.9"]']


def test_a_release_of_torch_is_one_command_a_look_and_a_lock(far: Far) -> None:
    names = [
        f"torch-2.16.0+{cuda}-{python}-{python}-manylinux_2_28_{machine}.whl"
        for cuda in ("cu132", "cu134") for python in ("cp312", "cp315") for machine in ("x86_64", "aarch64")
    ]  # fmt: skip
    serve_torch(far.upstream, [*torch_names(COMPAT), *names])
    report, _ = far.facts("--write", status=0)
    assert report["written"]
    compat = load_compat(far.file)
    facts = compat.torch["2.16"]
    assert [str(cuda) for cuda in facts.cuda] == ["13.2", "13.4"]
    assert [str(python) for python in facts.python] == ["3.12", "3.15"]
    assert compat.as_of == "2027-01-15"
    by_hand = "\n".join(report["by_hand"])
    assert "torch 2.16 is new: its default_cuda, abi, triton and cxx are those of 2.15" in by_hand
    assert "torch 2.16 for CUDA 13.4 on linux_aarch64: torch_sass has no row" in by_hand
    assert 'abi: "TRUE"  # as of 2.15 (inferred)' in far.file.read_text(encoding="utf-8")
    for words in (["matrix", "check", "--matrix", str(far.root / "matrix" / "matrix.yaml")],
                  ["wheel_resolver", "lock", "--offline", "--root", str(far.root)]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=DATA_DIR.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert far.facts(status=0)[0]["changed"] is False


def test_a_build_that_is_gone_is_told_and_not_taken_away(far: Far) -> None:
    names = [name for name in torch_names(COMPAT) if not name.startswith("torch-2.8.0+cu129")]
    serve_torch(far.upstream, names)
    report, _ = far.facts(status=0)
    assert any("torch 2.8.0 for CUDA 12.9 on linux_x86_64 is not on the index" in text for text in report["by_hand"])


def test_a_build_that_is_said_not_to_exist_is_told(far: Far) -> None:
    serve_torch(far.upstream, [*torch_names(COMPAT), "torch-2.14.0+cu129-cp312-cp312-manylinux_2_28_x86_64.whl"])
    report, _ = far.facts(status=1)
    assert any(
        "torch 2.14.0 for CUDA 12.9 on linux_x86_64 is on the index, and said not" in text for text in report["by_hand"]
    )


def test_new_tags_join_the_last_recipe_or_make_a_new_one(far: Far) -> None:
    last = ROWS[-1]
    new = last | {"torch": last["torch"] | {"2.9.1": ["13.0"]}, "toolkits": ["13.0.1"], "runner": "ubuntu-24.04"}
    new["torch"] = {torch: [cudas[-1]] for torch, cudas in new["torch"].items()}
    serve_tags(far.upstream, BY_TAG | {"v2.8.3.post2": last, "v2.8.4": new, "v2.8.5": new})
    added = far.added()
    assert "    - tags: [v2.8.3, v2.8.3.post1, v2.8.3.post2]" in added
    assert "    - tags: [v2.8.4, v2.8.5]" in added
    assert '      toolkits: ["13.0.1"]' in added
    report, _ = far.facts(status=1)
    assert any("the glibc of ubuntu-24.04 is not in flash_attn.runners" in text for text in report["by_hand"])


def test_what_does_not_fit_is_not_written(far: Far) -> None:
    """The new recipe's runner has no glibc: ``matrix check`` would refuse the file."""
    before = far.file.read_bytes()
    serve_tags(far.upstream, BY_TAG | {"v2.8.4": ROWS[-1] | {"runner": "ubuntu-24.04"}})
    _, said = far.facts("--write", status=2)
    assert "does not fit" in said
    assert far.file.read_bytes() == before


def test_the_pages_of_each_cuda_are_asked_where_the_common_one_lists_none(far: Far) -> None:
    serve_torch(far.upstream, ["torch-2.9.1+cpu-cp312-cp312-manylinux_2_28_x86_64.whl"])
    for cuda in ("cu117", "cu118", "cu121", "cu124", "cu126", "cu128", "cu129", "cu130", "cu132"):
        serve_torch(far.upstream, [name for name in torch_names(COMPAT) if f"+{cuda}-" in name], f"/whl/{cuda}/torch/")
    del far.upstream.pages["/whl/cu117/torch/"]  # gone: 404
    report, _ = far.facts(status=0)
    assert any("torch 2.0.0 for CUDA 11.7 on linux_x86_64 is not on the index" in text for text in report["by_hand"])


def test_a_common_page_that_lost_builds_is_not_believed(far: Far) -> None:
    """As PyTorch's did in September 2025."""
    names = torch_names(COMPAT)
    serve_torch(far.upstream, [name for name in names if "+cu128-" not in name])
    serve_torch(far.upstream, [name for name in names if "+cu128-" in name], "/whl/cu128/torch/")
    report, _ = far.facts(status=0)
    assert [text for text in report["by_hand"] if "2.15" not in text] == []


def test_a_cuda_that_only_its_own_page_has_is_found(far: Far) -> None:
    serve_torch(far.upstream, ["torch-2.15.0+cu134-cp312-cp312-manylinux_2_28_x86_64.whl"], "/whl/cu134/torch/")
    assert '    cuda_unannounced: ["13.4"]' in far.added()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>please log in</html>", 3),
        (b'<a href="torch-2.9.1+cu128-cp312-cp312-manylinux_2_28_x86_64.whl&#10;evil: [x]">x</a>', 3),
        (b'<a href="' + b"a" * 3_000_000 + b'">', 3),
    ],
)
def test_a_hostile_page_changes_nothing(body: bytes, status: int, far: Far) -> None:
    far.upstream.pages["/whl/torch/"] = (200, {}, body)
    before = far.file.read_bytes()
    far.facts("--write", status=status)
    assert far.file.read_bytes() == before


def test_a_hostile_workflow_is_for_somebody_to_read(far: Far) -> None:
    row = ROWS[-1] | {"runner": "ubuntu-22.04]\n  evil: [x"}
    serve_tags(far.upstream, BY_TAG | {"v2.8.4": row})
    report, _ = far.facts(status=0)
    assert any("flash-attn v2.8.4" in text and "for somebody to read" in text for text in report["by_hand"])


def test_a_used_up_rate_limit_is_said(far: Far) -> None:
    for path in [path for path in far.upstream.pages if path.startswith(REPOSITORY)]:
        far.upstream.pages[path] = (403, {"X-RateLimit-Remaining": "0"}, b"{}")
    _, said = far.facts(status=3)
    assert "the rate limit is used up" in said


@pytest.mark.parametrize("tag", BY_TAG)
def test_every_recipe_of_ours_is_read_from_a_workflow_that_says_it(tag: str) -> None:
    row = BY_TAG[tag]
    recipe = read_recipe({"publish.yml": workflow(row, table(row, "below 12"))}, setup_py(row))
    assert {torch: list(cudas) for torch, cudas in recipe.torch.items()} == row["torch"]
    assert (list(recipe.python), list(recipe.toolkits), recipe.runner) == (
        row["python"],
        row["toolkits"],
        row["runner"],
    )
    assert (list(recipe.archs), recipe.compressed) == (row["archs"], row.get("compressed", False))


@pytest.mark.parametrize("form", ["clamped", "available"])
def test_the_other_forms_of_the_table(form: str) -> None:
    row = BY_TAG["v2.8.3"]
    files = {"publish.yml": workflow(row, table(row, form) if form == "clamped" else "")}
    if form == "available":
        files["_build.yml"] = table(row, form)
    assert {torch: list(cudas) for torch, cudas in read_recipe(files, setup_py(row)).torch.items()} == row["torch"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("torch-version", "torch-versions"), ("minv", "least"), ("'2.8'", "2.8"), ("129", "'x'"), ("129", "9" * 5000)],
)
def test_what_is_written_otherwise_is_not_understood(old: str, new: str) -> None:
    row = BY_TAG["v2.8.3"]
    text = workflow(row, table(row, "below 12"))
    assert old in text
    with pytest.raises(NotUnderstoodError):
        read_recipe({"publish.yml": text.replace(old, new)}, setup_py(row))
