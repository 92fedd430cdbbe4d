"""Import transformers and qwen-tts: without what must not be in them, what images leave out, and what they print.

No other module of the service imports transformers: it must not see the packages that are kept out of it.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from serve.engines import stubs
from serve.engines.kept_out import kept_out

# On import, qwen-tts prints that flash-attn is missing, meant for its 25 Hz tokenizer, whatever attention is used
# here. stdout is for results, and what runs is said by /health.
with kept_out(), stubs.left_out(), redirect_stdout(io.StringIO()):
    from qwen_tts import Qwen3TTSModel, Qwen3TTSTokenizer
    from qwen_tts.core import Qwen3TTSTokenizerV2Config, Qwen3TTSTokenizerV2Model
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration, Qwen3TTSProcessor
    from transformers import AutoFeatureExtractor, Qwen2TokenizerFast
    from transformers import modeling_flash_attention_utils as flash_attention_utils
    from transformers.utils import is_flash_attn_2_available, is_kernels_available
    from transformers.utils import logging as transformers_logging

# transformers writes to stderr by itself; through the root logger its warnings are one line each, like all others.
transformers_logging.disable_default_handler()
transformers_logging.enable_propagation()

__all__ = [
    "AutoFeatureExtractor",
    "Qwen2TokenizerFast",
    "Qwen3TTSConfig",
    "Qwen3TTSForConditionalGeneration",
    "Qwen3TTSModel",
    "Qwen3TTSProcessor",
    "Qwen3TTSTokenizer",
    "Qwen3TTSTokenizerV2Config",
    "Qwen3TTSTokenizerV2Model",
    "flash_attention_utils",
    "is_flash_attn_2_available",
    "is_kernels_available",
]
