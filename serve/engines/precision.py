"""Parts of one model in different dtypes, with qwen-tts left as it is: cast the weights, and cast at the borders."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from serve.engines.dtypes import Dtypes

EMBEDDINGS = "inputs_embeds"


def apply_dtypes(model: Any, dtypes: Dtypes) -> None:
    """Give talker, code predictor and speaker encoder each its dtype, and cast what flows between them.

    qwen-tts computes as if all had one dtype. Three inputs cross a border: embeddings into the talker's layers (they
    sum the talker's and the code predictor's), the talker's hidden state into the code predictor, and the mel
    spectrogram (made in the talker's dtype) into the speaker encoder.

    Args:
        model: a ``Qwen3TTSForConditionalGeneration`` whose weights still have the checkpoint's dtype, so that no part
            is rounded twice.
        dtypes: the dtype of each part.
    """
    talker, predictor = model.talker, model.talker.code_predictor
    inside = {id(parameter) for parameter in predictor.parameters()}
    # Parameters only: buffers hold the rotary frequencies, which must stay float32 (rounded, positions drift).
    for parameter in talker.parameters():
        if id(parameter) not in inside:
            parameter.data = parameter.data.to(torch_dtype(dtypes.talker))
    for part, dtype in ((predictor, dtypes.code_predictor), (model.speaker_encoder, dtypes.speaker_encoder)):
        for parameter in part.parameters():
            parameter.data = parameter.data.to(torch_dtype(dtype))
    _cast_inputs(talker.model, torch_dtype(dtypes.talker))
    _cast_inputs(predictor.small_to_mtp_projection, torch_dtype(dtypes.code_predictor))
    _cast_inputs(model.speaker_encoder, torch_dtype(dtypes.speaker_encoder))


def torch_dtype(name: str) -> torch.dtype:
    """``"bfloat16"`` as ``torch.bfloat16``."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _cast_inputs(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast what ``module`` computes with, positional inputs and embeddings, to ``dtype`` before its forward runs.

    Other inputs keep theirs: positions are floats, too, and in float16 those over 2,048 lose their last bit.
    """

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        embeddings = {EMBEDDINGS: cast(kwargs[EMBEDDINGS])} if EMBEDDINGS in kwargs else {}
        return tuple(cast(value) for value in args), kwargs | embeddings

    module.register_forward_pre_hook(hook, with_kwargs=True)
