"""PyTorch's index and flash-attention's files at its tags, made from what ``compat.yaml`` says of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from matrix import Compat
from tests.resolver_http.conftest import Upstream

REPOSITORY = "/repos/Dao-AILab/flash-attention"


def torch_names(compat: Compat) -> list[str]:
    """The files of every build that compat.yaml knows to exist, and some that are not ours."""
    names = ["torch-2.9.1+cu128-cp312-cp312-win_amd64.whl", "torch-2.9.1+rocm6.4-cp312-cp312-manylinux_2_28_x86_64.whl",
             "torch-2.9.1+cpu-cp312-cp312-manylinux_2_28_x86_64.whl", "torch-1.13.1+cu117-cp310-cp310-linux_x86_64.whl",
             "torch-2.16.0.dev20260901+cu132-cp312-cp312-manylinux_2_28_x86_64.whl", "torch-2.9.1.tar.gz"]  # fmt: skip
    for facts in compat.torch.values():
        inferred = compat.data["torch"][facts.minor].get("cuda_inferred", [])
        tag = "linux" if facts.manylinux == "manylinux1" else facts.manylinux
        names += [
            f"torch-{patch}+{cuda.tag}-{python.tag.removesuffix('t')}-{python.tag}-{tag}_{platform.removeprefix('linux_')}.whl"
            for patch in facts.patches
            for platform in compat.platforms
            for cuda in facts.cuda
            if compat.ships(patch, cuda, platform) and str(cuda) not in inferred
            for python in compat.pythons(patch)
        ]
    return names


def serve_torch(upstream: Upstream, names: Iterable[str], path: str = "/whl/torch/") -> None:
    """A page of the index, as PyTorch's looks."""
    rows = [f'<a href="/whl/x/{name.replace("+", "%2B")}#sha256={"0" * 64}">{name}</a><br/>' for name in names]
    upstream.pages[path] = (200, {}, ("<!DOCTYPE html><html><body>\n" + "\n".join(rows) + "</body></html>").encode())


def serve_tags(upstream: Upstream, recipes: Mapping[str, Mapping[str, Any]], form: str = "below 12") -> None:
    """The releases, and each tag's workflow and setup.py."""
    upstream.releases(1, [{"tag_name": tag, "assets": []} for tag in [*reversed(recipes), "fa4-v4.0.0", "v2.5.9"]])
    for tag, row in recipes.items():
        files = {"setup.py": setup_py(row)}
        if form == "available":
            files |= {
                ".github/workflows/publish.yml": workflow(row, ""),
                ".github/workflows/_build.yml": table(row, form),
            }
        else:
            files[".github/workflows/publish.yml"] = workflow(row, table(row, form))
        for path, text in files.items():
            body = {"encoding": "base64", "content": base64.encodebytes(text.encode()).decode()}
            upstream.pages[f"{REPOSITORY}/contents/{path}?ref={tag}"] = (200, {}, json.dumps(body).encode())


def workflow(row: Mapping[str, Any], line: str) -> str:
    """A workflow in the form of flash-attention's own."""

    def listed(values: Iterable[str]) -> str:
        return ", ".join(f"'{value}'" for value in values)

    return f"""# builds wheels
on:
  create:
    tags: [v*]
jobs:
  setup_release:
    runs-on: ubuntu-latest
    steps: [{{run: echo}}]
  build_wheels:
    runs-on: ${{{{ matrix.os }}}}
    strategy:
      matrix:
          os: [{row["runner"]}]
          python-version: [{listed(row["python"])}]
          torch-version: [{listed(row["torch"])}]
          cuda-version: [{listed(row["toolkits"])}]
          cxx11_abi: ['FALSE', 'TRUE']
    steps:
      - run: |
          export TORCH_CUDA_VERSION=$(python -c "{line}")
"""


def table(row: Mapping[str, Any], form: str) -> str:
    """The line that picks the build of torch."""
    known = {".".join(torch.split(".")[:2]): [int(cuda.replace(".", "")) for cuda in cudas]
             for torch, cudas in row["torch"].items() if cudas}  # fmt: skip
    if form == "available":
        rows = [f"    '{minor}': [118, {', '.join(map(str, sorted(set(cudas))))}]" for minor, cudas in known.items()]
        listed = ", \\\n".join(rows)
        return f"jobs: {{}}\nrun: |\n  available = {{ \\\n{listed} \\\n  }}[env['MATRIX_TORCH_VERSION']]; \\\n"
    least = {minor: min(cudas) for minor, cudas in known.items()}
    most = {minor: max(cudas) for minor, cudas in known.items()}
    picked = (
        "print(max(min(int(env['MATRIX_CUDA_VERSION']), maxv), minv))"
        if form == "clamped"
        else "print(minv if int(env['MATRIX_CUDA_VERSION']) < 120 else maxv)"
    )
    return f"minv = {least}[env['MATRIX_TORCH_VERSION']]; maxv = {most}[env['MATRIX_TORCH_VERSION']]; {picked}"


def setup_py(row: Mapping[str, Any]) -> str:
    """What setup.py says of architectures and compression."""
    archs = [capability.replace(".", "") for capability in row["archs"]]
    if archs == ["80", "90"]:
        text = '# cc_flag.append("arch=compute_75,code=sm_75")\n'
        text += "".join(f'cc_flag.append("arch=compute_{arch},code=sm_{arch}")\n' for arch in archs)
    else:
        text = f'return os.getenv("FLASH_ATTN_CUDA_ARCHS", "{";".join(archs)}").split(";")\n'
    return text + ('"-compress-mode=size",\n' if row.get("compressed") else '# "--compress-mode=size",\n')
