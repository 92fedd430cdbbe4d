"""Names that qwen-tts imports, so that their packages need not be installed.

``import qwen_tts`` imports sox, onnxruntime and torchaudio for its 25 Hz tokenizer, which no released Base checkpoint
uses; gradio belongs to its demo. torchaudio from the package index may link another CUDA than the torch beside it, and
then its import fails (DESIGN.md fact 25). Of librosa, which brings 400 MB, it uses three
functions: those of `serve.engines.dsp`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from serve.engines import dsp

# Package: the modules of it that are imported. overrides.txt leaves out these packages.
LEFT_OUT = {
    "gradio": ("gradio",),
    "librosa": ("librosa", "librosa.filters"),
    "onnxruntime": ("onnxruntime",),
    "sox": ("sox",),
    "torchaudio": ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi"),
}

# What the 12 Hz model does use of them.
PROVIDED: dict[str, dict[str, Any]] = {
    "librosa": {"load": dsp.load, "resample": dsp.resample},
    "librosa.filters": {"mel": dsp.mel},
}

touched: list[str] = []
"""Every name that was asked of a stub: empty, or something uses what the 12 Hz path must not."""


class LeftOutError(RuntimeError):
    """A package that images leave out was used."""


class _Stub(ModuleType):
    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # the import system and introspection ask for these; absence is the right answer
            raise AttributeError(name)
        touched.append(f"{self.__name__}.{name}")
        raise LeftOutError(
            f"{self.__name__}.{name} was used, but this service leaves out the package"
            f" {self.__name__.partition('.')[0]}: only the 12 Hz model is supported, and it does not need that"
        )


@contextmanager
def left_out() -> Iterator[None]:
    """Within this context the left-out modules can be imported; what holds on to them fails when it uses them.

    Afterwards ``sys.modules`` is as before, so that others who look for these packages get a true answer.
    """
    stubs = {name: _Stub(name) for names in LEFT_OUT.values() for name in names}
    for name, stub in stubs.items():
        stub.__spec__ = ModuleSpec(name, None, is_package=True)
        stub.__path__ = []
        vars(stub).update(PROVIDED.get(name, {}))
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(stubs[parent], leaf, stub)
    real = {name: sys.modules[name] for name in stubs if name in sys.modules}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            sys.modules.pop(name, None)
        sys.modules.update(real)
