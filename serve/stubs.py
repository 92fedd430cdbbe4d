"""Names that qwen-tts imports and the 12 Hz model never uses, so that their packages need not be installed.

``import qwen_tts`` imports sox, onnxruntime and torchaudio for its 25 Hz tokenizer, which no released Base checkpoint
uses; gradio belongs to its demo. torchaudio from the package index may link another CUDA than the torch beside it, and
then its import fails (DESIGN.md fact 25). numba is installed, for librosa, but need not compile anything.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

# Package: the modules of it that are imported. overrides.txt leaves out exactly these packages.
LEFT_OUT = {
    "gradio": ("gradio",),
    "onnxruntime": ("onnxruntime",),
    "sox": ("sox",),
    "torchaudio": ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi"),
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
            f" {self.__name__.partition('.')[0]}: only the 12 Hz model is supported, and it needs none of it"
        )


class _Numba(ModuleType):
    """numba's decorators as librosa uses them, bare or with arguments; what they decorate raises when it is called."""

    uint32 = "uint32"  # librosa names it in a default, as a dtype

    def __init__(self) -> None:
        super().__init__("numba")
        self.jit = self.guvectorize = self.vectorize = self.stencil = self._decorator

    @staticmethod
    def _decorator(*arguments: Any, **_options: Any) -> Any:
        def decorate(function: Callable[..., Any]) -> Callable[..., NoReturn]:
            def uncompiled(*_args: Any, **_kwargs: Any) -> NoReturn:
                touched.append(f"{function.__module__}.{function.__qualname__}")
                raise LeftOutError(
                    f"{function.__module__}.{function.__qualname__} was called, but this service imports librosa"
                    " without compiling it: resample and filters.mel need no compiled function"
                )

            return uncompiled

        bare = len(arguments) == 1 and inspect.isfunction(arguments[0])
        return decorate(arguments[0]) if bare else decorate


@contextmanager
def uncompiled_numba() -> Iterator[None]:
    """Within this context an import of librosa compiles nothing; afterwards numba is the real one for everyone else.

    librosa compiles some twenty functions while it is imported: 12 s, or a folder to cache them in, and where there
    is none (a user without a home, a read-only image) the import fails. qwen-tts calls none of them.
    """
    if "numba" in sys.modules:
        yield
        return
    sys.modules["numba"] = _Numba()
    try:
        yield
    finally:
        del sys.modules["numba"]


@contextmanager
def left_out() -> Iterator[None]:
    """Within this context the left-out modules can be imported; what holds on to them fails when it uses them.

    Afterwards they are gone from ``sys.modules``, so that others who look for these packages get a true answer.
    A package that something imported before is left alone.
    """
    stubs = {name: _Stub(name) for package, names in LEFT_OUT.items() if package not in sys.modules for name in names}
    for name, stub in stubs.items():
        stub.__spec__ = ModuleSpec(name, None, is_package=True)
        stub.__path__ = []
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(stubs[parent], leaf, stub)
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            sys.modules.pop(name, None)
