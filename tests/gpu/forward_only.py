"""Make a source archive of flash-attn that compiles in minutes: the forward kernels of a few head sizes, and no others.

    python tests/gpu/forward_only.py flash_attn-2.8.3.post2.tar.gz out/ --dims 64,128

Reads the released archive, leaves the kernels of other head sizes and of the backward pass out of its list of sources,
and has the dispatch refuse what is left out. Everything else is as released: its build script runs as it is.
"""

from __future__ import annotations

import argparse
import io
import re
import tarfile
from pathlib import Path

_SWITCH = "csrc/flash_attn/src/static_switch.h"
_API = "csrc/flash_attn/flash_api.cpp"
_REFUSE = 'TORCH_CHECK(false, "this build of flash-attn has the forward kernels of a few head sizes only");'


def trim_sources(setup: str, dims: list[int]) -> str:
    """Leave the kernels of other head sizes, and all of the backward pass, out of ``setup.py``."""
    lines = []
    for line in setup.splitlines(keepends=True):
        kernel = re.search(r"flash_(fwd|fwd_split|bwd)_hdim(\d+)_", line)
        if kernel is None or (kernel[1] != "bwd" and int(kernel[2]) in dims):
            lines.append(line)
    return "".join(lines)


def trim_dispatch(header: str, dims: list[int]) -> str:
    """Let ``HEADDIM_SWITCH`` know these head sizes; a smaller one takes the next, a larger one is an error."""
    branches = "".join(
        f"    if (HEADDIM <= {dim}) {{ constexpr static int kHeadDim = {dim}; return __VA_ARGS__(); }} \\\n"
        for dim in dims
    )
    return _replace(
        header,
        r"(#define HEADDIM_SWITCH\(HEADDIM, \.\.\.\) *\\\n *\[&\] \{ *\\\n)(?:.*\\\n)*? *\}\(\)",
        lambda found: f"{found[1]}{branches}    {_REFUSE} \\\n  }}()",
    )


def trim_backward(api: str) -> str:
    """Let the backward pass be an error."""
    pattern = r"(void run_mha_bwd\(Flash_bwd_params &params, cudaStream_t stream\) \{\n)(?:.*\n)*?(?=\})"
    return _replace(api, pattern, lambda found: f"{found[1]}    {_REFUSE}\n")


def _replace(text: str, pattern: str, make: object) -> str:
    changed, count = re.subn(pattern, make, text, count=1)  # type: ignore[call-overload]
    if count != 1:
        raise SystemExit(f"not the source that this was written for: {pattern!r} is not in it")
    return str(changed)


def trim_archive(archive: Path, folder: Path, dims: list[int]) -> Path:
    """Write the trimmed archive under the same name into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    changes = {
        "setup.py": lambda text: trim_sources(text, dims),
        _SWITCH: lambda text: trim_dispatch(text, dims),
        _API: trim_backward,
    }
    target = folder / archive.name
    with tarfile.open(archive) as source, tarfile.open(target, "w:gz") as trimmed:
        for member in source:
            file = source.extractfile(member) if member.isfile() else None
            content = file.read() if file else b""
            if change := changes.pop(member.name.partition("/")[2], None):
                content = change(content.decode()).encode()
            member.size = len(content)
            trimmed.addfile(member, io.BytesIO(content))
    if changes:
        raise SystemExit(f"{archive} has no {', '.join(changes)}")
    return target


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="make a source archive of flash-attn that compiles in minutes")
    parser.add_argument("archive", type=Path, help="flash_attn-VERSION.tar.gz, as released")
    parser.add_argument("folder", type=Path, help="where the trimmed one goes, under the same name")
    parser.add_argument("--dims", default="64,128", help="head sizes (64,128)")
    args = parser.parse_args()
    print(trim_archive(args.archive, args.folder, sorted(map(int, args.dims.split(",")))))


if __name__ == "__main__":
    main()
