"""The values of ``matrix.yaml`` as people write them, made canonical: what the rest reads has one form each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from matrix.compat import Compat
from matrix.document import Document, KeyPath
from matrix.known import cudas_of, gpu_error, newest_patch, of_range
from matrix.torch_asked import TorchAsked, flash_attn_range
from matrix.values import Abi, Cuda, PythonVersion
from matrix.words import platform_of

#: What an image has is a release, with its patch.
_FULL = 3


def make_canonical(document: Document, data: dict[str, Any], compat: Compat) -> None:
    """Rewrite axes, exclusions and targets, in place.

    Raises:
        DataError: a value is none of its kind, or means several where one is meant.
    """
    reader = _Reader(document, compat)
    axes = data["axes"]
    for axis, read in reader.of_axes.items():
        axes[axis] = [value for index, text in enumerate(axes[axis]) for value in read(("axes", axis, index), text)]
    for index, row in enumerate(data.get("exclude", [])):
        reader.one_each(("exclude", index, "match"), row["match"], ("python", "torch", "cuda", "gpu", "platform"))
    for name, row in data["targets"].items():
        at: KeyPath = ("targets", name)
        reader.build_named(at, row)
        reader.one_each(at, row, ("python", "torch", "cuda", "platform"))
        row["gpus"] = [reader.gpu((*at, "gpus", index), text) for index, text in enumerate(row["gpus"])]
        if row["flash_attn"] is not None:
            row["flash_attn"] = reader.flash_attn((*at, "flash_attn"), row["flash_attn"])


class _Reader:
    """Reads the values of a document, and refuses them where they stand."""

    def __init__(self, document: Document, compat: Compat) -> None:
        self._document = document
        self._compat = compat
        self.of_axes: dict[str, Callable[[KeyPath, str], Iterable[str]]] = {
            "python": lambda keys, text: [self.python(keys, text)],
            "torch": self._torches,
            "cuda": self._cudas,
            "abi": self._abis,
            "gpu": lambda keys, text: [self.gpu(keys, text)],
            "platform": lambda _keys, text: [platform_of(text)],
        }
        self._single: dict[str, Callable[[KeyPath, str], str]] = {
            "python": self.python,
            "torch": self.torch,
            "cuda": self._cuda,
            "gpu": self.gpu,
            "platform": lambda _keys, text: platform_of(text),
        }

    def one_each(self, at: KeyPath, row: dict[str, Any], names: Iterable[str]) -> None:
        """Read the values that a row has under these names."""
        for name in names:
            if name in row:
                row[name] = self._single[name]((*at, name), row[name])

    def build_named(self, at: KeyPath, row: dict[str, Any]) -> None:
        """A target's torch may name its build (``2.9.1+cu128``), which must be the target's CUDA."""
        torch = self._read((*at, "torch"), row["torch"], TorchAsked.parse)
        if torch.version is not None and len(torch.version.release) < _FULL:
            newest = newest_patch(str(torch.version), self._compat)
            raise self._document.error(
                (*at, "torch"), f"{row['torch']!r} is not a full torch version such as 2.9.1", remedy=f"write {newest}"
            )
        if torch.cuda is not None:
            if str(torch.cuda) != self._cuda((*at, "cuda"), row["cuda"]):
                raise self._document.error(
                    (*at, "torch"),
                    f"{row['torch']!r} names another build than cuda: {row['cuda']}",
                    remedy=f"write {torch.version} here, and its CUDA under cuda",
                )
            row["torch"] = str(torch.version)

    def python(self, keys: KeyPath, text: str) -> str:
        """One Python."""
        return str(self._read(keys, text, PythonVersion.parse))

    def torch(self, keys: KeyPath, text: str) -> str:
        """One torch, a minor or a patch."""
        torch = self._read(keys, text, TorchAsked.parse)
        if torch.range is not None:
            remedy = "write one, such as 2.9.1"
            raise self._document.error(keys, f"{text!r} is a range, and one torch is meant here", remedy=remedy)
        if torch.local:
            raise self._document.error(
                keys, f"{text!r} names a build; its CUDA stands apart", remedy=f"write {torch.version}"
            )
        return str(torch.version)

    def gpu(self, keys: KeyPath, text: str) -> str:
        """One GPU, as compat.yaml calls it."""
        name = self._compat.gpu_name(text)
        if name is None:
            what, remedy = gpu_error(text, self._compat)
            raise self._document.error(keys, f"{text!r} is {what}", remedy=remedy)
        return name

    def flash_attn(self, keys: KeyPath, text: str) -> str:
        """A range of flash-attn's versions."""
        (wanted,) = self._read(keys, text, lambda given: flash_attn_range([given]))
        return text if text.startswith(("<", ">", "=", "!", "~")) else str(wanted)

    def _torches(self, keys: KeyPath, text: str) -> list[str]:
        torch = self._read(keys, text, TorchAsked.parse)
        if torch.range is None:
            return [self.torch(keys, text)]
        found = of_range(torch.range, self._compat)
        if not found:
            raise self._document.error(keys, f"no torch that compat.yaml knows is in {text!r}")
        return [str(version) for version in found]

    def _cudas(self, keys: KeyPath, text: str) -> list[str]:
        return [str(cuda) for cuda in cudas_of(text, self._compat)] or [self._cuda(keys, text)]

    def _cuda(self, keys: KeyPath, text: str) -> str:
        return str(self._read(keys, text, Cuda.parse))

    def _abis(self, keys: KeyPath, text: str) -> list[str]:
        return [text if text == "derived" else str(self._read(keys, text, Abi.parse))]

    def _read(self, keys: KeyPath, text: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise self._document.error(keys, str(error)) from None
