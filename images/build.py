"""``python -m images build``: build targets, and with ``--smoke`` prove them."""

from __future__ import annotations

import argparse

from images.bake import BuildOptions
from images.baking import build_targets
from images.bases import MODES
from images.caches import parse_cache
from images.engine import find_engine
from images.planned import Workspace, load_planned, split_names
from images.proving import prove_targets
from images.results import report
from images.secret_folder import end_as_ctrl_c
from matrix import COMPRESSIONS, Export
from matrix.cli import path_of
from matrix.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="targets to build (the default tier)")
    parser.add_argument("--base", choices=MODES, default="auto", help="where base images come from")
    parser.add_argument("--no-cache", action="store_true", help="build every layer anew")
    parser.add_argument("--builder", metavar="NAME", help="a buildx builder (the one in use)")
    for way, verb in (("from", "read"), ("to", "write")):
        parser.add_argument(
            f"--cache-{way}",
            action="append",
            default=[],
            metavar="CACHE",
            help=f"a remote cache to {verb}: type=registry,ref=HOST/REPOSITORY, type=gha or type=local,path=FOLDER",
        )
    parser.add_argument(
        "--export", type=path_of, metavar="FOLDER", help="write each image as FOLDER/TARGET.oci.tar too"
    )
    parser.add_argument(
        "--compression",
        choices=tuple(COMPRESSIONS),
        help="of the layers (what the matrix says); engines before 23.0 read gzip only",
    )
    parser.add_argument("--level", type=int, help="of the compression: 1 to 22 for zstd, 1 to 9 for gzip")
    parser.add_argument("--smoke", action="store_true", help="smoke-test what was built")


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Build the targets; the exit status is 1 when one of them is not there, or is not proven."""
    end_as_ctrl_c()
    names = split_names(args.targets)
    load_planned(workspace, names)  # an unknown name and a stale lock are refused before anything runs
    engine = find_engine(args.builder)
    options = BuildOptions(
        base=args.base,
        cached=not args.no_cache,
        builder=args.builder,
        context=engine.context,
        cache_from=tuple(map(parse_cache, args.cache_from)),
        cache_to=tuple(map(parse_cache, args.cache_to)),
        packing=_packing(args, workspace.project.matrix.export),
        export=None if args.export is None else workspace.writable(args.export),
    )
    built = build_targets(workspace, engine, names, options)
    proofs = prove_targets(workspace, engine, built) if args.smoke else []
    return report(built, proofs, smoked=args.smoke, as_json=args.json)


def _packing(args: argparse.Namespace, default: Export) -> Export:
    compression = args.compression or default.compression
    facts = COMPRESSIONS[compression]
    level = args.level or (default.level if compression == default.compression else facts.usual)
    allowed = facts.levels
    if level not in allowed:
        raise UsageError(
            f"--level {level}: {compression} has levels {allowed[0]} to {allowed[-1]}", remedy="choose one"
        )
    return Export(compression, level)
