"""The devel path: flash-attn compiled by the engine in a builder stage, for real, with a small extension as its source.

What is real: nvcc for CUDA 13, torch 2.13 for CUDA 13, its headers and its ABI, the builder and the runtime image.
What is not: flash-attn's own kernels, which take hours on a small machine.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from space import ROOT, Space

from images.engine import Engine
from matrix.seal import sealed

pytestmark = [pytest.mark.engine, pytest.mark.gpu_image]
SOURCE = Path(__file__).parent / "small_extension"
SDIST = "flash_attn-2.8.3.post2"


def pack_sdist(folder: Path) -> str:
    """Write the source archive; its sha256."""
    metadata = b"Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.8.3.post2\n"
    folder.mkdir()
    with tarfile.open(folder / f"{SDIST}.tar.gz", "w:gz") as archive:
        archive.add(SOURCE, SDIST)
        info = tarfile.TarInfo(f"{SDIST}/PKG-INFO")
        info.size = len(metadata)
        archive.addfile(info, io.BytesIO(metadata))
    return hashlib.sha256((folder / f"{SDIST}.tar.gz").read_bytes()).hexdigest()


def test_flash_attn_is_compiled_once_and_its_wheel_is_kept(engine: Engine, make_space: Callable[[str], Space]) -> None:
    space = make_space("")
    sha256 = pack_sdist(space.root / "sdists")
    lock = space.root / "matrix" / "lock.yaml"
    text = lock.read_text()
    locked = text.partition(f"sdist: {SDIST}.tar.gz")[2].partition("sha256: ")[2][:64]
    lock.write_text(sealed(text.replace(locked, sha256)))
    for path in (ROOT / "dockerfiles/locks").glob("*"):  # the locks are the committed ones
        assert (space.root / "dockerfiles/locks" / path.name).exists()
    assert space.images("render").status == 0
    cache = space.root / "cache"
    settings = {"WHEELWRIGHT_CACHE": str(cache), "UV_FIND_LINKS": str(space.root / "sdists")}

    answer = space.images("build", "devel", "--smoke", "--json", **settings)
    (target,) = answer.json["targets"]
    assert answer.status == 0, answer.out
    checks = {check["name"]: check["ok"] for check in target["smoke"]["checks"]}
    assert target["smoke"]["verdict"] == "passed, unproven on GPU"
    assert checks["flash_attn_2_cuda imports"]
    assert checks["flash-attn is the lock's"]
    (wheel,) = cache.glob("compiled/*/flash_attn-2.8.3.post2-cp313-cp313-linux_x86_64.whl")
    compiled = (space.root / ".build/logs/devel.build.compile.log").read_text()
    assert "arch=compute_90,code=sm_90" in compiled
    print(f"{target['weight']}, built in {target['seconds']} s")

    # Once a recipe: another build takes the wheel that was kept; one that was damaged since is not used.
    (space.root / ".build/logs/devel.build.compile.log").unlink()
    again = space.images("build", "devel", "--json", **settings)
    assert again.status == 0
    assert not (space.root / ".build/logs/devel.build.compile.log").exists()
    wheel.write_bytes(b"damaged")
    shutil.rmtree(space.root / ".build" / "contexts" / f"{target['target']}", ignore_errors=True)
    third = space.images("build", "devel", "--json", **settings)
    assert third.status == 0
    assert "not what was compiled: set aside" in third.err
    assert wheel.is_file()
    assert wheel.read_bytes() != b"damaged"
