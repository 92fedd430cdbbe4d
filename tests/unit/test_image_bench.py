"""The pure parts of `make bench-images`, and that the documentation shows what its figures say (no times here)."""

from __future__ import annotations

import configparser
import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import bench_images
import image_figures
import oci_archive
import pytest
import straightforward
import zstandard
from image_figures import Figures, Result
from oci_archive import Layer

from images.hostsettings import HostSettings
from images.requirement_files import Pin
from matrix import PythonVersion

OURS = Figures("ours", "zstd", {"gzip": 120_000_000, "zstd": 100_000_000}, 300_000_000, 6, 2_500, 7_000, 60, 2, 1, 3)
THEIRS = replace(OURS, name="theirs", own="gzip", changed=118_000_000)
RESULT = Result("py3.11-torch2.13.0-cpu", "2 cores", (OURS, THEIRS))


def tarred(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def make_archive(path: Path, layers: list[tuple[str, bytes]], *, attested: bool = False) -> list[str]:
    """An OCI archive of these (media type, packed bytes); the digests of its layers."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content), **more}

    rows = [blob(content, mediaType=f"application/vnd.oci.image.layer.v1.{kind}") for kind, content in layers]
    image = blob(json.dumps({"layers": rows}).encode(), platform={"os": "linux"})
    if attested:
        image = blob(json.dumps({"manifests": [image, blob(b"{}", platform={"os": "unknown"})]}).encode())
    path.write_bytes(tarred({**blobs, "index.json": json.dumps({"manifests": [image]}).encode()}))
    return [row["digest"] for row in rows]


@pytest.mark.parametrize("attested", [False, True])
def test_the_layers_of_an_archive_are_read_and_unpacked(tmp_path: Path, attested: bool) -> None:
    low, high = tarred({"a": b"x" * 5_000_000, "b": b"old"}), tarred({"b": b"new"})
    packed = [("tar+gzip", gzip.compress(low)), ("tar+zstd", zstandard.compress(high))]
    digests = make_archive(tmp_path / "image.tar", packed, attested=attested)
    layers = oci_archive.read_layers(tmp_path / "image.tar")
    assert [(layer.digest, layer.packed) for layer in layers] == [
        (digest, len(content)) for digest, (_, content) in zip(digests, packed, strict=True)
    ]
    assert oci_archive.compression(layers) == "gzip"  # 5 MB of one byte; the other layer is a tar of one small file
    (tmp_path / "root").mkdir()
    assert oci_archive.unpack(tmp_path / "image.tar", tmp_path / "root").size == len(low) + len(high)
    assert (tmp_path / "root" / "a").stat().st_size == 5_000_000
    assert (tmp_path / "root" / "b").read_bytes() == b"new"
    assert oci_archive.repacked(tmp_path / "image.tar", "gzip") == pytest.approx(len(gzip.compress(low, 6)), rel=0.2)
    assert oci_archive.repacked(tmp_path / "image.tar", "zstd") < 1000


def test_a_layer_that_cannot_be_unpacked_is_an_error(tmp_path: Path) -> None:
    make_archive(tmp_path / "image.tar", [("tar+gzip", gzip.compress(b"no tar" * 1000))])
    with pytest.raises(ValueError, match="tar ended with 2"):
        oci_archive.unpack(tmp_path / "image.tar", tmp_path)


def test_what_an_image_adds_is_what_the_other_does_not_have() -> None:
    base, mine, yours = (Layer(name, size, "") for name, size in (("base", 100), ("mine", 20), ("yours", 3)))
    assert oci_archive.added([base, mine], [base, yours]) == 20
    assert oci_archive.added([base], [base, yours]) == 0


def test_the_code_is_copied_before_the_install_or_after_it() -> None:
    def steps(**how: bool) -> list[str]:
        lines = straightforward.dockerfile("python:3.11-slim", **how).splitlines()
        return [line.split()[0] + (" ." if line == "COPY . ." else "") for line in lines if not line.startswith(" ")]

    assert steps() == ["FROM", "WORKDIR", "COPY .", "RUN", "EXPOSE", "CMD"]
    assert steps(requirements_first=True) == ["FROM", "WORKDIR", "COPY", "RUN", "COPY .", "EXPOSE", "CMD"]
    assert steps(devel=True) == ["FROM", "RUN", "WORKDIR", "COPY .", "RUN", "EXPOSE", "CMD"]


def test_every_big_step_carries_the_mark_by_which_its_cache_is_removed() -> None:
    text = straightforward.dockerfile("python:3.11-slim", devel=True).replace("\\\n", "")
    commands = [line.rpartition("--mount=")[2] for line in text.splitlines() if line.startswith("RUN")]
    assert len(commands) == 2
    assert all(straightforward.MARK in command for command in commands)


def test_only_the_marked_records_and_what_is_built_on_them_are_removed_from_the_build_cache() -> None:
    def record(name: str, parent: str, hour: int, description: str) -> str:
        above = f"Parent:\t\t{parent}\n" if parent else ""
        return f"ID:\t\t{name}\n{above}Created at:\t2026-01-01 {hour:02}:00:00 UTC\nDescription:\t{description}\n"

    listed = [
        record("code*", "install", 3, "[5/5] COPY . ."),
        record("install", "workdir", 2, f"mount / from exec /bin/sh -c PYTHONPATH={straightforward.MARK}/pip python3"),
        record("workdir", "", 1, "[2/5] WORKDIR /app"),
        record("another", "workdir", 4, "mount / from exec /bin/sh -c python3 -m pip install -r requirements.txt"),
    ]
    assert straightforward.marked("\n".join(listed) + "Reclaimable:\t1GB\n") == ["code", "install"]


def test_the_same_versions_without_hashes() -> None:
    pins = [Pin("torch", "2.13.0+cpu", ("ab",)), Pin("numpy", "2.4.6", ("cd", "ef"))]
    assert (
        straightforward.requirements(pins, "flash-attn==2.8.3")
        == "numpy==2.4.6\ntorch==2.13.0+cpu\nflash-attn==2.8.3\n"
    )


def test_pip_gets_what_a_build_can_reach() -> None:
    settings = HostSettings(
        index="https://index.example/simple",
        extra_indexes=("file:///srv/simple", "https://more.example/simple"),
        find_links=("/srv/wheels",),
        ca_bundle=Path("/etc/ssl/ca.pem"),
    )
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(straightforward.pip_conf(settings, ["https://torch.example/cpu"]))
    conf = dict(parsed["global"])
    assert conf["index-url"] == "https://index.example/simple"
    assert conf["extra-index-url"] == "https://more.example/simple https://torch.example/cpu"
    assert conf["find-links"] == f"{straightforward.MARK}/wheels"
    assert conf["cert"] == "/run/secrets/ca"
    assert "proxy" not in conf


def test_the_stand_in_is_a_wheel_of_a_megabyte_and_the_same_each_time(tmp_path: Path) -> None:
    wheel = bench_images.stand_in(tmp_path, PythonVersion(3, 11))
    first = wheel.read_bytes()
    assert wheel.name == "flash_attn-2.8.3-cp311-cp311-linux_x86_64.whl"
    assert bench_images.STAND_IN_BYTES < len(first) < 1.01 * bench_images.STAND_IN_BYTES
    assert bench_images.stand_in(tmp_path, PythonVersion(3, 11)).read_bytes() == first


def test_the_table_has_a_row_a_measure() -> None:
    header, _, *rows = image_figures.table(RESULT).splitlines()
    assert header == "| `py3.11-torch2.13.0-cpu` | ours (zstd) | theirs (gzip) |"
    assert len(rows) == len(image_figures.MEASURES)
    assert "| packed as built, MB | 100 | 120 |" in rows
    assert "| exported anew after that change, MB | 0.0025 | 118 |" in rows
    assert "| layers | 6 | 6 |" in rows


def test_the_plot_is_to_scale_and_follows_the_colour_scheme() -> None:
    text = image_figures.plot(RESULT)
    tree = ET.fromstring(text)
    bars = list(tree.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(bars) == 2 * len(image_figures.MEASURES)
    ours, theirs = (float(bar.get("width", 0)) for bar in bars[:2])
    assert ours / theirs == pytest.approx(100 / 120, abs=0.01)
    assert "prefers-color-scheme:dark" in text
    assert image_figures.plot(Result.from_json(json.loads(json.dumps(RESULT.to_json())))) == text


def test_only_the_stacks_own_block_is_replaced() -> None:
    page = "before\n<!-- bench-images cpu: begin (make bench-images) -->\nold\n<!-- bench-images cpu: end -->\nafter\n"
    once = image_figures.replace_block(page, "cpu", "new")
    assert once == page.replace("old", "new")
    both = image_figures.replace_block(once, "cu130", "more")
    assert both.index("new") < both.index("more") < both.index("after")
    assert image_figures.replace_block(both, "cu130", "more") == both
    with pytest.raises(ValueError, match="put both markers"):
        image_figures.replace_block("no block", "cpu", "new")


@pytest.mark.parametrize("figures", sorted(bench_images.DOCS.glob("bench-images-*.json")), ids=lambda path: path.stem)
def test_the_documentation_shows_its_figures(figures: Path) -> None:
    result = Result.from_json(json.loads(figures.read_text()))
    assert figures.with_suffix(".svg").read_text() == image_figures.plot(result)
    stack = figures.stem.removeprefix("bench-images-")
    page = (bench_images.DOCS / "images.md").read_text()
    content = image_figures.block(result, figures.with_suffix(".svg").name)
    assert image_figures.replace_block(page, stack, content) == page
