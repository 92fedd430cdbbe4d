"""What must not be in an image: found inside, said by the smoke test, and in no lock."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from images import inside
from images.proving import check_forbidden
from images.results import Proof

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*(?:==|@)", re.MULTILINE)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("installed", [False, True])
def test_a_forbidden_package_is_found_inside(tmp_path: Path, installed: bool) -> None:
    if installed:
        (tmp_path / "kernels").mkdir()
        (tmp_path / "kernels" / "__init__.py").write_text("raise RuntimeError('it must not be imported to be found')")
    # As in an image, where the file is given to a Python that has nothing of ours.
    program = Path(inside.__file__).read_text(encoding="utf-8")
    code = program.replace('__name__ == "__main__":\n    main()', '__name__ == "__main__":\n    print(forbidden())')
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ("['kernels']" if installed else "[]")


def test_the_smoke_test_says_what_it_means_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    proof = Proof("cpu", "wheelwright:cpu", "log")
    check_forbidden(proof, [])
    assert [(check.name, check.ok) for check in proof.checks] == [("`kernels` is not importable", True)]
    check_forbidden(proof, ["kernels"])
    (failure,) = proof.failures
    assert "where flash-attn cannot serve, transformers would use an attention of kernels in silence" in failure.detail
    assert "take kernels, or what requires it, out of the app's requirements, then `make lock`" in failure.detail
    assert "FAIL `kernels` is not importable: it is" in capsys.readouterr().err


def test_no_lock_pins_a_forbidden_package() -> None:
    locks = sorted((ROOT / "dockerfiles" / "locks").rglob("*.txt"))
    pinned = {lock: {canonical(name) for name in PINNED.findall(lock.read_text(encoding="utf-8"))} for lock in locks}
    assert any("transformers" in names for names in pinned.values())  # they are read as they are written
    for lock, names in pinned.items():
        assert not names & {canonical(name) for name in inside.FORBIDDEN}, f"{lock}: make lock without it"
