"""Load a Qwen3-TTS checkpoint part by part, from a local folder, without a network.

The package's own loader breaks the tokenizer of a local checkpoint (``fix_mistral_regex``) and asks the hub even for
files that are there (DESIGN.md fact 24); it also knows only one dtype for all parts.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from serve.checkpoint import read_json, weights_of
from serve.engines.engine import LoadedAttention, LoadPlan, Weights
from serve.engines.finite import check_finite
from serve.engines.loaded import check_before, codec_attention, read_attentions
from serve.engines.precision import apply_dtypes, torch_dtype
from serve.engines.qwen_package import (
    AutoFeatureExtractor,
    Qwen2TokenizerFast,
    Qwen3TTSConfig,
    Qwen3TTSForConditionalGeneration,
    Qwen3TTSModel,
    Qwen3TTSProcessor,
    Qwen3TTSTokenizer,
    Qwen3TTSTokenizerV2Config,
    Qwen3TTSTokenizerV2Model,
)
from serve.errors import HostError, SettingsError, one_line


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded checkpoint."""

    model: Any  # a qwen_tts.Qwen3TTSModel, which has no types
    weights: Weights
    attention: Mapping[str, LoadedAttention]
    versions: Mapping[str, str]


def load_checkpoint(plan: LoadPlan) -> Loaded:
    """Load every part on the planned device.

    Raises:
        SettingsError: the folder holds no such checkpoint, or files of it are missing or broken, or hold what are no
            finite numbers.
        HostError: it does not fit into the memory, or the attention that was decided cannot be had.
    """
    config = read_json(plan.folder / "config.json")
    if config.get("tts_model_type") != "base" or config.get("tokenizer_type") != "qwen3_tts_tokenizer_12hz":
        raise SettingsError(
            f"{plan.folder}/config.json: not a Qwen3-TTS 12 Hz Base checkpoint, and only those clone voices",
            remedy="use Qwen/Qwen3-TTS-12Hz-0.6B-Base or Qwen/Qwen3-TTS-12Hz-1.7B-Base",
        )
    defaults = read_json(plan.folder / "generation_config.json")
    check_before(plan.attention)
    try:
        main = _load_main(plan)
        main.load_speech_tokenizer(_load_codec(plan))
        check_finite({plan.folder: main, plan.folder / "speech_tokenizer": main.speech_tokenizer.model})
        # The released config.json makes transformers take it for a Mistral tokenizer and advise a fix that would
        # break it: False says that the question is settled.
        tokenizer = Qwen2TokenizerFast.from_pretrained(plan.folder, fix_mistral_regex=False)
    except SettingsError:
        raise
    except torch.OutOfMemoryError as error:
        reason = one_line(error)
        raise HostError(f"the model does not fit: {reason}", remedy="free memory, or use the 0.6B model") from error
    except Exception as error:
        # Missing files, shapes that do not fit, a cut-off safetensors, a vocabulary that is no JSON: each library has
        # its own types, and some raise a bare Exception.
        raise _broken(plan.folder, error) from error
    main.load_generate_config(defaults)
    # What transformers would choose itself, with a warning on every request: the end token pads a finished sequence.
    main.talker.generation_config.pad_token_id = main.config.talker_config.codec_eos_token_id
    model = Qwen3TTSModel(main, Qwen3TTSProcessor(tokenizer=tokenizer), defaults)
    packages = ("torch", "transformers", "qwen-tts")
    return Loaded(
        model=model,
        weights=weights_of(config),
        attention=read_attentions(main, plan.attention),
        versions={name: importlib.metadata.version(name) for name in packages},
    )


def _load_main(plan: LoadPlan) -> Any:
    """Talker, code predictor and speaker encoder."""
    config = Qwen3TTSConfig.from_pretrained(plan.folder)
    if plan.dtypes.uniform:
        # transformers tells the dtype to the parts, not to parts of parts: with flash_attention_2 the code predictor
        # then warns, in every log, that none was given.
        config.talker_config.code_predictor_config.dtype = torch_dtype(plan.dtypes.talker)
    # The class overrides from_pretrained to load codec and tokenizer in its own way: call the one that it overrides.
    main = super(Qwen3TTSForConditionalGeneration, Qwen3TTSForConditionalGeneration).from_pretrained(
        plan.folder,
        config=config,
        dtype=torch_dtype(plan.dtypes.talker) if plan.dtypes.uniform else "auto",
        attn_implementation=plan.attention.running,
        device_map={"": plan.device.torch},
        local_files_only=True,
        use_safetensors=True,
    )
    if not plan.dtypes.uniform:
        apply_dtypes(main, plan.dtypes)
    return main


def _load_codec(plan: LoadPlan) -> Any:
    """The 12 Hz codec, in qwen-tts's wrapper."""
    folder = plan.folder / "speech_tokenizer"
    codec = Qwen3TTSTokenizer()
    codec.feature_extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    codec.model = Qwen3TTSTokenizerV2Model.from_pretrained(
        folder,
        config=Qwen3TTSTokenizerV2Config.from_pretrained(folder),
        dtype=torch_dtype(plan.dtypes.codec),
        attn_implementation=codec_attention(plan.attention.running),
        device_map={"": plan.device.torch},
        local_files_only=True,
        use_safetensors=True,
    )
    codec.config = codec.model.config
    codec.device = torch.device(plan.device.torch)
    return codec


def _broken(folder: Path, error: Exception) -> SettingsError:
    reason = one_line(error)
    return SettingsError(
        f"{folder}: the checkpoint cannot be loaded: {type(error).__name__}: {reason}",
        remedy="fetch it again, or set WW_MODEL_DIR to a complete one",
    )
