"""Many cells in one line."""

from __future__ import annotations

from collections.abc import Iterable

from matrix import Cell


def where(cells: Iterable[Cell]) -> str:
    """The values of the axes that some cells have: ``Python 3.12; CUDA 12.6, 12.8; A100, A10G``."""
    rows = [(str(cell.python), str(cell.cuda), cell.gpu or str(cell.arch or "no GPU")) for cell in cells]
    python, cuda, gpu = (list(dict.fromkeys(values)) for values in zip(*rows, strict=True))
    return f"Python {', '.join(python)}; CUDA {', '.join(cuda)}; {', '.join(gpu)}"
