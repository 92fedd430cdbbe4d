"""What the tools read of strangers: data files, lists of wheels, wheels, settings."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from images import hostsettings, requirement_files
from images.planned import read_base_digests
from matrix import DATA_DIR, Abi, Arch, Cuda, Driver, PythonVersion, load_project
from matrix.compat_file import load_compat
from matrix.document import Node, read_document
from matrix.errors import DataError, NetworkError, UsageError
from matrix.known_broken import load_known_broken
from matrix.matrix_file import SPEC as MATRIX
from matrix.scalars import Kind
from matrix.shown import hidden, json_text, shown, shown_lines
from matrix.spec import read
from matrix.trims import load_trims
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target
from tests.packing import NAME, members, pack
from tests.security.tools.canary import assert_inert
from wheel_resolver import lock
from wheel_resolver.core.names import WheelName
from wheel_resolver.core.wheel import Asset, Release
from wheel_resolver.inside.inspection import inspect
from wheel_resolver.inside.verify_text import Report, render, to_json
from wheel_resolver.inside.verifying import contradictions, parse_name
from wheel_resolver.inside.wheel_inside import look_inside
from wheel_resolver.upstream import github, snapshot
from wheel_resolver.upstream.catalogue import build_catalogue
from wheel_resolver.upstream.simple_index import read_index
from wheel_resolver.upstream.urls import is_safe

ROOT = DATA_DIR.parent
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_READERS: dict[str, Callable[[Path], Any]] = {
    "matrix/matrix.yaml": load_project,
    "matrix/compat.yaml": load_compat,
    "matrix/known_broken.yaml": load_known_broken,
    "matrix/trims.yaml": load_trims,
    "matrix/lock.yaml": lock.read,
    "dockerfiles/locks/bases.yaml": read_base_digests,
}
_FILES = {name: (ROOT / name).read_bytes() for name in _READERS}


def _with_file(name: str, content: bytes, use: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        use(path)


def _refusal(read_it: Callable[[], object]) -> DataError | None:
    try:
        read_it()
    except DataError as error:
        return error
    return None


def check_data_file(given: tuple[str, bytes]) -> None:
    """A data file is read, or refused in one line that names it."""
    name, content = given

    def use(path: Path) -> None:
        if (error := _refusal(lambda: _READERS[name](path))) is not None:
            assert path.name in error.what
            assert hidden(str(error).replace("\n", "")) is None
            assert len(str(error)) < 10_000

    _with_file(Path(name).name, content, use)


def check_same_meaning(content: bytes) -> None:
    """What our reader accepts PyYAML accepts too, and both read the same values: nothing means two things."""

    def use(path: Path) -> None:
        try:
            document = read_document(path)
        except DataError:
            return
        with contextlib.suppress(DataError):
            assert read(document, MATRIX) == yaml.load(content, Loader=_LOADER)
        with contextlib.suppress(_TwiceError):
            _same(document.root, yaml.compose(content, Loader=_LOADER))

    _with_file("matrix.yaml", content, use)


class _TwiceError(Exception):
    """A value that we refuse where it is used, whatever it is: a surprise."""


_TAGS = {Kind.TEXT: "str", Kind.WHOLE: "int", Kind.NUMBER: "float", Kind.FLAG: "bool", Kind.NULL: "null"}


def _same(ours: Node, theirs: Any) -> None:
    if ours.kind is Kind.SURPRISE:
        raise _TwiceError
    assert ours.line == theirs.start_mark.line + 1
    if ours.kind is Kind.LIST:
        assert isinstance(theirs, yaml.SequenceNode)
        for one, other in zip(ours.items, theirs.value, strict=True):
            _same(one, other)
    elif ours.kind is Kind.MAPPING:
        assert isinstance(theirs, yaml.MappingNode)
        for pair, others in zip(ours.pairs(), theirs.value, strict=True):
            _same(pair[0], others[0])
            _same(pair[1], others[1])
    else:
        assert (ours.text, f"tag:yaml.org,2002:{_TAGS[ours.kind]}") == (theirs.value, theirs.tag)


_PARTS = st.sampled_from(
    ["a", "b: ", "c", ": ", ":", "- ", "-", "? ", "[", "]", "{", "}", ", ", ",", "\n", "\n  ", "\n    ", "'", '"', "|",
     ">-", "\n---\n", "#", " # ", "&x ", "*x", "!t ", "no", "1", "2.9", "010", "1:30", "null", "~", "<<", "\\", "%",
     "é", "a b", "@"]
)  # fmt: skip


def check_requirement_lock(content: bytes) -> None:
    """A requirement lock is read, or refused; what is read are exact pins with whole hashes."""
    try:
        pins = requirement_files.parse_pins(content.decode("utf-8", "replace"))
    except DataError:
        return
    for pin in pins:
        assert pin.name
        assert pin.version
        assert pin.hashes


def check_wheel_name(name: str) -> None:
    """A name is read whole, so that it can be written again, or it is none."""
    with contextlib.suppress(DataError):
        parse_name(name)
    found = WheelName.parse(name)
    if found is None:
        return
    assert found.format() == name
    assert name.isascii()
    assert hidden(name) is None
    assert found.cuda_major == int(found.cuda[:2])
    assert found.cuda_minor == (int(found.cuda[2:]) if found.cuda[2:] else None)
    assert found.flash_attn.release
    assert found.torch.startswith(found.torch_minor)


def check_asset_page(body: bytes) -> None:
    """A page of releases becomes a catalogue of wheels with safe URLs, and a snapshot that reads the same; or it is
    refused."""
    api = github.Api("https://api.example", None)
    try:
        releases = tuple(each for row in github._rows(api, body) if (each := github._release(row)) is not None)
        catalogue = build_catalogue(
            releases, repository="o/r", origin="https://github.com", source="network", as_of="", stale=False
        )
    except (NetworkError, DataError):
        return
    for wheel in catalogue.wheels:
        assert is_safe(wheel.url), wheel.url
        assert hidden(wheel.tag) is None
        assert wheel.sha256 is None or len(wheel.sha256) == 64
    known = snapshot.Snapshot("o/r", "2026-08-01T00:00:00Z", releases)
    assert snapshot.loads(snapshot.dumps(known), "made") == known


def check_snapshot(content: bytes) -> None:
    """A snapshot is read, and writes the same again; or it is refused."""
    if (error := _refusal(lambda: snapshot.loads(content, "snapshot.json"))) is not None:
        assert hidden(error.what) is None
        return
    known = snapshot.loads(content, "snapshot.json")
    assert snapshot.loads(snapshot.dumps(known), "again") == known


def check_index_page(body: bytes) -> None:
    """Of an index page only wheels at safe URLs are taken."""
    try:
        assets = read_index(body, "https://wheels.example/simple/flash-attn/")
    except NetworkError:
        return
    for asset in assets:
        assert asset.name.endswith(".whl")
        assert asset.url is not None
        assert is_safe(asset.url)


def check_wheel(content: bytes) -> None:
    """A wheel is looked into, or refused; what is said of it has an end and does nothing."""

    def use(path: Path) -> None:
        try:
            inside = look_inside(path)
            report = Report(inside, (), contradictions(inside), None, None, None)
        except DataError:
            return
        text = render(report)
        assert hidden(text.replace("\n", "")) is None
        assert len(text) < 100_000
        assert len(json_text(to_json(report))) < 10_000_000
        refusal = inspect(path, inside.sha256).refusal
        assert refusal is None or hidden(refusal) is None

    _with_file(NAME, content, use)


def check_settings(content: bytes) -> None:
    """uv.toml and what ``pip config list`` prints are read, or refused."""

    def use(path: Path) -> None:
        with contextlib.suppress(DataError, UsageError):
            found = hostsettings.read_host_settings(
                {}, pip_config=lambda _: content.decode("utf-8", "replace"), uv_files=[path]
            )
            assert_inert(shown_lines(shown(found.describe())))

    _with_file("uv.toml", content, use)


def check_values(text: str) -> None:
    """A value is read, and its text reads the same; or it is none."""
    for kind in (PythonVersion.parse, Cuda.parse, Arch.parse, Driver.parse, Abi):
        with contextlib.suppress(ValueError):
            found = kind(text)
            assert kind(str(found)) == found


def check_shown(text: str) -> None:
    """What is shown is obeyed by nobody, and stays what it is when it is shown again."""
    assert_inert(shown_lines(text))
    assert hidden(shown(text)) is None
    assert shown(shown(text)) == shown(text)
    assert json.loads(json_text([text])) == [text]


def _rows() -> list[dict[str, Any]]:
    known = snapshot.read()
    return [
        {"tag_name": release.tag, "draft": False, "prerelease": False, "assets": [_row(release, each) for each in some]}
        for release in known.releases[:3]
        for some in (release.assets[:2],)
    ]


def _row(release: Release, asset: Asset) -> dict[str, Any]:
    url = f"https://github.com/Dao-AILab/flash-attention/releases/download/{release.tag}/{asset.name}"
    return {"name": asset.name, "state": "uploaded", "digest": asset.sha256 and f"sha256:{asset.sha256}",
            "size": asset.size, "updated_at": asset.updated_at, "browser_download_url": url}  # fmt: skip


def _snapshots() -> list[bytes]:
    known = snapshot.read()
    short = [Release(each.tag, each.assets[:2]) for each in known.releases[:2]]
    other = [
        Release(each.tag, tuple(Asset(a.name, None, 5, None, "https://h.example/x") for a in each.assets))
        for each in short
    ]
    return [snapshot.dumps(snapshot.Snapshot("o/r", known.as_of, tuple(rows))).encode() for rows in (short, other)]


def _wheels() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        plain = pack(Path(folder) / "a.whl", members({}))
        more = pack(
            Path(folder) / "b.whl", members({"x.pth": b"1", "flash_attn_2_cuda.cpython-312-x.so": b"\x7fELF\2\1\1"})
        )
        return [plain.read_bytes(), more.read_bytes()]


_NAMES = [asset.name.encode() for release in snapshot.read().releases[:6] for asset in release.assets[::9]]
_LOCKS = [path.read_bytes()[:3000] for path in sorted((ROOT / "dockerfiles" / "locks").glob("*/*.txt"))]
_PAGES = [
    b'<!DOCTYPE html><html><body><a href="x-1.whl#sha256='
    + b"0" * 64
    + b'">x</a>\n<a href="//h/y.whl">y</a></body></html>',
    b'<a href="../../files/flash_attn-2.8.3%2Bcu12-cp312-cp312-linux_x86_64.whl" data-yanked="">f</a>',
]
_SETTINGS = [
    b'index-url = "https://u:p@h/simple"\nextra-index-url = ["https://h/x"]\n[[index]]\nurl = "https://h"\ndefault=true',
    b"global.index-url='https://u:p@h/simple'\n:env:.find-links='/a b'\ninstall.proxy='http://p:1'\n",
]
_VALUES = [b"3.12", b"3.13t", b"12.8", b"cpu", b"rocm6.4", b"sm_90a", b"8.6", b"535.247.01", b"TRUE"]

_A_FILE = st.sampled_from(sorted(_FILES)).flatmap(lambda name: st.tuples(st.just(name), mutated([_FILES[name]])))
_YAML = st.one_of(
    mutated([_FILES["matrix/matrix.yaml"], _FILES["dockerfiles/locks/bases.yaml"]]),
    st.lists(_PARTS, max_size=25).map(lambda parts: "".join(parts).encode()),
)


def _texts(seeds: list[bytes], errors: str = "replace") -> st.SearchStrategy[str]:
    return mutated(seeds).map(lambda text: text.decode("utf-8", errors))


TARGETS = (
    Target("yaml", _A_FILE, check_data_file, examples=500),
    Target("yaml-meaning", _YAML, check_same_meaning, examples=1000),
    Target("requirement-locks", mutated(_LOCKS), check_requirement_lock, examples=600),
    Target("wheel-names", _texts(_NAMES), check_wheel_name, examples=1000),
    Target("assets", mutated([json.dumps(_rows()).encode()]), check_asset_page, examples=600),
    Target("snapshot", mutated(_snapshots()), check_snapshot, examples=600),
    Target("index-pages", mutated(_PAGES), check_index_page, examples=600),
    Target("wheels", mutated(_wheels()), check_wheel, examples=400),
    Target("settings", mutated(_SETTINGS), check_settings, examples=400),
    Target("values", _texts(_VALUES), check_values, examples=600),
    Target("shown", st.one_of(st.text(), _texts(_NAMES, "surrogateescape")), check_shown, examples=600),
)
