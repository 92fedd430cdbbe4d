"""``matrix/schema.json`` is fresh, and judges structure exactly as the loader does."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix import DATA_DIR
from matrix.__main__ import main
from matrix.document import read_document
from matrix.errors import DataError
from matrix.matrix_file import SPEC
from matrix.spec import read

SCHEMA = json.loads((DATA_DIR / "schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
REAL: dict[str, Any] = yaml.safe_load((DATA_DIR / "matrix.yaml").read_text(encoding="utf-8"))
REAL["providers"] = [
    {"name": "community", "kind": "github", "repository": "someone/wheels", "because": "b", "source": "s"},
    {"name": "page", "kind": "index", "url": "https://wheels.example/simple/", "because": "b", "source": "s"},
]

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.sampled_from(
        [1.0, 3.1, 2.9, float("inf"), "3.10", "2.9.1", "12.8", "cpu", "sdpa", "slim", "derived", "T4", "", " "]
    ),
    st.sampled_from(
        ["3.12\n", "a10g", "A10G", ">=2.8", ">=2.8,<3", "=>2", "no", "2026-08-15", "Qwen/x", "x" * 70, [], {}]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8),
    st.lists(st.sampled_from(["3.12", "T4", "cpu", "1"]), max_size=3),
    st.dictionaries(st.sampled_from(["match", "because", "python", "x"]), st.just("3.12"), max_size=2),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found += places(child, (*at, key))
    return found


PLACES = [place for place in places(REAL) if place]


def loader_accepts(data: Any) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.yaml"
        path.write_text(yaml.dump(data, Dumper=_Plain, allow_unicode=True, sort_keys=False), encoding="utf-8")
        if path.read_text(encoding="utf-8").strip() in {"null", "null\n..."}:
            return False
        try:
            read(read_document(path), SPEC)
        except DataError:
            return False
        return True


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_the_schema_is_fresh() -> None:
    assert main(["schema", "--check"]) == 0


def test_both_accept_the_real_matrix() -> None:
    assert loader_accepts(REAL)
    assert VALIDATOR.is_valid(REAL)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_loader_and_schema_judge_alike(data: st.DataObject) -> None:
    document = copy.deepcopy(REAL)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(PLACES))
        parent: Any = document
        try:
            for key in place[:-1]:
                parent = parent[key]
            _mutate(parent, place[-1], data)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier mutation took the place away
    assert loader_accepts(document) == VALIDATOR.is_valid(document)


def _mutate(parent: Any, key: Any, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["replace", "delete", "add"]))
    if kind == "replace":
        parent[key] = data.draw(JUNK)
    elif kind == "delete":
        del parent[key]
    elif isinstance(parent, dict):
        parent[data.draw(st.sampled_from(["tier", "x", "teir", "A", "a b", "new", "match"]))] = data.draw(JUNK)
    else:
        parent.append(data.draw(JUNK))
