"""``python -m wheel_resolver verify``: what a wheel really is, which cells it serves, and whether it loads here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from matrix import Project, load_project, tree
from matrix.cli import Parser, path_of, tell, tell_json
from matrix.errors import ExitCode, UsageError
from wheel_resolver.asking.host import read_host
from wheel_resolver.inside.inspection import remember_loading
from wheel_resolver.inside.loading import TIMEOUT_S
from wheel_resolver.inside.loads_here import LoadsHere, installed_loads, wheel_loads
from wheel_resolver.inside.verify_text import Report, render, to_json
from wheel_resolver.inside.verifying import Contradiction, contradictions, served
from wheel_resolver.inside.wheel_inside import Inside, look_inside
from wheel_resolver.lock import read
from wheel_resolver.locked.inputs import require_fresh
from wheel_resolver.locked.pinned import pinned_wheels
from wheel_resolver.locked.watch_cli import shipped_catalogue
from wheel_resolver.places import add_lock, places
from wheel_resolver.upstream.source import Mode, load_catalogue


def main(argv: Sequence[str]) -> int:
    """Run ``verify`` with its options; the result is an exit status of CONTRACTS."""
    options = _parser().parse_args(argv)
    if options.wheel is None and (not options.env or options.really):
        what = "--import needs a WHEEL" if options.env else "there is nothing to verify"
        raise UsageError(what, remedy="name a wheel's file, or give --env for the flash-attn of this Python")
    if options.really and not options.env:
        raise UsageError("--import needs --env", remedy="it runs the wheel's code here: say so with both")
    where = places(options)
    project = load_project(where.matrix)
    inside = None if options.wheel is None else look_inside(options.wheel)
    found: tuple[Contradiction, ...] = ()
    known: tuple[str, ...] = ()
    if inside is not None:
        known, digests = provenance(inside, project, where.lock)
        found = (*contradictions(inside), *digests)
    host = read_host(sys.executable) if options.env else None
    here: LoadsHere | None = None
    if host is not None and inside is not None:
        here = wheel_loads(inside, host, project, really=options.really, timeout_s=options.timeout)
        if options.really and here.loads and host.torch is not None:
            where_loaded = f"Python {host.python}, torch {host.torch.version}"
            remember_loading(inside.path.name, inside.sha256, where_loaded)
    elif host is not None:
        loaded = load_catalogue(
            project.compat,
            Mode.OFFLINE,
            environment=os.environ,
            now=datetime.now(UTC),
            providers=project.matrix.providers,
        )
        here = installed_loads(host, project, loaded.catalogue, timeout_s=options.timeout)
    report = Report(inside, known, found, served(inside, project) if inside else None, host, here)
    if options.json:
        tell_json(to_json(report))
    else:
        tell(render(report))
    bad = found or (inside is not None and (inside.faults or inside.dangers)) or (here is not None and not here.loads)
    return ExitCode.NEGATIVE if bad else ExitCode.OK


def provenance(inside: Inside, project: Project, lock_file: Path) -> tuple[tuple[str, ...], tuple[Contradiction, ...]]:
    """Who knows this file by its digest, and who knows another file of its name."""
    name, known, other = inside.path.name, [], []
    digests = {wheel.filename: (wheel.sha256, wheel.provider) for wheel in shipped_catalogue(project.compat).wheels}
    if name in digests:
        sha256, provider = digests[name]
        if sha256 is None:
            known.append(f"listed by {provider}, without a digest")
        elif sha256 == inside.sha256:
            known.append(f"the file that {provider} lists")
        else:
            other.append(Contradiction("digest", f"{sha256} (as {provider} lists it)", inside.sha256))
    entries = read(lock_file).targets.values() if tree.exists(lock_file) else ()
    require_fresh((each for each in entries if each.wheel is not None and each.wheel.name == name), project, lock_file)
    for pin in pinned_wheels(entries):
        if pin.wheel.name == name and pin.wheel.sha256 == inside.sha256:
            known.append(f"locked for {', '.join(pin.targets)}")
        elif pin.wheel.name == name and pin.wheel.sha256 != digests.get(name, ("", ""))[0]:
            other.append(Contradiction("digest", f"{pin.wheel.sha256} (in the lock)", inside.sha256))
    return tuple(known) or ("to no list of ours",), tuple(other)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 3600")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m wheel_resolver verify",
        description="Look inside a wheel: what it is, which targets and cells it serves, what contradicts its name.",
        epilog="Exit codes: 0 as it says (and loads here), 1 a contradiction, a damaged or dangerous file, or does not "
        "load, 2 no wheel, or usage.",
    )
    parser.add_argument("wheel", nargs="?", type=path_of, metavar="WHEEL", help="a wheel's file")
    parser.add_argument(
        "--env", action="store_true", help="will it (or the installed flash-attn) load beside the torch of this Python?"
    )
    parser.add_argument(
        "--import",
        dest="really",
        action="store_true",
        help="with WHEEL and --env: import its extension in a child process; this runs the wheel's code",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=TIMEOUT_S, metavar="SECONDS", help="how long an import may take (180)"
    )
    add_lock(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
