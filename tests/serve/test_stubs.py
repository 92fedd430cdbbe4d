"""The packages that images leave out: stood in for, and no more of them touched than serve.engines.dsp provides."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from serve.engines import dsp, stubs

CLONE = """
import base64, json, sys
from pathlib import Path
import numpy as np
from serve.engines import stubs
from serve.engines.attention import Decision
from serve.speech.audio import Sound
from serve.engines.dtypes import decide_dtypes
from serve.engines.engine import LoadPlan, Piece, make_engine
from serve.engines.probe import find_device

engine = make_engine("qwen")
plan = LoadPlan(Path(sys.argv[1]), find_device(None), Decision("sdpa", "", ()), decide_dtypes("auto", []))
engine.load(plan)
engine.warm()
sound = Sound(np.random.default_rng(0).uniform(-0.3, 0.3, 32000).astype(np.float32), 16000, "")
waves = []
piece = Piece("Hello.", "english", engine.prompt(sound, "noise"), 8)
engine.run([piece], 0, lambda piece, samples, outcome: waves.append(samples) if samples is not None else None)
(wave,) = waves
left = [name for names in stubs.LEFT_OUT.values() for name in names if name in sys.modules]
import qwen_tts.core.tokenizer_25hz.vq.speech_vq as user
from qwen_tts.inference import qwen3_tts_model, qwen3_tts_tokenizer
held = [vars(user)[name] for name in ("sox", "onnxruntime", "kaldi")]
held = [type(module).__name__ for module in [*held, qwen3_tts_model.librosa, qwen3_tts_tokenizer.librosa]]
print(json.dumps({"touched": stubs.touched, "left": left, "held": held, "samples": wave.size}))
"""


def test_a_real_clone_touches_none_of_them(tiny, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(stubs.__file__).rpartition("/serve/")[0]}
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", CLONE, str(tiny)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # stdout holds this one line only: not the package's banner about flash-attn.
    result = json.loads(done.stdout)
    assert result.pop("samples") > 1000
    assert result == {"touched": [], "left": [], "held": ["_Stub"] * 5}
    assert done.stderr == ""


def test_the_stubs_were_really_needed():
    # Had one of these packages been installed, the test above would prove less. librosa may be, for test_dsp.py.
    for package in stubs.LEFT_OUT.keys() - {"librosa"}:
        assert importlib.util.find_spec(package) is None, f"{package} is installed"


def test_importable_inside_and_gone_outside():
    before = {name: sys.modules.get(name) for names in stubs.LEFT_OUT.values() for name in names}
    with stubs.left_out():
        import sox  # noqa: PLC0415
        from librosa.filters import mel  # noqa: PLC0415
        from torchaudio.compliance import kaldi  # noqa: PLC0415

        assert kaldi.__name__ == "torchaudio.compliance.kaldi"
        assert sys.modules["sox"] is sox
        assert mel is dsp.mel
    assert {name: sys.modules.get(name) for name in before} == before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("sox")


@pytest.mark.parametrize("name", [name for names in stubs.LEFT_OUT.values() for name in names])
def test_using_one_says_which_and_is_recorded(name, monkeypatch):
    monkeypatch.setattr(stubs, "touched", [])
    with stubs.left_out():
        stub = importlib.import_module(name)
        with pytest.raises(stubs.LeftOutError, match=rf"{name}\.anything was used.*leaves out the package"):
            _ = stub.anything
        assert stubs.touched == [f"{name}.anything"]
        assert not hasattr(stub, "__version__")


def test_a_package_that_is_there_comes_back(monkeypatch):
    real = type(sys)("sox")
    monkeypatch.setitem(sys.modules, "sox", real)
    with stubs.left_out():
        assert sys.modules["sox"] is not real
    assert sys.modules["sox"] is real


def test_others_see_librosa_as_it_is():
    """transformers asks the import system: what it finds must not depend on the stand-in."""
    code = """
import importlib.util
from serve.engines import qwen_package
from transformers.utils import is_librosa_available
assert is_librosa_available() == (importlib.util.find_spec("librosa") is not None)
"""
    environment = os.environ | {"PYTHONPATH": str(stubs.__file__).rpartition("/serve/")[0]}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def requirement_lines(text: str) -> list[str]:
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


def test_what_is_left_out_is_never_installed_and_its_reason_is_told(pytestconfig):
    lines = requirement_lines((pytestconfig.rootpath / "serve/overrides.txt").read_text())
    names = {line.removesuffix(" ; sys_platform == 'never'") for line in lines}
    assert names > stubs.LEFT_OUT.keys()
    assert all(re.fullmatch(r"[a-z]+", name) for name in names), "each is left out in every environment"
    told = re.findall(r"^\| `([a-z]+)` \|", (pytestconfig.rootpath / "docs/service.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(names)


def test_requirements_say_what_qwen_tts_needs_besides(pytestconfig):
    lines = requirement_lines((pytestconfig.rootpath / "serve/requirements.in").read_text())
    needs = {re.split(r"[<>=!~;\[ ]", need)[0]: need for need in importlib.metadata.requires("qwen-tts") or []}
    names = {re.split(r"[<>=]", line)[0] for line in lines}
    assert set(needs) - set(stubs.LEFT_OUT) <= names
    assert not names & set(stubs.LEFT_OUT)
    assert {line for line in lines if "==" in line} >= {need for need in needs.values() if "==" in need}
    assert "torch" not in names
