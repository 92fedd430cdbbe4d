"""Checkpoints of the released sizes with random weights: they cost what the real ones cost, and say noise.

    python tests/gpu/full_size.py 0.6B FOLDER

The numbers are those of config.json and speech_tokenizer/config.json of Qwen/Qwen3-TTS-12Hz-{0.6B,1.7B}-Base. The
tokenizer is the tiny one: the embedding has the released size, and a sixth of a percent of it is used.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch

from serve import tiny_config
from serve.tiny import Shape, write_tiny

SIZES = {"0.6B": (1024, 3072), "1.7B": (2048, 6144)}
CODES, CODEBOOKS = 2048, 16
_HEADS = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "num_code_groups": CODEBOOKS}


def shape(size: str, frames: int = 512) -> Shape:
    """The shape of a released checkpoint; random weights seldom end by themselves, so at most ``frames``."""
    hidden, between = SIZES[size]
    config = copy.deepcopy(tiny_config.config())
    config["tts_model_size"] = {"0.6B": "0b6", "1.7B": "1b7"}[size]
    config["speaker_encoder_config"] = {"enc_dim": hidden, "sample_rate": tiny_config.RATE}
    talker = config["talker_config"]
    shift = CODES - tiny_config.CODES  # of the ids that are no codes
    moved = {
        key: value + shift
        for key, value in talker.items()
        if key == "pad_token_id" or (key.startswith("codec_") and isinstance(value, int))
    }
    talker |= _HEADS | moved | {
        "hidden_size": hidden,
        "intermediate_size": between,
        "num_hidden_layers": 28,
        "max_position_embeddings": 32768,
        "rope_scaling": talker["rope_scaling"] | {"mrope_section": [24, 20, 20]},
        "text_hidden_size": 2048,
        "text_vocab_size": 151936,
        "vocab_size": CODES + tiny_config.SUPPRESSED,
        "codec_language_id": {name: value + shift for name, value in talker["codec_language_id"].items()},
    }  # fmt: skip
    talker["code_predictor_config"] |= _HEADS | {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 5,
        "layer_types": ["full_attention"] * 5,
        "max_position_embeddings": 65536,
        "vocab_size": CODES,
    }
    codec = copy.deepcopy(tiny_config.codec_config()) | {"encoder_valid_num_quantizers": CODEBOOKS}
    codec["decoder_config"] |= {
        "latent_dim": 1024,
        "codebook_dim": 512,
        "codebook_size": CODES,
        "decoder_dim": 1536,
        "hidden_size": 512,
        "intermediate_size": 1024,
        "head_dim": 64,
        "num_attention_heads": 16,
        "num_hidden_layers": 8,
        "num_key_value_heads": 16,
        "num_quantizers": CODEBOOKS,
        "semantic_codebook_size": 4096,
        "vector_quantization_hidden_dimension": 512,
    }
    codec["encoder_config"] |= {
        "codebook_dim": 256,
        "codebook_size": CODES,
        "head_dim": 64,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_attention_heads": 8,
        "num_filters": 64,
        "num_hidden_layers": 8,
        "num_key_value_heads": 8,
        "num_quantizers": 32,
        "upsample_groups": 512,
        "vector_quantization_hidden_dimension": 256,
    }
    return Shape(config, codec, tiny_config.GENERATION | {"max_new_tokens": frames}, torch.bfloat16)


if __name__ == "__main__":
    print(write_tiny(Path(sys.argv[2]), shape=shape(sys.argv[1])))
