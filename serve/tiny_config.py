"""The configuration and the tokenizer of the tiny checkpoint: the released files' shape, with small numbers.

Structure and names are those of config.json and speech_tokenizer/config.json of Qwen/Qwen3-TTS-12Hz-0.6B-Base.
"""

from __future__ import annotations

from typing import Any

from serve.checkpoint import WEIGHTS_KEY

TEXT_VOCABULARY = 400
CODES = 64
CODEBOOKS = 4
RATE = 24_000
LANGUAGES = (
    "chinese",
    "english",
    "german",
    "italian",
    "portuguese",
    "spanish",
    "japanese",
    "korean",
    "french",
    "russian",
)
# The last three must be the highest ids: config() points at them.
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")
FIRST_SPECIAL = TEXT_VOCABULARY - len(SPECIALS)
# generate() suppresses the talker's last 1024 ids but the end token, whatever the model's size.
SUPPRESSED = 1024
# The ids from CODES on mean what those from 2048 on mean in the released files.
PAD, BOS, EOS, THINK, NOTHINK, THINK_BOS, THINK_EOS, FIRST_LANGUAGE = (CODES + i for i in (0, 1, 2, 6, 7, 8, 9, 20))

GENERATION = {
    "do_sample": True,
    "top_k": 50,
    "top_p": 1.0,
    "temperature": 0.9,
    "repetition_penalty": 1.05,
    "subtalker_dosample": True,
    "subtalker_top_k": 50,
    "subtalker_top_p": 1.0,
    "subtalker_temperature": 0.9,
    # Random weights seldom end by themselves: 32 frames of 80 ms make 2.6 s, in a fifth of a second on one core.
    "max_new_tokens": 32,
}
FEATURE_EXTRACTOR = {
    "feature_extractor_type": "EncodecFeatureExtractor",
    "feature_size": 1,
    "sampling_rate": RATE,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "chunk_length_s": None,
    "overlap": None,
}
_TRANSFORMER = {
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
    "use_cache": True,
    "initializer_range": 0.02,
    "attention_dropout": 0,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "num_code_groups": CODEBOOKS,
}


def config() -> dict[str, Any]:
    """config.json: talker, code predictor and speaker encoder."""
    return {
        WEIGHTS_KEY: "random",
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_size": "0b6",
        "tts_model_type": "base",
        "assistant_token_id": 0,
        "im_start_token_id": FIRST_SPECIAL + 1,
        "im_end_token_id": FIRST_SPECIAL + 2,
        "tts_pad_token_id": FIRST_SPECIAL + 3,
        "tts_bos_token_id": FIRST_SPECIAL + 4,
        "tts_eos_token_id": FIRST_SPECIAL + 5,
        "speaker_encoder_config": {
            "enc_dim": 32,
            "sample_rate": RATE,
            "enc_channels": [16, 16, 16, 16, 48],
            "enc_kernel_sizes": [5, 3, 3, 3, 1],
            "enc_dilations": [1, 2, 3, 4, 1],
            "enc_attention_channels": 8,
            "enc_res2net_scale": 4,
            "enc_se_channels": 8,
        },
        "talker_config": {
            **_TRANSFORMER,
            "model_type": "qwen3_tts_talker",
            "num_hidden_layers": 2,
            "position_id_per_seconds": 13,
            "rope_scaling": {
                "interleaved": True,
                "mrope_section": [4, 2, 2],
                "rope_type": "default",
                "type": "default",
            },
            "text_hidden_size": 32,
            "text_vocab_size": TEXT_VOCABULARY,
            "vocab_size": CODES + SUPPRESSED,
            "pad_token_id": PAD,
            "codec_pad_id": PAD,
            "codec_bos_id": BOS,
            "codec_eos_token_id": EOS,
            "codec_think_id": THINK,
            "codec_nothink_id": NOTHINK,
            "codec_think_bos_id": THINK_BOS,
            "codec_think_eos_id": THINK_EOS,
            "codec_language_id": {name: FIRST_LANGUAGE + place for place, name in enumerate(LANGUAGES)},
            "spk_id": {},
            "spk_is_dialect": {},
            "code_predictor_config": {
                **_TRANSFORMER,
                "model_type": "qwen3_tts_talker_code_predictor",
                "num_hidden_layers": 1,
                "layer_types": ["full_attention"],
                "rope_scaling": None,
                "vocab_size": CODES,
            },
        },
        "transformers_version": "4.57.3",
    }


def codec_config() -> dict[str, Any]:
    """speech_tokenizer/config.json: the 12 Hz codec, an encoder as Mimi's and a decoder of its own."""
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_valid_num_quantizers": CODEBOOKS,
        "input_sample_rate": RATE,
        "output_sample_rate": RATE,
        "decode_upsample_rate": 1920,
        "encode_downsample_rate": 1920,
        "decoder_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "latent_dim": 32,
            "codebook_dim": 16,
            "codebook_size": CODES,
            "decoder_dim": 32,
            "hidden_act": "silu",
            "hidden_size": 32,
            "intermediate_size": 64,
            "layer_scale_initial_scale": 0.01,
            "max_position_embeddings": 8000,
            "head_dim": 8,
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
            "num_key_value_heads": 4,
            "num_quantizers": CODEBOOKS,
            "num_semantic_quantizers": 1,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000,
            "semantic_codebook_size": CODES,
            "sliding_window": 72,
            "upsample_rates": [8, 5, 4, 3],
            "upsampling_ratios": [2, 2],
            "vector_quantization_hidden_dimension": 16,
        },
        "encoder_config": {
            "_frame_rate": 12.5,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "audio_channels": 1,
            "codebook_dim": 8,
            "codebook_size": CODES,
            "compress": 2,
            "dilation_growth_rate": 2,
            "head_dim": 8,
            "hidden_act": "gelu",
            "hidden_size": 32,
            "intermediate_size": 64,
            "kernel_size": 7,
            "last_kernel_size": 3,
            "layer_scale_initial_scale": 0.01,
            "max_position_embeddings": 8000,
            "norm_eps": 1e-5,
            "num_attention_heads": 4,
            "num_filters": 2,
            "num_hidden_layers": 1,
            "num_key_value_heads": 4,
            "num_quantizers": CODEBOOKS,
            "num_residual_layers": 1,
            "num_semantic_quantizers": 1,
            "pad_mode": "constant",
            "residual_kernel_size": 3,
            "rope_theta": 10000.0,
            "sampling_rate": RATE,
            "sliding_window": 250,
            "trim_right_ratio": 1.0,
            "upsample_groups": 32,
            "upsampling_ratios": [8, 6, 5, 4],
            "use_cache": False,
            "use_causal_conv": True,
            "use_conv_shortcut": False,
            "vector_quantization_hidden_dimension": 8,
        },
    }


def tokenizer_config() -> dict[str, Any]:
    """tokenizer_config.json of a Qwen2 tokenizer."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(FIRST_SPECIAL + place): {"content": name, **flags} for place, name in enumerate(SPECIALS)
        },
        "additional_special_tokens": list(SPECIALS[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def vocabulary(alphabet: list[str]) -> tuple[dict[str, int], list[str]]:
    """vocab.json and merges.txt of a byte-level BPE.

    Args:
        alphabet: the 256 characters that stand for bytes, ``tokenizers.pre_tokenizers.ByteLevel.alphabet()``.

    Returns:
        Ids by token, and the merges in order. "assistant" is one token: qwen-tts cuts its prompts at fixed counts, and
        ``<|im_start|>assistant\\n`` must be three.
    """
    tokens, merges = sorted(alphabet), []
    word = "assistant"
    for end in range(2, len(word) + 1):
        merges.append(f"{word[: end - 1]} {word[end - 1]}")
        tokens.append(word[:end])
    tokens += [f"<unused{place}>" for place in range(FIRST_SPECIAL - len(tokens))]
    return {token: place for place, token in enumerate(tokens)}, merges
