"""What ``verify`` found, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matrix.shown import shown, some
from wheel_resolver.asking.cells_text import where
from wheel_resolver.asking.here import host_json
from wheel_resolver.asking.host import Host
from wheel_resolver.inside.loads_here import LoadsHere
from wheel_resolver.inside.shared_object import SharedObject
from wheel_resolver.inside.verifying import Contradiction, Served
from wheel_resolver.inside.wheel_inside import Inside

_WIDTH = 120
_LABEL = 12
#: A report is read by people: rows of one kind, and characters of a row. JSON has more of both.
_MOST = 20
_LONGEST = 5_000
_MOST_JSON = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run of ``verify`` found; what was not asked for is None."""

    inside: Inside | None
    known: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]
    served: Served | None
    host: Host | None
    here: LoadsHere | None


def render(report: Report) -> str:
    """Labelled lines."""
    rows = [] if report.inside is None else _wheel_rows(report.inside, report)
    if report.host is not None and report.here is not None:
        rows += _here_rows(report.host, report.here)
    return "\n".join(_row(label, text) for label, text in rows)


def _wheel_rows(inside: Inside, report: Report) -> list[tuple[str, str]]:
    found = inside.metadata
    rows = [
        ("wheel", inside.path.name),
        ("file", f"{inside.size:,} bytes, sha256 {inside.sha256}"),
        ("known", "; ".join(report.known)),
        ("metadata", f"{found.name} {found.version}; requires {some(found.requires) or 'nothing'}"),
        ("tags", some(found.tags)),
        ("installs", some(inside.installs)),
        *_many("extension", [_extension(each) for each in inside.extensions]),
        ("SASS", ", ".join(map(str, inside.sass.archs)) if inside.sass.archs else inside.sass.note),
        ("RECORD", f"{inside.files} files, each as recorded" if not inside.faults else "differs"),
        *_many("", inside.faults),
        *_many("dangerous", inside.dangers),
    ]
    if report.served is None:
        rows += [("serves", "not known: its name does not say which torch and CUDA it is for")]
    else:
        for name, refused in report.served.targets.items():
            source = " (found inside)" if refused and refused.inside else ""
            rows.append(("target", f"{name}: {f'no, {refused.rule}: {refused.detail}{source}' if refused else 'yes'}"))
        count = f"{len(report.served.cells)} of the {report.served.of} of the matrix"
        rows.append(("cells", f"{count}: {where(report.served.cells)}" if report.served.cells else count))
    return rows + _many("contradicts", [str(each) for each in report.contradictions])


def _many(label: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """A row each; of more than a page only the first, and how many more."""
    rows = [(label, text) for text in texts[:_MOST]]
    return rows + ([(label, f"... and {len(texts) - _MOST:,} more")] if len(texts) > _MOST else [])


def _extension(each: SharedObject) -> str:
    cuda = f"links the CUDA runtime {each.cuda}" if each.cuda is not None else "links no CUDA runtime"
    abi = f"C++ ABI {each.abi}" if each.abi is not None else "C++ ABI not shown"
    glibc = f"glibc {each.glibc}" if each.glibc is not None else "no glibc version"
    return f"{each.member}: {each.machine}, needs {glibc}, {cuda}, {abi}; needs {some(each.needed) or 'nothing'}"


def _here_rows(host: Host, here: LoadsHere) -> list[tuple[str, str]]:
    torch = f"torch {host.torch.version}, CUDA {host.torch.cuda}, ABI {host.torch.abi}" if host.torch else "no torch"
    glibc = f"glibc {host.glibc}" if host.glibc else "no glibc"
    rows = [("this Python", f"{host.python}, {torch}, {glibc}, {host.platform}  {host.executable}")]
    rows += [("loads here", f"{_YES_NO[here.loads]} ({here.evidence}): {here.reason}")]
    rows += [("rules", f"refuse it: {here.rules}")] if here.rules else []
    return rows + ([("install", here.install)] if here.install else [])


_YES_NO = {True: "yes", False: "no", None: "not known"}


def _row(label: str, text: str) -> str:
    text = shown(text, _LONGEST)  # a wheel's texts are not ours
    if label == "install":  # a command is for pasting
        return f"{label.ljust(_LABEL)}{text}"
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=label.ljust(_LABEL),
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
        break_long_words=False,
    )


def to_json(report: Report) -> dict[str, Any]:
    """The whole report, ready for ``json.dumps``."""
    inside, here, host = report.inside, report.here, report.host
    return {
        "schema": 1,
        "wheel": None if inside is None else _wheel_json(inside, report),
        "here": None if here is None or host is None else {**asdict(here), "host": host_json(host)},
    }


def _wheel_json(inside: Inside, report: Report) -> dict[str, Any]:
    archs = inside.sass.archs
    return {
        "name": inside.path.name,
        "path": str(inside.path),
        "size": inside.size,
        "sha256": inside.sha256,
        "known": list(report.known),
        "metadata": {
            "name": inside.metadata.name,
            "version": inside.metadata.version,
            "requires": _texts(inside.metadata.requires),
            "requires_python": inside.metadata.requires_python,
            "tags": _texts(inside.metadata.tags),
        },
        "files": inside.files,
        "extensions": [_extension_json(each) for each in inside.extensions[:_MOST_JSON]],
        "sass": {"archs": None if archs is None else list(map(str, archs)), "note": inside.sass.note},
        "faults": _texts(inside.faults),
        "dangers": _texts(inside.dangers),
        "installs": _texts(inside.installs),
        "counts": {
            "requires": len(inside.metadata.requires),
            "tags": len(inside.metadata.tags),
            "faults": len(inside.faults),
            "dangers": len(inside.dangers),
            "installs": len(inside.installs),
            "extensions": len(inside.extensions),
        },
        "contradictions": [asdict(each) for each in report.contradictions],
        "serves": None if report.served is None else _served_json(report.served),
    }


def _texts(texts: Sequence[str]) -> list[str]:
    """The first of many, none of them without end; ``counts`` has how many there are."""
    return [text[:_LONGEST] for text in texts[:_MOST_JSON]]


def _extension_json(each: SharedObject) -> dict[str, Any]:
    return {
        "member": each.member,
        "machine": each.machine,
        "needed": _texts(each.needed),
        "glibc": str(each.glibc) if each.glibc else None,
        "cuda": each.cuda,
        "abi": str(each.abi) if each.abi else None,
        "python": each.python,
    }


def _served_json(served: Served) -> dict[str, Any]:
    targets: dict[str, Any] = {name: None if why is None else asdict(why) for name, why in served.targets.items()}
    cells: Sequence[object] = served.cells
    return {
        "targets": targets,
        "cells": {"count": len(cells), "of": served.of, "where": where(served.cells) if cells else ""},
    }
