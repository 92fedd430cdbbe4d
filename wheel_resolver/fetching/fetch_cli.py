"""``python -m wheel_resolver fetch``: bring the locked wheels into the cache, checked by size and sha256."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix import load_project
from matrix.cli import Parser, say, say_error, tell, tell_json
from matrix.errors import ExitCode, WheelwrightError
from matrix.shown import shown
from wheel_resolver.fetching.fetch import cached, fetch
from wheel_resolver.fetching.progress import ProgressLine
from wheel_resolver.locked.pinned import Pinned, fresh, pinned_wheels, without_wheel
from wheel_resolver.places import add_lock, places
from wheel_resolver.upstream.logins import Logins


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What became of one wheel: its path, or the error."""

    pin: Pinned
    path: Path | None
    how: str
    error: WheelwrightError | None = None


def main(argv: Sequence[str]) -> int:
    """Run ``fetch`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    where = places(options)
    targets = fresh(where, options.target)
    for target in targets:
        if target.wheel is None and (options.target or target.source_build is not None):
            say(without_wheel(target))
    logins = Logins(os.environ, load_project(where.matrix).matrix.providers)
    done = [_one(pin, logins, offline=options.offline) for pin in pinned_wheels(targets)]
    for each in done:
        if each.error is not None:
            say_error(each.error)
    if options.json:
        tell_json({"schema": 1, "files": [_row(each) for each in done]})
    else:
        for each in done:
            if each.path is not None:
                tell(shown(str(each.path)))
    return next((int(each.error.exit_code) for each in done if each.error is not None), ExitCode.OK)


def _one(pin: Pinned, logins: Logins, *, offline: bool) -> _Fetched:
    """One wheel that fails does not stop the others."""
    wheel = pin.wheel
    label = f"{', '.join(pin.targets)}: {wheel.name}"
    try:
        if (path := cached(wheel.sha256, wheel.name)) is not None:
            say(f"{label}: in the cache")
            return _Fetched(pin, path, "cache")
        if offline:
            missing = WheelwrightError(
                f"{wheel.name} is not in the cache", remedy="fetch it without --offline, on a machine with a network"
            )
            return _Fetched(pin, None, "missing", missing)
        with ProgressLine(wheel.name) as progress:
            path = fetch(
                wheel.url,
                wheel.sha256,
                wheel.name,
                size=wheel.size,
                progress=progress,
                waiting=lambda: say(f"{wheel.name}: another process is fetching it; waiting for that"),
                logins=logins,
            )
    except WheelwrightError as error:
        return _Fetched(pin, None, "failed", error)
    say(f"{label}: fetched, {path.stat().st_size:,} bytes, sha256 as locked")
    return _Fetched(pin, path, "network")


def _row(each: _Fetched) -> dict[str, object]:
    wheel = each.pin.wheel
    return {
        "name": wheel.name,
        "targets": list(each.pin.targets),
        "sha256": wheel.sha256,
        "source": each.how,
        "path": str(each.path) if each.path else None,
        "size": each.path.stat().st_size if each.path else wheel.size,
        "error": each.error.what if each.error else None,
    }


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m wheel_resolver fetch",
        description="Bring the locked wheels into the cache, and print where they are.",
        epilog="What was cut off goes on where it ended. Exit codes: 0 done, 1 not in the cache (--offline), "
        "2 another digest than the lock's, or usage, 3 network.",
    )
    parser.add_argument("target", nargs="*", metavar="TARGET", help="whose wheels; all where none is named")
    add_lock(parser)
    parser.add_argument("--offline", action="store_true", help="open no socket: say what is there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
