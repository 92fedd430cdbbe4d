"""The attention that a model has is read from the model, and no package gets to replace it in silence."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from serve.engines.attention import Decision
from serve.engines.dtypes import decide_dtypes
from serve.engines.engine import KeptOut, LoadPlan
from serve.engines.kept_out import find_kept_out, kept_out
from serve.engines.loaded import read_attentions
from serve.engines.probe import Device
from serve.engines.qwen import QwenEngine
from serve.errors import HostError

CPU = Device("cpu", "CPU", (), "a test")
PARTS = ("talker", "code_predictor", "codec", "codec_encoder")

# What transformers 4.57.3 uses of `kernels`. It tells by a file that a kernel was asked for.
KERNELS = """
from pathlib import Path
from types import SimpleNamespace

class Device: pass
class Mode: INFERENCE = 1; TRAINING = 2; TORCH_COMPILE = 4
class LayerRepository:
    def __init__(self, **_): pass
def register_kernel_mapping(*_, **__): pass
def replace_kernel_forward_from_hub(*_, **__): pass
def use_kernel_forward_from_hub(_): return lambda cls: cls

def flash_attn_func(q, k, v, causal=False): return q
def flash_attn_varlen_func(q, k, v, causal=False): return q

def get_kernel(repository, revision=None):
    Path(__file__).with_name("used").write_text(repository)
    return SimpleNamespace(flash_attn_func=flash_attn_func, flash_attn_varlen_func=flash_attn_varlen_func)
"""

FLASH_ATTN = """
def flash_attn_func(q, k, v, causal=False): return q
def flash_attn_varlen_func(q, k, v, causal=False): return q
"""

PLAN = """
import sys
from pathlib import Path
from serve.engines.attention import Decision
from serve.engines.dtypes import decide_dtypes
from serve.engines.engine import LoadPlan
from serve.engines.probe import Device
from serve.errors import HostError

decision = Decision("flash_attention_2", "a test", ())
plan = LoadPlan(Path(sys.argv[1]), Device("cpu", "CPU", (), "a test"), decision, decide_dtypes("bfloat16", []))
"""

# The loader imports transformers itself, and keeps kernels out of it.
LOAD = """
from serve.engines.qwen_load import load_checkpoint
try:
    print(load_checkpoint(plan).attention)
except HostError as error:
    print(error)
"""

# As load_checkpoint does it, without its check before.
LOAD_UNCHECKED = """
from serve.engines import qwen_load
main = qwen_load._load_main(plan)
main.load_speech_tokenizer(qwen_load._load_codec(plan))
"""

READ = """
from serve.engines.loaded import read_attentions
try:
    print(read_attentions(main, decision)["talker"])
except HostError as error:
    print(error)
"""

# transformers takes flash-attn only where torch is built for CUDA and sees a GPU. Nothing is computed here.
WITH_CUDA = """
import torch
torch.version.cuda, torch.cuda.is_available = "12.8", lambda: True
"""


def install(folder: Path, name: str, release: str, code: str) -> None:
    """A package as pip installs it: transformers looks for its metadata, too."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    (folder / f"{name}-{release}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n"
    (folder / f"{name}-{release}.dist-info" / "METADATA").write_text(metadata)


@pytest.fixture
def kernels(tmp_path):
    """Install `kernels` into ``tmp_path``; the file that is there once a kernel was asked for."""
    install(tmp_path, "kernels", "0.9.0", KERNELS)
    return tmp_path / "kernels" / "used"


@pytest.fixture
def run(tmp_path, tiny, pytestconfig):
    """Run code in a child that finds what ``tmp_path`` holds; its output."""

    def run(*code: str) -> str:
        path = os.pathsep.join([str(tmp_path), str(pytestconfig.rootpath)])
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(code), str(tiny)],
            capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def main(tiny):
    """A model, loaded with sdpa."""
    engine = QwenEngine()
    engine.load(LoadPlan(tiny, CPU, Decision("sdpa", "a test", ()), decide_dtypes("auto", [])))
    return engine._model.model


def test_a_transformers_that_has_seen_kernels_takes_one_and_is_refused(kernels, run):
    # What all this is about: should another transformers take none, kept_out may go.
    used = f"from pathlib import Path; print('used:', Path({str(kernels)!r}).exists())"
    before, after = run("import transformers.modeling_utils", PLAN, LOAD, used, LOAD_UNCHECKED, READ).split(
        "used: False"
    )
    assert "transformers was imported before the service could keep the package kernels out of it" in before
    assert "remedy: `pip uninstall kernels`" in before
    assert kernels.read_text() == "kernels-community/flash-attn"
    assert "the talker has the attention kernels-community/flash-attn of kernels 0.9.0, and flash_attention_2" in after
    assert "remedy: run the service in an environment that holds its own packages only" in after


def test_no_kernel_of_the_hub_is_taken(kernels, run):
    said = run(PLAN, LOAD)
    assert not kernels.exists()
    assert "flash_attention_2 was decided (a test), and transformers finds no flash-attn that it can use" in said
    assert "remedy: reinstall flash-attn 2.1 or newer, or set WW_ATTENTION=sdpa" in said


def test_flash_attn_is_told_by_the_function_that_is_called(tmp_path, run):
    install(tmp_path, "flash_attn", "2.8.3", "from flash_attn.flash_attn_interface import *")
    (tmp_path / "flash_attn" / "flash_attn_interface.py").write_text(FLASH_ATTN)
    (tmp_path / "flash_attn" / "bert_padding.py").write_text("pad_input = unpad_input = print")
    (tmp_path / "another_kernel.py").write_text(FLASH_ATTN)
    replace = """
import another_kernel
from transformers.modeling_flash_attention_utils import lazy_import_flash_attention
lazy_import_flash_attention(another_kernel, force_import=True)
"""
    first, second, *_ = run(WITH_CUDA, PLAN, LOAD_UNCHECKED, READ, replace, READ).splitlines()
    assert first == (
        "LoadedAttention(implementation='flash_attention_2', module='flash_attn.flash_attn_interface', version='2.8.3')"
    )
    assert second == (
        "the talker has the attention flash_attention_2 of another_kernel (not an installed package),"
        " and flash_attention_2 was decided (a test)"
    )


def test_the_service_says_what_it_loaded_and_what_it_kept_out(kernels, launch):
    # Its working folder is on its path, and holds the package.
    process = launch()
    process.wait_ready()
    attention = json.loads(process.ask("GET", "/health")[2])["attention"]
    because = "transformers would replace flash-attn by a kernel that it downloads from the hub"
    assert attention["kept_out"] == [{"package": "kernels", "version": "0.9.0", "because": because}]
    assert attention["parts"] == dict.fromkeys(PARTS, "sdpa")
    assert json.loads(process.ask("GET", "/info")[2])["attention"] == attention
    assert f"kernels 0.9.0 is installed here, and kept out: {because}" in process.stderr()
    assert not kernels.exists()


def test_what_was_loaded(client):
    attention = client.get("/health").json()["attention"]
    sdpa = {"implementation": "sdpa", "module": "torch._C._nn", "version": version("torch")}
    assert attention["loaded"] == dict.fromkeys(PARTS, sdpa)
    assert attention["kept_out"] == []


@pytest.mark.parametrize("part", ["talker", "talker.code_predictor", "speech_tokenizer.model"])
def test_a_part_with_another_attention_is_refused(main, part):
    decision = Decision("sdpa", "a test", ())
    model = main
    for name in part.split("."):
        model = getattr(model, name)
    model.set_attn_implementation("eager")
    try:
        with pytest.raises(HostError, match=r"has the attention eager of .*qwen.*, and sdpa was decided \(a test\)"):
            read_attentions(main, decision)
    finally:
        model.set_attn_implementation("sdpa")
    assert read_attentions(main, decision).keys() == {*PARTS}


def test_an_sdpa_that_is_not_torchs_is_refused(main, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *_, **__: None)
    with pytest.raises(HostError, match=r"the talker has the attention sdpa of .*test_loaded.*, and sdpa was decided"):
        read_attentions(main, Decision("sdpa", "a test", ()))


def test_kept_out_is_not_found_and_then_is_as_before(kernels, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "kernels", None)  # so that the one of this test is gone after it
    del sys.modules["kernels"]
    with kept_out():
        assert importlib.util.find_spec("kernels") is None
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("kernels")
    assert "kernels" not in sys.modules
    module = importlib.import_module("kernels")
    with kept_out(), pytest.raises(ModuleNotFoundError):
        importlib.import_module("kernels")
    assert sys.modules["kernels"] is module
    (found,) = find_kept_out()
    assert isinstance(found, KeptOut)
    assert (found.package, found.version) == ("kernels", "0.9.0")


def test_transformers_is_imported_in_one_place(pytestconfig):
    places = set()
    for file in (pytestconfig.rootpath / "serve").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.partition(".")[0] for name in names} & {"transformers", "qwen_tts"}:
                places.add(file.name)
    assert places == {"qwen_package.py"}
