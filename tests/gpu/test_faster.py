"""The engine ``faster`` beside ``qwen`` on a GPU: `make test-gpu`. Needs faster-qwen3-tts 0.3.2, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.test_service_on_gpu import ROOT, free_port

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")
pytestmark = pytest.mark.gpu
FRAME = 1920  # samples
GREEDY = {"do_sample": False, "subtalker_dosample": False}


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, which always takes the likeliest code."""
    from serve.tiny import write_tiny  # noqa: PLC0415 - brings the model's packages

    folder = write_tiny(tmp_path_factory.mktemp("models") / "greedy")
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | GREEDY))
    return folder


def load(folder: Path, engine: str, dtype: str) -> Any:
    from serve.engines import attention, dtypes, probe  # noqa: PLC0415
    from serve.engines.engine import LoadPlan, make_engine  # noqa: PLC0415

    device = probe.find_device(None)
    decision = attention.Decision("sdpa", "a test", ())
    made = make_engine(engine)
    facts = made.load(LoadPlan(folder, device, decision, dtypes.decide_dtypes(dtype, device.gpus)))  # type: ignore[arg-type]
    assert facts.max_batch == 1 or engine == "qwen"
    return made


def reference() -> Any:
    from serve.speech.audio import Sound  # noqa: PLC0415

    return Sound(np.random.default_rng(0).uniform(-0.3, 0.3, 48_000).astype(np.float32), 24_000, "noise")


def say(
    engine: Any, *, transcript: str | None = "noise", frames: int = 20, stream: bool = False, seed: int | None = None
) -> tuple[Any, list[str]]:
    """The sound of a piece, shape (n,), and its outcome."""
    from serve.engines.engine import Piece  # noqa: PLC0415

    parts: list[Any] = []
    ends: list[str] = []

    def deliver(_piece: Any, samples: Any, outcome: str | None) -> None:
        parts.extend([] if samples is None else [samples])
        ends.extend([] if outcome is None else [outcome])

    prompt = engine.prompt(reference(), transcript)
    engine.run([Piece("Hello there, you.", "english", prompt, frames, stream)], seed, deliver)
    return np.concatenate(parts), ends


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("transcript", ["noise", None], ids=["with-manner", "likeness"])
def test_both_engines_say_the_same(greedy: Path, dtype: str, transcript: str | None) -> None:
    # In float32; in a T4's dtypes the talker rounds, so the first frames have to do.
    ours, theirs = (say(load(greedy, name, dtype), transcript=transcript)[0] for name in ("qwen", "faster"))
    compared = slice(None if dtype == "float32" else 4 * FRAME)
    assert len(ours) == len(theirs)
    assert np.abs(ours[compared] - theirs[compared]).max() < (1e-3 if dtype == "float32" else 2e-2)


def test_seeds_repeat_and_differ(tmp_path: Path) -> None:
    from serve.tiny import write_tiny  # noqa: PLC0415

    engine = load(write_tiny(tmp_path / "tiny"), "faster", "bfloat16")
    first, again, other = (say(engine, seed=seed)[0] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    state = torch.cuda.get_rng_state()
    say(engine, seed=7)
    assert torch.equal(state, torch.cuda.get_rng_state())  # one request's seed is not the next one's
    unseeded, once_more = (say(engine)[0] for _ in range(2))
    assert unseeded.shape != once_more.shape or not np.array_equal(unseeded, once_more)


def test_streamed_is_whole_and_cancel_stops_within_a_frame(greedy: Path) -> None:
    from serve.engines.engine import Piece  # noqa: PLC0415

    engine = load(greedy, "faster", "float32")
    whole, streamed = say(engine)[0], say(engine, stream=True)[0]
    assert np.abs(whole - streamed).max() < 1e-3
    piece = Piece("Hello there, you.", "english", engine.prompt(reference(), "noise"), 20, True)
    outcomes: list[str | None] = []

    def deliver(said: Any, _samples: Any, outcome: str | None) -> None:
        outcomes.append(outcome)
        engine.cancel(said)

    before = engine.frames
    engine.run([piece], None, deliver)
    assert outcomes == [None, "cancelled"]
    assert engine.frames - before == 2  # the frame that was heard, the frame that noticed


def test_what_has_no_room_is_refused_or_cut_off(greedy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve.engines import faster  # noqa: PLC0415
    from serve.engines.engine import TooLongError  # noqa: PLC0415

    monkeypatch.setattr(faster, "POSITIONS", 128)
    engine = load(greedy, "faster", "float32")
    full, ends = say(engine, frames=32)
    assert ends == ["capped"] or len(full) < 32 * FRAME
    with pytest.raises(TooLongError, match="of 128 positions"):
        say(engine, transcript="noise " * 60)
    assert say(engine)[1]  # and works on


def test_flash_attention_is_refused_and_auto_goes_on_without_it(greedy: Path) -> None:
    env = os.environ | {"WW_MODEL_DIR": str(greedy), "WW_PORT": str(free_port()), "WW_ENGINE": "faster"}
    done = subprocess.run(
        [sys.executable, "-m", "serve"], cwd=ROOT, env=env | {"WW_ATTENTION": "flash_attention_2"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "WW_ATTENTION=flash_attention_2 cannot run here: faster-qwen3-tts keeps a cache" in done.stderr
    assert done.stdout == ""
