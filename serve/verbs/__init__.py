"""What `python -m serve` can do besides serving: one verb a module, each with ``main(arguments) -> exit status``.

`VERBS` is the table; a verb is imported when it is asked for, so that none waits for another's packages.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: where it is (``module:function``) and what it does, in a line of the help."""

    place: str
    meaning: str


VERBS: Mapping[str, Verb] = {
    "client": Verb("serve.verbs.client:main", "ask a service from the shell, and write what it answers to a file"),
    "config": Verb("serve.verbs.config:main", "print the settings in force, and where each came from"),
    "download": Verb("serve.verbs.download:main", "fetch a model, so that the service starts without a network"),
    "verify": Verb("serve.verbs.verify:main", "compare a checkpoint with the digests that `download` wrote"),
    "voices": Verb("serve.verbs.voices:main", "back voices up and restore them; decide on audio without an owner"),
}


def run_verb(name: str, arguments: Sequence[str]) -> int:
    """Run a verb; returns the exit status."""
    module, _, function = VERBS[name].place.partition(":")
    main: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), function)
    return main(arguments)
