"""``python -m wheel_resolver``: ask which wheel fits, or call a verb on the answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib import import_module

from matrix import load_project
from matrix.cli import say, tell, tell_json
from matrix.errors import ExitCode
from matrix.shown import shown
from wheel_resolver.asking.answer import Answer, answer_cells, attention_of, to_json
from wheel_resolver.asking.options import VERBS, catalogue_asked, parse, parser, policy_asked, project_policy
from wheel_resolver.asking.providers import suggestions_asked
from wheel_resolver.asking.question import Asked, cells_asked, nothing_left
from wheel_resolver.asking.table import describe_catalogue, render_one, render_table, render_trace
from wheel_resolver.core.facts import Facts
from wheel_resolver.core.index import WheelIndex
from wheel_resolver.core.resolve import Unsupported
from wheel_resolver.inside.records import recorded
from wheel_resolver.places import places
from wheel_resolver.upstream.source import Loaded

#: Up to so many cells are told in sentences, more in a table.
_SENTENCES = 2


def main(argv: Sequence[str]) -> int:
    """Answer one command line; the result is an exit status of CONTRACTS."""
    if argv and argv[0] in VERBS:
        verb: Callable[[Sequence[str]], int] = import_module(f"wheel_resolver.{VERBS[argv[0]][0]}").main
        return verb(argv[1:])
    options = parse(parser(), argv)
    if options.here:
        from wheel_resolver.asking import here  # noqa: PLC0415 - a question need not wait for it

        return here.main(options)
    project = load_project(places(options).matrix)
    asked = Asked(**{axis: tuple(getattr(options, axis)) for axis in Asked.__slots__})
    expansion = cells_asked(asked, project)
    policy = policy_asked(options, project_policy(options, project))
    loaded = catalogue_asked(options, project)
    facts = Facts(project.compat, project.known_broken, recorded())
    index = WheelIndex(loaded.catalogue.wheels, facts, policy)
    answers = answer_cells(
        expansion.cells,
        index,
        suggestions_asked(options, project, index),
        explained=options.explain,
        superseded=loaded.catalogue.superseded,
    )
    for note in loaded.notes:
        say(f"note: {note}")
    if options.json:
        tell_json(to_json(loaded.catalogue, expansion.skipped, answers))
    else:
        _print_text(answers, loaded, explained=options.explain)
    if not expansion.cells:
        say(nothing_left(asked, expansion, project.compat))
    elif expansion.skipped:
        say("left out: " + "; ".join(f"{count} x {reason}" for reason, count in expansion.skipped.items()))
    return _status(answers, asked, options.require)


def _print_text(answers: Sequence[Answer], loaded: Loaded, *, explained: bool) -> None:
    if explained:
        tell("\n\n".join(render_trace(answer) for answer in answers))
        for name in loaded.catalogue.unparsed:
            tell(f"not a wheel name that we read: {json.dumps(name)}")  # quoted: it may hold control characters
        for what in loaded.catalogue.disputed:
            tell(shown(what))
    elif len(answers) <= _SENTENCES:
        for answer in answers:
            tell(render_one(answer))
    else:
        tell(render_table(answers, shutil.get_terminal_size((120, 24)).columns))
    say(describe_catalogue(loaded.catalogue))


def _status(answers: Sequence[Answer], asked: Asked, require: str | None) -> int:
    if not answers:
        return ExitCode.NEGATIVE
    if require is not None:
        unmet = [answer for answer in answers if attention_of(answer.resolution) != require]
        if unmet:
            say(f"--require {require}: not met by {len(unmet)} of {len(answers)} cells")
            return ExitCode.NEGATIVE
    if asked.names_a_cell and any(isinstance(answer.resolution, Unsupported) for answer in answers):
        return ExitCode.NEGATIVE
    return ExitCode.OK
