"""A matrix takes the values that its options take, keeps them in one form, and names the place of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from matrix import DATA_DIR, Project, load_project
from matrix.errors import DataError

TEXT = (DATA_DIR / "matrix.yaml").read_text(encoding="utf-8")


def load(folder: Path, *changes: tuple[str, str]) -> Project:
    """The project with another matrix: each first text, which stands there once at least, becomes the second."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    return load_project(path)


def test_a_target_in_peoples_words_is_the_same_target(tmp_path: Path) -> None:
    typed = load(
        tmp_path,
        ('    python: "3.12"\n    torch: "2.9.1"\n    cuda: "12.8"\n    platform: linux_x86_64\n',
         '    python: "3.12.4"\n    torch: "torch==2.9.1+cu128"\n    cuda: "cu128"\n    platform: linux/amd64\n'),
        ("gpus: [A10G, A10, A40,", "gpus: [NVIDIA A10G, NVIDIA A10-24Q, A40,"),
        ('flash_attn: ">=2.8.0.post2"', 'flash_attn: "flash-attn>=2.8.0.post2"'),
    )  # fmt: skip
    assert typed.matrix.targets == load_project().matrix.targets


def test_axes_in_peoples_words_are_the_same_axes(tmp_path: Path) -> None:
    typed = load(
        tmp_path,
        ('python: ["3.10", "3.11", "3.12", "3.13", "3.14"]',
         'python: ["cp310", "py311", "3.12.1", "python3.13", "3.14"]'),
        ('torch: ["2.6", "2.7", "2.8", "2.9", "2.10", "2.11", "2.12", "2.13", "2.14", "2.15"]',
         'torch: [">=2.6,<2.16"]'),
        ('cuda: ["12.4", "12.6", "12.8", "13.0", "13.2", cpu]', 'cuda: [cu124, "126", "12.8.1", "13", none]'),
        ("gpu: [T4, A100, A10G, L4, H100, B200, RTX 50]",
         "gpu: [Tesla T4, NVIDIA A100-SXM4-80GB, A10G, L4, NVIDIA H100 NVL, B200, rtx5090]"),
        ("platform: [linux_x86_64]", "platform: [x86_64]"),
    )  # fmt: skip
    assert typed.matrix.axes == load_project().matrix.axes


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('torch: "2.9.1"', 'torch: ">=2.9"', "targets.a10g.torch: '>=2.9' is a range, and one torch is meant here"),
        ('torch: "2.9.1"', 'torch: "2.9"', "'2.9' is not a full torch version such as 2.9.1"),
        ('torch: "2.9.1"', 'torch: "2.9.1+cu126"', "names another build than cuda: 12.8"),
        ('cuda: "12.8"\n', 'cuda: "12"\n', "means every CUDA 12, and one is wanted here"),
        ("gpus: [T4]", "gpus: [RTX 6000]", "is part of the names of several GPUs: Quadro RTX (sm_75)"),
        ("gpus: [T4]", "gpus: [T5]", "'T5' is not known to compat.yaml"),
        ('flash_attn: ">=2.8.0.post2"', 'flash_attn: "2.8.x.y"', "is neither versions nor a specifier"),
        ('cuda: ["12.4", ', 'cuda: ["12", "12.4", ', "'12.4' stands here twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, (old, new))
    assert said in str(caught.value)
    assert "matrix.yaml:" in str(caught.value)


def test_our_own_matrix_is_written_in_the_canonical_form() -> None:
    """What the repository shows is what people copy."""
    ours, compat = yaml.safe_load(TEXT), load_project().compat
    for target in ours["targets"].values():
        assert all(gpu in compat.gpus for gpu in target["gpus"])
