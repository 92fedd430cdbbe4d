"""``python -m images render``: Dockerfiles, image.json and the bake file, from the matrix and the locks.

All outputs are committed; ``--check`` proves that they are what the inputs give.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from images import graph, quoting
from images.planned import Planned, Workspace, load_planned
from images.recipe import EPOCH, Recipe, Stack
from matrix import tree
from matrix.cli import say, tell, tell_json
from matrix.difference import difference
from matrix.errors import DataError, ExitCode
from matrix.shown import shown

LABEL_PREFIX = "wheelwright."
_TEMPLATES = Path(__file__).resolve().parent.parent / "dockerfiles" / "templates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's command line."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not fresh")


def run(args: argparse.Namespace, workspace: Workspace) -> int:
    """Write what differs, or with ``--check`` print the difference."""
    outputs = render_all(load_planned(workspace), workspace.version)
    stale = _stale(outputs, workspace.rendered)
    if args.check:
        if args.json:
            tell_json({"schema": 1, "not_fresh": stale})
        else:
            _print_differences(outputs, stale, workspace)
        say(f"{len(outputs)} generated files, {len(stale)} not fresh" + (": run `make render`" if stale else ""))
        return ExitCode.NEGATIVE if stale else ExitCode.OK
    for path in stale:
        full = workspace.root / path
        if path in outputs:
            tree.write(full, outputs[path])
        else:
            tree.remove(full)
    if args.json:
        written, removed = [p for p in stale if p in outputs], [p for p in stale if p not in outputs]
        tell_json({"schema": 1, "written": written, "removed": removed})
    else:
        tell("\n".join(map(shown, stale)) or "all generated files are fresh")
    return ExitCode.OK


def render_stack(stack: Stack) -> str:
    """The Dockerfile of a stack: every layer below flash-attn. Pure, but for the template's text.

    Raises:
        DataError: a value that must not stand in a Dockerfile, or a template that is wrong.
    """
    return _render("Stack", stack=stack)


def render_image(recipe: Recipe) -> str:
    """The Dockerfile of a recipe, on its stack. Pure and raises as ``render_stack``."""
    return _render("Image", recipe=recipe, stack=recipe.stack)


def render_builder(recipe: Recipe) -> str:
    """The Dockerfile that compiles a recipe's flash-attn. Pure and raises as ``render_stack``."""
    return _render("Builder", recipe=recipe, stack=recipe.stack)


def render_toolkit(recipe: Recipe) -> str:
    """The Dockerfile of the CUDA toolkit from packages. Pure and raises as ``render_stack``."""
    return _render("Toolkit", recipe=recipe, stack=recipe.stack)


def _render(kind: str, **values: Any) -> str:
    # A template is text of the repository: in the sandbox it can write a Dockerfile, and run nothing on this machine.
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FunctionLoader(lambda name: tree.read_text(_TEMPLATES / name)),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # not HTML; every value passes a filter of images.quoting
    )
    environment.filters |= quoting.FILTERS
    environment.globals["epoch"] = EPOCH
    name = f"{kind}.Dockerfile.j2"
    try:
        return environment.get_template(name).render(values)
    except (jinja2.TemplateError, OverflowError, TypeError) as error:
        line = f":{error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        where = (error.name or name) if isinstance(error, jinja2.TemplateSyntaxError) else name
        raise DataError(f"dockerfiles/templates/{where}{line}: {error}", remedy="correct the template") from None


def labels(facts: Mapping[str, Any], version: str, description: str) -> dict[str, str]:
    """The labels that say what ``image.json`` says; a list or mapping as JSON. Date and revision come at build time."""
    flat = {
        f"{LABEL_PREFIX}{key}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in facts.items()
    }
    return flat | {
        "org.opencontainers.image.title": f"wheelwright {facts['target']}",
        "org.opencontainers.image.description": description,
        "org.opencontainers.image.version": version,
    }


def render_all(planned: Sequence[Planned], version: str) -> dict[str, str]:
    """Every generated file: path below the root -> text."""
    outputs: dict[str, str] = {}
    for item in planned:
        recipe = item.recipe
        outputs[f"{graph.RENDERED}/{recipe.stack.name}.Dockerfile"] = render_stack(recipe.stack)
        outputs[f"{graph.RENDERED}/{recipe.name}.Dockerfile"] = render_image(recipe)
        if recipe.source_build:
            outputs[f"{graph.RENDERED}/{recipe.name}.builder.Dockerfile"] = render_builder(recipe)
            outputs[f"{graph.RENDERED}/{recipe.stack.name}.toolkit.Dockerfile"] = render_toolkit(recipe)
        outputs[f"{graph.RENDERED}/{item.target.name}.image.json"] = _json(item.facts)
    labelled = {item.target.name: labels(item.facts, version, item.target.description) for item in planned}
    return outputs | {"dockerfiles/docker-bake.json": _json(graph.bake_file(planned, labelled))}


def require_fresh(planned: Sequence[Planned], workspace: Workspace) -> None:
    """Refuse to build from generated files that are not what the inputs give.

    Raises:
        DataError: names the files.
    """
    stale = _stale(render_all(planned, workspace.version), workspace.rendered)
    if stale:
        raise DataError(f"generated files are not fresh: {', '.join(stale)}", remedy="make render")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _stale(outputs: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """The files that differ, are missing, or should not be there."""
    return sorted(path for path in outputs.keys() | current.keys() if outputs.get(path) != current.get(path))


def _print_differences(outputs: Mapping[str, str], stale: Sequence[str], workspace: Workspace) -> None:
    current = workspace.rendered
    for path in stale:
        tell(difference(current.get(path, ""), outputs.get(path, ""), f"committed/{path}", f"fresh/{path}"))
