"""No text of a lock makes a traceback: it is read, or refused with its line."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from matrix.errors import DataError, ExitCode
from wheel_resolver import lock

TEXT = lock.LOCK_FILE.read_text(encoding="utf-8")
SCRIBBLES = ["!!int x", "? ", "- ", "|", '"', "{[", "null", '"\\ud800"', "file:///etc/passwd", "../../x.whl", "9" * 400]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_lock_makes_a_traceback(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(TEXT)))
    end = data.draw(st.integers(start, min(len(TEXT), start + 40)))
    scribble = data.draw(st.one_of(st.text(max_size=12), st.sampled_from(SCRIBBLES)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lock.yaml"
        path.write_bytes((TEXT[:start] + scribble + TEXT[end:]).encode("utf-8", "surrogatepass"))
        try:
            read = lock.read(path)
        except DataError as error:
            status = error.exit_code
        else:
            status = ExitCode.USAGE
            assert all(len(target.hash()) == 64 for target in read.targets.values())
    assert status == ExitCode.USAGE
