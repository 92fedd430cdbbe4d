"""Import qwen-tts: without the packages that images leave out, and without what it prints."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from transformers.utils import logging as transformers_logging

from serve.engines import stubs

# On import, qwen-tts prints that flash-attn is missing, meant for its 25 Hz tokenizer, whatever attention is used
# here. stdout is for results, and what runs is said by /health.
with stubs.left_out(), redirect_stdout(io.StringIO()):
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
