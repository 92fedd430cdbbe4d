"""The attention ladder: every combination of choice, default and what can run."""

from __future__ import annotations

from itertools import product

import pytest

from serve.engines.attention import ATTENTIONS, FlashFacts, Rung, decide, flash_refusal, ladder, serves
from serve.errors import HostError

BF16 = {"talker": "bfloat16", "code_predictor": "bfloat16"}
FP16 = {"talker": "float16", "code_predictor": "float16"}
FA28 = ((8, 0), (9, 0), (10, 0), (12, 0))  # DESIGN.md fact 12: wheels from 2.8.0.post2
FA27 = ((8, 0), (9, 0))


@pytest.mark.parametrize(
    ("default", "order"),
    [
        (None, ("flash_attention_2", "sdpa", "eager")),
        ("flash_attention_2", ("flash_attention_2", "sdpa", "eager")),
        ("sdpa", ("sdpa", "eager")),
        ("eager", ("eager", "sdpa")),
    ],
)
def test_order(default, order):
    assert ladder(default) == order


@pytest.mark.parametrize(
    ("choice", "default", "available"),
    list(product(["auto", *ATTENTIONS], [None, *ATTENTIONS], product([True, False], repeat=3))),
)
def test_every_decision(choice, default, available):
    can = dict(zip(ATTENTIONS, available, strict=True))
    rungs = tuple(Rung(name, can[name], f"why {name}") for name in ATTENTIONS)
    evidence = (default, "measured") if default else None
    order = (choice,) if choice != "auto" else ladder(default)
    expected = [name for name in order if can[name]]
    if not expected:
        with pytest.raises(HostError) as caught:
            decide(choice, evidence, rungs)
        assert f"why {order[0]}" in caught.value.what
        assert caught.value.remedy
        assert caught.value.exit_code == 4
        return
    decision = decide(choice, evidence, rungs)
    assert decision.running == expected[0]
    assert decision.rungs == rungs
    # The reason names the demand or the default, and every rung that was passed over.
    if choice == "auto":
        assert ("measured" in decision.because) == (default is not None)
        for name in order[: order.index(expected[0])]:
            assert f"{name} cannot run (why {name})" in decision.because
    else:
        assert decision.because == f"WW_ATTENTION={choice} asks for it"


@pytest.mark.parametrize(
    ("code", "gpu", "runs"),
    [
        ((8, 0), (8, 0), True),
        ((8, 0), (8, 6), True),
        ((8, 0), (8, 9), True),
        ((8, 6), (8, 0), False),
        ((8, 0), (9, 0), False),
        ((8, 0), (7, 5), False),
        ((9, 0), (10, 0), False),
        ((10, 0), (10, 3), True),
        ((10, 0), (12, 0), False),
        ((7, 5), (8, 6), False),
    ],
)
def test_machine_code_runs_on_the_same_major_and_a_higher_minor(code, gpu, runs):
    assert serves(code, gpu) is runs


@pytest.mark.parametrize(
    ("installed", "sass", "gpus", "dtypes", "refusal"),
    [
        (None, FA28, ((8, 6),), BF16, "flash-attn is not installed"),
        ("2.8.3", FA28, (), BF16, "no GPU is visible"),
        ("2.8.3", FA28, ((8, 6),), BF16, None),
        ("2.8.3", None, ((8, 6),), BF16, None),
        ("2.8.3", FA28, ((8, 0), (9, 0)), BF16, None),
        ("2.7.4", FA27, ((10, 0),), BF16, "the wheel holds sm_80, sm_90, which does not serve a visible GPU (sm_100)"),
        ("2.7.4", FA27, ((9, 0), (12, 0)), BF16, "does not serve a visible GPU (sm_120)"),
        ("2.8.3", (), ((9, 0),), BF16, "the wheel holds no machine code"),
        ("2.8.3", FA28, ((7, 5),), BF16, "needs sm_80 or newer, and a visible GPU is sm_75"),
        ("2.8.3", None, ((8, 6), (7, 5)), BF16, "a visible GPU is sm_75"),
        ("2.8.3", ((7, 5),), ((7, 5),), BF16, "needs sm_80"),
        ("2.8.3", FA28, ((9, 0),), BF16 | {"talker": "float32"}, "the talker runs in float32"),
        ("2.8.3", FA28, ((9, 0),), FP16 | {"code_predictor": "float32"}, "the code predictor runs in float32"),
        ("2.8.3", FA28, ((9, 0),), FP16, None),
    ],
)  # fmt: skip
def test_what_rules_flash_attention_out(installed, sass, gpus, dtypes, refusal):
    found = flash_refusal(FlashFacts(installed, sass, gpus, dtypes))
    assert found is None if refusal is None else refusal in str(found)
