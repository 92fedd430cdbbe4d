"""``python -m wheel_resolver export``: a locked wheel as a text that pip and uv install, checked by its sha256.

    flash-attn @ https://.../flash_attn-2.8.3%2Bcu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl#sha256=4e2f...

A direct URL, because pip refuses the file from an index or ``--find-links``: its name says ``2.8.3+cu12...`` and its
metadata ``2.8.3``. The digest stands in the URL and not in ``--hash=``: one ``--hash=`` in a file makes pip demand a
hash of every other line too, and in ``--require-hashes`` mode both tools take the URL's.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urldefrag

from matrix.cli import Parser, say, tell, tell_json
from matrix.document import display_name
from matrix.errors import DataError, ExitCode, UsageError, WheelwrightError
from wheel_resolver.fetching.fetch import cached
from wheel_resolver.files import write_atomic
from wheel_resolver.lock import LockedTarget, LockedWheel
from wheel_resolver.locked.export_forms import FORMS, Export, text
from wheel_resolver.locked.pinned import Pinned, fresh, pinned_wheels, without_wheel
from wheel_resolver.places import add_lock, places

#: What pip and uv take for a lock file (PEP 751).
_PYLOCK = re.compile(r"pylock\.([^.]+\.)?toml")


def main(argv: Sequence[str]) -> int:
    """Run ``export`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    output: Path | None = options.output
    if output is not None and options.format == "pylock" and not _PYLOCK.fullmatch(output.name):
        raise UsageError(
            f"{display_name(output)}: pip and uv take no lock file of this name",
            remedy="name it pylock.toml or pylock.NAME.toml",
        )
    if options.local and options.format == "uv":
        raise UsageError(
            "uv checks no digest of a file of this machine that stands in [tool.uv.sources]",
            remedy="leave --local out, or take --format requirements or pylock",
        )
    targets = fresh(places(options), options.target)
    pins = pinned_wheels(targets)
    for target in targets:
        if target.wheel is None and (options.target or not pins):
            say(without_wheel(target))
    if len(pins) > 1:
        raise UsageError(
            "the targets have different wheels: "
            + "; ".join(f"{', '.join(pin.targets)}: {pin.wheel.name}" for pin in pins),
            remedy="name one of them: python -m wheel_resolver export TARGET",
        )
    export = _export(pins[0], targets, local=options.local) if pins else None
    written = None if export is None else text(export, options.format)
    if written is not None and output is not None:
        _write(output, written)
    if options.json:
        lines = [] if export is None else [export.requirement]
        tell_json(_report(targets, lines) | {"format": options.format, "text": written})
    elif written is not None and output is None:
        tell(written)
    return ExitCode.NEGATIVE if export is None else ExitCode.OK


def _export(pin: Pinned, targets: Sequence[LockedTarget], *, local: bool) -> Export:
    url = _local_url(pin.wheel) if local else urldefrag(pin.wheel.url).url
    return Export(pin.wheel, url, pin.targets, next(target for target in targets if target.name in pin.targets))


def _write(path: Path, written: str) -> None:
    try:
        write_atomic(path, written + "\n")
    except OSError as error:
        raise DataError(f"{display_name(path)}: cannot be written: {error.strerror}") from None
    say(f"{display_name(path)}: written")


def _local_url(wheel: LockedWheel) -> str:
    """The file in the cache. Its ``+`` stays: uv refuses a file that was saved as ``%2B``."""
    path = cached(wheel.sha256, wheel.name)
    if path is None:
        raise WheelwrightError(
            f"{wheel.name} is not in the cache", remedy="fetch it first: python -m wheel_resolver fetch"
        )
    return "file://" + quote(str(path.resolve()), safe="/+")


def _report(targets: Sequence[LockedTarget], lines: Sequence[str]) -> dict[str, object]:
    return {
        "schema": 1,
        "requirements": list(lines),
        "targets": {
            target.name: {
                "attention": target.attention,
                "reason": target.reason,
                "wheel": target.wheel.name if target.wheel else None,
                "sha256": target.wheel.sha256 if target.wheel else None,
            }
            for target in targets
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m wheel_resolver export",
        description="Print a locked wheel in a form that pip and uv install and check by its sha256.",
        epilog="Exit codes: 0 done, 1 no wheel (the reason stands on stderr), 2 usage or data.",
    )
    parser.add_argument("target", nargs="*", metavar="TARGET", help="whose wheel; all targets, if they share one")
    parser.add_argument(
        "--format",
        choices=tuple(FORMS),
        default="requirements",
        help="a requirements file (default), [tool.uv.sources] for pyproject.toml, a pylock.toml (PEP 751), "
        "a line of a Dockerfile or of a shell",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there, whole or not at all")
    parser.add_argument("--local", action="store_true", help="the file in the cache instead of its URL")
    add_lock(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
