"""Which attention a loaded model has: read from its layers, not from what was asked for; any other is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from serve.engines.attention import Decision
from serve.engines.engine import LoadedAttention
from serve.engines.kept_out import version_of
from serve.engines.qwen_package import flash_attention_utils, is_flash_attn_2_available, is_kernels_available
from serve.errors import HostError
from serve.image import Attention

# Attention -> the package that its function must come from. eager is written out in the module of each layer.
SOURCES: Mapping[str, str] = {"flash_attention_2": "flash_attn", "sdpa": "torch"}
OWN_ENVIRONMENT = "run the service in an environment that holds its own packages only, as an image does"


def codec_attention(running: Attention) -> Attention:
    """The codec's: qwen-tts never gives it flash_attention_2; eager is for those who want to see plain torch."""
    return "eager" if running == "eager" else "sdpa"


def check_before(decision: Decision) -> None:
    """Refuse to load where transformers would not do what was decided.

    Raises:
        HostError: transformers would take a kernel from the hub, or finds no flash-attn.
    """
    if is_kernels_available():
        raise HostError(
            "transformers was imported before the service could keep the package kernels out of it, and would replace"
            " flash-attn by a kernel that it downloads from the hub",
            remedy="`pip uninstall kernels`, or import transformers after the service",
        )
    if decision.running == "flash_attention_2" and not is_flash_attn_2_available():
        raise HostError(
            f"flash_attention_2 was decided ({decision.because}), and transformers finds no flash-attn that it can use",
            remedy="reinstall flash-attn 2.1 or newer, or set WW_ATTENTION=sdpa",
        )


def read_attentions(main: Any, decision: Decision) -> Mapping[str, LoadedAttention]:
    """What each part of a loaded model has; the speaker encoder has no attention of this kind.

    Args:
        main: a ``Qwen3TTSForConditionalGeneration`` with its codec.
        decision: what it must be.

    Raises:
        HostError: a part has another attention than was decided, or its function comes from elsewhere.
    """
    codec = main.speech_tokenizer.model
    parts = {
        "talker": main.talker.model,
        "code_predictor": main.talker.code_predictor.model,
        "codec": codec.decoder,
        "codec_encoder": codec.encoder,
    }
    loaded = {part: _read(model) for part, model in parts.items()}
    for part, found in loaded.items():
        wanted = codec_attention(decision.running) if part.startswith("codec") else decision.running
        if found.implementation != wanted or not _is_from_its_source(found):
            raise HostError(
                f"the {part.replace('_', ' ')} has the attention {found.implementation} of {found.module}"
                f" {found.version or '(not an installed package)'}, and {wanted} was decided ({decision.because})",
                remedy=OWN_ENVIRONMENT,
            )
    return loaded


def _read(part: nn.Module) -> LoadedAttention:
    """What the layers of one part have; more than one answer is given as a list, which fits no decision."""
    layers = [layer for name, layer in part.named_modules() if name.endswith("self_attn")]
    names = {layer: str(layer.config._attn_implementation) for layer in layers}  # noqa: SLF001 - there is no public name
    modules = {_module(function) for layer, name in names.items() for function in _functions(layer, name)}
    module = ", ".join(sorted(modules))
    return LoadedAttention(", ".join(sorted(set(names.values()))), module, version_of(_package(module)))


def _functions(layer: nn.Module, implementation: str) -> tuple[Callable[..., Any] | None, ...]:
    """What a layer calls."""
    if implementation == "eager":
        return (type(layer),)
    if implementation == "sdpa":
        return (torch.nn.functional.scaled_dot_product_attention,)
    # All flash attentions of a process share these two, without and with padding: whatever was loaded last set them.
    return flash_attention_utils._flash_fn, flash_attention_utils._flash_varlen_fn  # noqa: SLF001


def _module(function: Callable[..., Any] | None) -> str:
    return str(getattr(function, "__module__", None))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _is_from_its_source(found: LoadedAttention) -> bool:
    source = SOURCES.get(found.implementation)
    return source is None or (_package(found.module) == source and found.version is not None)
