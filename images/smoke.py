"""``python -m images smoke``: prove images that are there: what is installed is what the lock says, and they speak."""

from __future__ import annotations

import argparse

from docker.errors import ImageNotFound

from images.baking import weighed
from images.engine import Engine, find_engine
from images.planned import Workspace, default_targets, image_tag, load_planned, split_names
from images.proving import prove_targets
from images.results import Built, report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="built targets (the default tier)")


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Smoke-test the targets' images as they are in the engine now."""
    names = split_names(args.targets) or default_targets(workspace.project.matrix.targets)
    load_planned(workspace, names)  # an unknown name and a stale lock are refused before anything runs
    engine = find_engine()
    built = [_as_built(engine, workspace, name) for name in names]
    return report(built, prove_targets(workspace, engine, built), smoked=True, as_json=args.json)


def _as_built(engine: Engine, workspace: Workspace, name: str) -> Built:
    tag = image_tag(name)
    try:
        image = engine.client.images.get(tag)
    except ImageNotFound:
        return Built(name, "failed", tag, f"engine {engine.host} has no image {tag}: build it first")
    return weighed(engine, workspace, Built(name, "built", tag, "", str(image.id)), image)
