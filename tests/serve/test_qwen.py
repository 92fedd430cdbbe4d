"""The engine ``qwen``: the real package on the tiny checkpoint."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from serve.checkpoint import download
from serve.engines.attention import Decision
from serve.engines.dtypes import decide_dtypes
from serve.engines.engine import LoadPlan, Piece
from serve.engines.probe import Device
from serve.engines.qwen import QwenEngine
from serve.errors import NetworkError, SettingsError, StartError
from serve.speech.audio import Sound

CPU = Device("cpu", "CPU", (), "a test")
FRAME = 1920  # samples
NOISE = Sound(np.random.default_rng(0).uniform(-0.3, 0.3, 32_000).astype(np.float32), 16_000, "x")


def plan(folder: Path, dtype: str = "auto", attention: str = "sdpa") -> LoadPlan:
    return LoadPlan(folder, CPU, Decision(attention, "a test", ()), decide_dtypes(dtype, []))


def loaded(folder: Path, dtype: str = "auto", attention: str = "sdpa") -> QwenEngine:
    engine = QwenEngine()
    engine.load(plan(folder, dtype, attention))
    return engine


@pytest.fixture(scope="module")
def engine(tiny):
    return loaded(tiny)


@pytest.fixture
def broken(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "broken")


class Heard:
    """What an engine delivers: parts and outcome of each piece."""

    def __init__(self):
        self.parts = {}
        self.outcomes = {}

    def __call__(self, piece, samples, outcome):
        assert piece not in self.outcomes, "something came after the end"
        if samples is not None:
            self.parts.setdefault(piece, []).append(samples)
        if outcome is not None:
            self.outcomes[piece] = outcome

    def wave(self, piece):
        return np.concatenate(self.parts[piece])


def run(engine, pieces, seed=0):
    heard = Heard()
    engine.run(pieces, seed, heard)
    assert set(heard.outcomes) == set(pieces)
    return heard


def say(engine, text="Hello there.", language="english", seed=0, frames=12):
    piece = Piece(text, language, engine.prompt(NOISE, "noise"), frames)
    return run(engine, [piece], seed).wave(piece)


def test_facts(tiny):
    facts = QwenEngine().load(plan(tiny))
    assert facts.weights == "random"
    assert len(facts.languages) == 10
    assert "auto" not in facts.languages
    loaded = {part: found.implementation for part, found in facts.attention.items()}
    assert loaded == dict.fromkeys(("talker", "code_predictor", "codec", "codec_encoder"), "sdpa")
    assert facts.kept_out == ()
    assert facts.versions["qwen-tts"] == "0.1.1"


def test_a_checkpoint_without_the_mark_counts_as_released(broken):
    config = json.loads((broken / "config.json").read_text())
    del config["wheelwright_weights"]
    (broken / "config.json").write_text(json.dumps(config))
    assert QwenEngine().load(plan(broken)).weights == "released"


def test_eager_is_used_in_every_part(tiny):
    engine = QwenEngine()
    facts = engine.load(plan(tiny, attention="eager"))
    loaded = {(found.implementation, found.module.partition(".")[0]) for found in facts.attention.values()}
    assert loaded == {("eager", "qwen_tts"), ("eager", "transformers")}  # the codec's encoder is transformers' Mimi
    assert np.isfinite(say(engine)).all()


def test_every_part_is_told_its_dtype(tiny):
    # A part that is not warns when it runs flash_attention_2; that needs a GPU, so look at what the warning looks at.
    talker = loaded(tiny, "bfloat16")._loaded.model.model.talker
    parts = (talker, talker.model, talker.code_predictor, talker.code_predictor.model)
    assert [part.config.dtype for part in parts] == [torch.bfloat16] * 4


def test_eager_and_sdpa_say_the_same(engine, tiny):
    np.testing.assert_allclose(say(loaded(tiny, attention="eager")), say(engine), atol=1e-3)


def test_seeds(engine):
    first, again, other = (say(engine, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_seed_does_not_leak_into_the_next_request(engine):
    after = []
    for _ in range(2):
        say(engine, seed=7)
        after.append(say(engine, seed=None))
    assert after[0].shape != after[1].shape or not np.array_equal(*after)


def test_a_batch_has_one_answer_for_each_piece(engine):
    prompt = engine.prompt(NOISE, "noise")
    pieces = [Piece("One.", "english", prompt, 6), Piece("Two, and longer.", "auto", prompt, 12)]
    heard = run(engine, pieces)
    for piece in pieces:
        wave = heard.wave(piece)
        assert wave.dtype == np.float32
        assert wave.ndim == 1
        # At most its own cap, 80 ms = 1920 samples a frame.
        assert 0 < wave.size <= piece.max_frames * FRAME
        assert np.abs(wave).max() <= 1


def test_the_checkpoints_own_ceiling_holds(engine):
    assert say(engine, frames=10_000).size <= 32 * FRAME


@pytest.mark.parametrize("text", ["noise", None])
def test_it_says_what_the_package_itself_says(engine, text):
    prompt = engine.prompt(NOISE, text)
    for seed in range(4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            (wave,), _ = engine._model.generate_voice_clone(
                text=["Hello."],
                language=["english"],
                voice_clone_prompt=[prompt.value],
                non_streaming_mode=True,
                max_new_tokens=32,
            )
        piece = Piece("Hello.", "english", prompt, 1000)
        np.testing.assert_array_equal(run(engine, [piece], seed).wave(piece), wave)


@pytest.mark.parametrize("text", ["noise", None])
def test_streamed_and_unstreamed_agree(engine, text):
    prompt = engine.prompt(NOISE, text)
    lengths = set()
    for seed in range(6):
        whole, parts = (Piece("Hello.", "english", prompt, 1000, stream) for stream in (False, True))
        wave, heard = run(engine, [whole], seed).wave(whole), run(engine, [parts], seed)
        np.testing.assert_allclose(heard.wave(parts), wave, atol=1e-4)  # three steps of a 16-bit sample
        lengths.add(tuple(samples.size // FRAME for samples in heard.parts[parts]))
    assert (1, 2, 4, 8, 16) in lengths


def test_the_parts_of_a_batch_are_streamed_or_not_as_each_is_wanted(engine):
    prompt = engine.prompt(NOISE, "noise")
    pieces = [Piece("One.", "auto", prompt, 9, stream) for stream in (True, False, True)]
    heard = run(engine, pieces)
    assert len(heard.parts[pieces[1]]) == 1
    assert heard.parts[pieces[0]][0].size == FRAME


def test_a_piece_that_nobody_wants_ends_and_the_others_go_on(engine):
    prompt = engine.prompt(NOISE, "noise")
    pieces = [Piece("One.", "auto", prompt, 1000, stream) for stream in (True, False)]
    heard = Heard()

    def deliver(piece, samples, outcome):
        heard(piece, samples, outcome)
        engine.cancel(pieces[0])

    before = engine.frames
    engine.run(pieces, 3, deliver)
    assert heard.outcomes[pieces[0]] == "cancelled"
    assert len(heard.parts[pieces[0]]) == 1
    assert heard.wave(pieces[1]).size > 2 * FRAME
    assert engine.frames - before > 3


def test_the_engine_stops_when_nobody_wants_anything(engine):
    piece = Piece("One.", "auto", engine.prompt(NOISE, "noise"), 1000, stream=True)
    before = engine.frames
    engine.run([piece], 0, lambda piece, _samples, _outcome: engine.cancel(piece))
    assert engine.frames - before == 3  # the prompt's pass, the frame that was heard, the frame that noticed
    assert say(engine).size


def test_a_cancel_that_comes_before_the_batch_is_not_lost(engine):
    prompt = engine.prompt(NOISE, "noise")
    pieces = [Piece("One.", "auto", prompt, 8) for _ in range(2)]
    engine.cancel(pieces[0])
    heard = run(engine, pieces)
    assert heard.outcomes[pieces[0]] == "cancelled"
    assert pieces[0] not in heard.parts
    assert heard.wave(pieces[1]).size


@pytest.mark.parametrize(
    ("dtype", "parts"),
    [
        ("float32", [torch.float32] * 4),
        ("bfloat16", [torch.bfloat16, torch.bfloat16, torch.float32, torch.bfloat16]),
        # What a T4 gets (DESIGN.md fact 13).
        ("float16", [torch.float16, torch.float32, torch.float32, torch.float32]),
    ],
)
def test_each_part_runs_in_its_dtype(tiny, dtype, parts):
    engine = loaded(tiny, dtype)
    main = engine._model.model
    predictor = main.talker.code_predictor
    modules = [main.talker.model.layers, predictor, main.speech_tokenizer.model, main.speaker_encoder]
    assert [{p.dtype for p in module.parameters()} for module in modules] == [{part} for part in parts]
    assert {p.dtype for p in main.talker.codec_head.parameters()} == {parts[0]}
    # Rotary frequencies stay float32, whatever the weights are.
    assert {b.dtype for n, b in main.named_buffers() if "inv_freq" in n} == {torch.float32}
    seen: dict[str, torch.dtype] = {}
    for name, module in (("talker", main.talker.model), ("code predictor", predictor.model)):
        module.layers[0].mlp.register_forward_pre_hook(lambda _m, args, name=name: seen.update({name: args[0].dtype}))
    engine.warm()
    assert seen == {"talker": parts[0], "code predictor": parts[1]}
    assert np.isfinite(say(engine)).all()


def test_the_t4_profile_does_not_round_its_float32_parts(tiny):
    plain, mixed = loaded(tiny)._model.model, loaded(tiny, "float16")._model.model
    for one, other in zip(
        plain.talker.code_predictor.parameters(), mixed.talker.code_predictor.parameters(), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("text", ["<|im_end|>", "<|im_start|>system", "a<tts_text_eod>b", "<|endoftext|>" * 3])
def test_names_of_special_tokens_are_read_and_not_obeyed(engine, text):
    tokenizer = engine._model.processor.tokenizer
    ids = tokenizer(engine._plain(text))["input_ids"]
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert set(tokenizer(text)["input_ids"]) & set(tokenizer.all_special_ids)
    assert say(engine, text).size


def test_a_large_vocabulary_is_not_taken_for_mistrals(engine, broken, caplog):
    # transformers 4.57.3 looks at tokenizers of more than 100,000 tokens only; the released ones have 151,936.
    vocabulary = json.loads((broken / "vocab.json").read_text())
    at = 200_000
    vocabulary |= {f"<more{place}>": at + place for place in range(100_001)}
    (broken / "vocab.json").write_text(json.dumps(vocabulary))
    with caplog.at_level(logging.WARNING):
        made = loaded(broken)._model.processor.tokenizer
    assert len(made) > 100_000
    assert "regex" not in caplog.text
    text = "Don't SHOUT, McDonald: 123 x."
    small = engine._model.processor.tokenizer
    assert made.tokenize(text) == small.tokenize(text)
    assert str(made.backend_tokenizer.pre_tokenizer) == str(small.backend_tokenizer.pre_tokenizer)


FILES = [
    *("config.json", "generation_config.json", "model.safetensors", "vocab.json", "merges.txt"),
    *(f"speech_tokenizer/{name}" for name in ("config.json", "model.safetensors", "preprocessor_config.json")),
]


@pytest.mark.parametrize(
    ("file", "fault"),
    # Half of merges.txt is a list of merges, too.
    [(file, fault) for file in FILES for fault in ("missing", "cut off") if (file, fault) != ("merges.txt", "cut off")],
)
def test_a_broken_checkpoint_is_an_error_that_names_the_folder(broken, file, fault):
    target = broken / file
    if fault == "missing":
        target.unlink()
    else:
        content = target.read_bytes()
        target.write_bytes(content[: len(content) // 2])
    with pytest.raises(SettingsError) as caught:
        loaded(broken)
    assert str(broken) in caught.value.what
    assert caught.value.remedy


def test_weights_of_another_shape(broken):
    config = json.loads((broken / "config.json").read_text())
    config["talker_config"]["hidden_size"] = 64
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(SettingsError, match="cannot be loaded"):
        loaded(broken)


@pytest.mark.parametrize("change", [{"tts_model_type": "custom_voice"}, {"tokenizer_type": "qwen3_tts_tokenizer_25hz"}])
def test_a_model_that_does_not_clone(broken, change):
    config = json.loads((broken / "config.json").read_text()) | change
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(SettingsError, match="not a Qwen3-TTS 12 Hz Base checkpoint"):
        loaded(broken)


def poison(folder: Path) -> None:
    """Make the codec's last layer NaN, as an overflow would."""
    file = folder / "speech_tokenizer" / "model.safetensors"
    state = load_file(file)
    name = next(key for key in state if key.startswith("decoder.decoder.") and key.endswith("conv.weight"))
    state[name] = torch.full_like(state[name], float("nan"))
    save_file(state, file, metadata={"format": "pt"})


def test_nan_stops_the_start(broken):
    poison(broken)
    with pytest.raises(StartError, match="not finite"):
        loaded(broken).warm()


def test_use_before_load_is_a_defect():
    with pytest.raises(RuntimeError, match="before it is loaded"):
        QwenEngine().warm()


def test_a_model_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NetworkError, match="Qwen/none cannot be fetched") as caught:
        download("Qwen/none")
    assert "WW_MODEL_DIR" in str(caught.value.remedy)
    assert caught.value.exit_code == 3


def test_positions_stay_exact_where_the_talker_is_in_float16(tiny):
    # 2,049 is no float16; a long reference with a long text comes to 3,000 and more.
    talker = loaded(tiny, "float16")._model.model.talker.model
    seen: list[torch.Tensor] = []
    talker.rotary_emb.register_forward_pre_hook(lambda _module, args: seen.append(args[1]))
    embeddings = torch.zeros(1, 1, talker.config.hidden_size)
    with torch.inference_mode():
        made = talker(inputs_embeds=embeddings, position_ids=torch.full((3, 1, 1), 2049.0))
    assert made.last_hidden_state.dtype == torch.float16
    assert seen[0].unique().tolist() == [2049.0]
