"""Import qwen-tts: without the packages that images leave out, and without what it prints."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import numpy as np
from transformers.utils import logging as transformers_logging

from serve import stubs

# On import, qwen-tts prints that flash-attn is missing, meant for its 25 Hz tokenizer, whatever attention is used
# here. stdout is for results, and what runs is said by /health.
with stubs.left_out(), stubs.uncompiled_numba(), redirect_stdout(io.StringIO()):
    from librosa import resample
    from librosa.filters import mel

    # librosa imports its parts when they are first used: use what qwen-tts uses, now.
    resample(y=np.zeros(160, np.float32), orig_sr=16_000, target_sr=24_000)
    mel(sr=24_000, n_fft=1024, n_mels=128)
    from qwen_tts import Qwen3TTSModel, Qwen3TTSTokenizer
    from qwen_tts.core import Qwen3TTSTokenizerV2Config, Qwen3TTSTokenizerV2Model
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration, Qwen3TTSProcessor

# transformers writes to stderr by itself; through the root logger its warnings are one line each, like all others.
transformers_logging.disable_default_handler()
transformers_logging.enable_propagation()

__all__ = [
    "Qwen3TTSConfig",
    "Qwen3TTSForConditionalGeneration",
    "Qwen3TTSModel",
    "Qwen3TTSProcessor",
    "Qwen3TTSTokenizer",
    "Qwen3TTSTokenizerV2Config",
    "Qwen3TTSTokenizerV2Model",
]
