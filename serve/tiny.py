"""``python -m serve.tiny DIR``: write a tiny checkpoint with random weights (1 MB), for tests and first steps.

The unmodified qwen-tts loads it and makes noise of a speech-like level. It is marked as random, and every answer made
with it says ``X-Weights: random``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import nn

from serve import tiny_config
from serve.checkpoint import read_json, weights_of
from serve.engines.qwen_package import (
    Qwen3TTSConfig,
    Qwen3TTSForConditionalGeneration,
    Qwen3TTSTokenizerV2Config,
    Qwen3TTSTokenizerV2Model,
)
from serve.errors import SettingsError, StartError

# Standard deviation of the codec's output before it is clipped to [-1, 1]: the level of quiet speech.
LEVEL = 0.1


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a random checkpoint is.

    Attributes:
        config, codec, generation: the contents of its JSON files.
        dtype: of the talker's side in the file; None for float32.
    """

    config: dict[str, Any]
    codec: dict[str, Any]
    generation: dict[str, Any]
    dtype: torch.dtype | None = None


def write_tiny(folder: Path, seed: int = 0, shape: Shape | None = None) -> Path:
    """Write the checkpoint: into a folder beside it, then renamed, so that it is there whole or not at all.

    Args:
        folder: must be absent, empty, or an earlier random checkpoint, which is replaced.
        seed: the same seed gives the same bytes.
        shape: another than the tiny one.

    Raises:
        SettingsError: the folder holds something else, or cannot be written.
    """
    _refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(made, seed, shape or Shape(tiny_config.config(), tiny_config.codec_config(), tiny_config.GENERATION))
            made.chmod(0o755)  # mkdtemp's 0700 would hide it from the image's user
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        remedy = "name a folder that does not exist yet, in one that can be written to"
        raise SettingsError(f"{folder} cannot be written: {error}", remedy=remedy) from error
    return folder


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    remedy = "name another folder, or empty this one"
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder", remedy=remedy)
    if not any(folder.iterdir()):
        return
    config = folder / "config.json"
    if not config.is_file() or weights_of(read_json(config)) != "random":
        raise SettingsError(f"{folder} holds something that is not a tiny checkpoint", remedy=remedy)


def _write(folder: Path, seed: int, shape: Shape) -> None:
    codec_folder = folder / "speech_tokenizer"
    codec_folder.mkdir()
    _dump(folder / "config.json", shape.config)
    _dump(folder / "generation_config.json", shape.generation)
    _dump(folder / "preprocessor_config.json", tiny_config.FEATURE_EXTRACTOR)
    _dump(codec_folder / "config.json", shape.codec)
    _dump(codec_folder / "preprocessor_config.json", tiny_config.FEATURE_EXTRACTOR)
    ids, merges = tiny_config.vocabulary(pre_tokenizers.ByteLevel.alphabet())
    _dump(folder / "vocab.json", ids)
    _dump(folder / "tokenizer_config.json", tiny_config.tokenizer_config())
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        main = Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**shape.config))
        codec = Qwen3TTSTokenizerV2Model(Qwen3TTSTokenizerV2Config(**shape.codec)).eval()
        _randomize(main)
        _randomize(codec)
        _set_level(codec, shape.codec["decoder_config"])
    if shape.dtype is not None:
        main.to(shape.dtype)
    _save(main, folder / "model.safetensors")
    _save(codec, codec_folder / "model.safetensors")


def _dump(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _save(model: nn.Module, file: Path) -> None:
    state = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, file, metadata={"format": "pt"})


@torch.no_grad()
def _randomize(model: nn.Module) -> None:
    """Normal weights scaled by fan-in, so that values keep their size through the layers; norms stay as built."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        leaf = name.rpartition(".")[2]
        if not tensor.is_floating_point() or "inv_freq" in name:
            continue
        if leaf in {"cluster_usage", "initialized"}:
            tensor.fill_(1.0)
        elif "embed" in name and tensor.dim() > 1:
            tensor.normal_(0.0, 1.0)
        elif leaf in {"gamma", "scale"}:  # of layers that are added to their input: small, so that they add little
            tensor.fill_(0.1)
        elif tensor.dim() > 1:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5)
        elif leaf == "bias":
            tensor.zero_()


@torch.no_grad()
def _set_level(codec: Any, config: dict[str, Any]) -> None:
    """Scale the decoder's last layer so that random codes sound at `LEVEL`."""
    heard: list[torch.Tensor] = []
    last = codec.decoder.decoder[-1].conv
    with_hook = last.register_forward_hook(lambda _module, _inputs, output: heard.append(output))
    codec.decoder(torch.randint(0, config["codebook_size"], (1, config["num_quantizers"], 50)))
    with_hook.remove()
    last.weight.mul_(LEVEL / float(heard[0].std()))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m serve.tiny", description=__doc__)
    parser.add_argument("dir", type=Path, help="absent, empty, or an earlier tiny checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default: 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # more threads cost more than they bring, on matrices of this size
    print(write_tiny(arguments.dir, arguments.seed))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
