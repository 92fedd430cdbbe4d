"""What PyTorch's wheel index says of torch: which builds there are, by the names of their files.

A name is a claim that holds here, unlike flash-attn's: ``torch-2.9.1+cu128-cp312-cp312-manylinux_2_28_x86_64.whl`` is
what ``pip install torch==2.9.1+cu128`` takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from packaging.version import Version

from matrix.compat import minor_of
from matrix.errors import NetworkError
from matrix.origins import PYTORCH_VARIABLE
from matrix.values import Cuda, PythonVersion
from wheel_resolver.upstream.pages import NotThereError, Pages
from wheel_resolver.upstream.simple_index import MAX_LINKS, NOBODY, links_of

#: Within which all pages must come; torch's own page has some thousand links.
TIMEOUT_S = 60.0
_WHEEL = re.compile(
    r"torch-(\d{1,2}\.\d{1,3}\.\d{1,3})\+(cu\d{3})-(cp\d{2,3})-(cp\d{2,3}t?)-"
    r"(?:[a-z0-9_.]*\.)?((?:many)?linux\d*(?:_\d{1,2}_\d{1,3})?)_(x86_64|aarch64)\.whl",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, order=True)
class TorchBuild:
    """A wheel of torch on the index; ``manylinux``: its platform tag without the machine."""

    version: Version
    cuda: Cuda
    python: PythonVersion
    platform: str
    manylinux: str

    @property
    def minor(self) -> str:
        """``2.9`` of 2.9.1."""
        return minor_of(self.version)


def list_torch(origin: str, cudas: Iterable[Cuda], *, until: float) -> frozenset[TorchBuild]:
    """Every CUDA build of torch for Linux that the index has.

    Its page of all builds is promised by nobody, and lost some in September 2025 (pytorch issue 163675): so the page of
    each CUDA is read, too, of the known ones and of those that may have come.

    Args:
        origin: the index, such as the one of ``compat.yaml: origins.pytorch_wheels``.
        cudas: those that are known.
        until: the deadline, by ``time.monotonic``.

    Raises:
        NetworkError: a page could not be had, or none lists a build.
    """
    pages = Pages(origin, {"Accept": "text/html"}, access=NOBODY, until=until, folder=None)
    found = _page(pages, f"{origin}/torch/")
    for cuda in sorted({*cudas, *_to_come(cudas), *(build.cuda for build in found)}):
        found |= _page(pages, f"{origin}/{cuda.tag}/torch/")
    if not found:
        raise NetworkError(f"{origin}: lists no CUDA build of torch", remedy=f"check {PYTORCH_VARIABLE}")
    return frozenset(found)


def _to_come(cudas: Iterable[Cuda]) -> list[Cuda]:
    """The CUDAs after the newest: the rest of its major, and the next major's first."""
    newest = max(cudas)
    major, minor = newest.major or 0, newest.minor or 0
    return [*(Cuda(major, each) for each in range(minor + 1, 10)), Cuda(major + 1, 0)]


def _page(pages: Pages, url: str) -> set[TorchBuild]:
    try:
        found, _ = pages.get(url, read_page)
    except NotThereError:  # a CUDA that the index has dropped
        return set()
    return found


def read_page(body: bytes) -> set[TorchBuild]:
    """The builds that a page links to; other files of it are not ours."""
    builds = set()
    for index, link in enumerate(links_of(body.decode("utf-8", "replace"))):
        if index >= MAX_LINKS:
            break
        if (build := read_name(unquote(link.partition("#")[0].rpartition("/")[2]))) is not None:
            builds.add(build)
    return builds


def read_name(name: str) -> TorchBuild | None:
    """A build by its file's name; None for Windows, macOS, ROCm, CPU and pre-releases.

    >>> build = read_name("torch-2.9.1+cu128-cp313-cp313t-manylinux_2_28_aarch64.whl")
    >>> (str(build.version), str(build.cuda), str(build.python), build.platform, build.manylinux) if build else None
    ('2.9.1', '12.8', '3.13t', 'linux_aarch64', 'manylinux_2_28')
    """
    found = _WHEEL.fullmatch(name)
    if found is None:
        return None
    version, cuda, python, abi, manylinux, machine = found.groups()
    if not abi.startswith(python):
        return None
    return TorchBuild(Version(version), Cuda.parse(cuda), PythonVersion.parse(abi), f"linux_{machine}", manylinux)


def by_minor(builds: Iterable[TorchBuild]) -> Mapping[str, list[TorchBuild]]:
    """The builds of each torch minor, oldest first."""
    found: dict[str, list[TorchBuild]] = {}
    for build in sorted(builds):
        found.setdefault(build.minor, []).append(build)
    return found
