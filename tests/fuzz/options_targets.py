"""What people type: no value of any option is a traceback, and nothing of it reaches a terminal as it came."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from matrix.cli import run
from matrix.errors import ExitCode
from matrix.shown import hidden
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.security.tools.canary import assert_inert
from wheel_resolver import cli

# Right values and people's own, from which wrong ones are made. Options that write files or ask the network are not
# here: their values are paths, and `tests/security/tools` has those.
_OPTIONS = {
    "--torch": "2.9.1+cu128,torch==2.9.*,>=2.9,<2.11,v2.9,2.12.0.dev20260401+rocm6.4",
    "--python": "3.12.3,cp312,python3.14t",
    "--cuda": "cu128,12,12.8.1,none,rocm6.4",
    "--abi": "cxx11abiTRUE,0",
    "--gpu": "NVIDIA A100-SXM4-80GB MIG 1g.10gb,RTX4090,RTX 6000,Orin (nvgpu)",
    "--arch": "sm86,9.0a,120",
    "--platform": "linux/amd64,manylinux_2_28_aarch64,win_amd64",
    "--flash-attn": "flash-attn>=2.8,<3",
    "--provider": "official,owner/name",
    "--driver": "535.247.01",
    "--glibc": "GLIBC_2.36",
    "--reuse": "measured",
    "--dtype": "torch.bfloat16",
    "--require": "fa2",
    "--matrix": "matrix/matrix.yaml",
    "--root": ".",
    "--lock": "matrix/lock.yaml",
    "--format": "requirements",
    "--timeout": "180",
}
_VERBS = {
    (): tuple(_OPTIONS)[:16],
    ("coverage",): ("--platform", "--flash-attn", "--driver", "--glibc", "--dtype", "--provider"),
    ("export",): ("--lock", "--format", "--matrix", ""),
    ("lock", "--check"): ("--matrix",),
    ("verify",): ("--timeout", "--root", ""),
}
_OFFLINE = {(), ("coverage",), ("lock", "--check")}
_FEW = ["--torch=2.9", "--python=3.12", "--cuda=12.8", "--gpu=A10G"]
_CASES = [(verb, option) for verb, options in _VERBS.items() for option in options]
_STATUSES = {int(status) for status in ExitCode}


def _value(option: str) -> st.SearchStrategy[str]:
    seeds = [_OPTIONS.get(option, "a10g").encode()]
    texts = st.one_of(mutated(seeds).map(lambda raw: raw.decode("utf-8", "replace")), st.text(max_size=40))
    return texts.map(lambda text: text.replace("\0", ""))  # no program can be given one


_LINES = st.sampled_from(_CASES).flatmap(lambda case: st.tuples(st.just(case), _value(case[1])))


def check_option(case: tuple[tuple[tuple[str, ...], str], str]) -> None:
    """A command line with this value ends with a status of CONTRACTS; what it says is inert."""
    (verb, option), value = case
    few = [word for word in _FEW if not verb and not word.startswith(f"{option}=")]
    words = [*verb, *few, *([f"{option}={value}"] if option else ["--", value])]
    if verb in _OFFLINE:
        words.append("--offline")
    out, err, hook = io.StringIO(), io.StringIO(), os.environ.get("WHEELWRIGHT_CACHE")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.environ["WHEELWRIGHT_CACHE"] = folder
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = run(lambda: cli.main(words))
        except SystemExit as ended:  # argparse's own
            status = int(ended.code or 0)
        finally:
            if hook is None:
                del os.environ["WHEELWRIGHT_CACHE"]
            else:
                os.environ["WHEELWRIGHT_CACHE"] = hook
        assert not list(Path(folder).glob("*.tmp"))
    assert status in _STATUSES, (status, words)
    told = out.getvalue() + err.getvalue()
    assert "Traceback" not in told, told[-400:]
    assert_inert(told)
    assert all(hidden(line) is None for line in told.splitlines()), told[-400:]


TARGETS = (Target("options", _LINES, check_option, examples=400),)
