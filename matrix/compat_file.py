"""``compat.yaml``: its shape, and how its text becomes ``Compat``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from matrix.compat import (
    AbiException,
    Bases,
    CodeFor,
    Compat,
    DevelBase,
    FlashAttnFacts,
    GlibcNeed,
    QwenTts,
    RegistryBase,
    Reuse,
    RuntimeGate,
    Sdist,
    SourceBuildFacts,
    TorchFacts,
    WheelSass,
)
from matrix.document import read_document
from matrix.shapes import ABI, CAPABILITY, CUDA, MINOR, PLATFORM, PYTHON, SHA256, SPECIFIER, VERSION
from matrix.spec import Entries, Items, Record, Spec, Text, Whole, exactly, read
from matrix.values import Abi, Arch, Cuda, PythonVersion

T = TypeVar("T")

_URL = Text("an https URL without a trailing slash", exactly(r"https?://[^\s/]+(?:/[^\s/]+)*"))
_CODE: dict[str, Spec] = {"sass": Items(CAPABILITY, at_least=1), "ptx": CAPABILITY}

_TORCH = Record(
    {
        "patches": Items(VERSION, at_least=1),
        "cuda": Items(CUDA, at_least=1),
        "cuda_inferred": Items(CUDA),
        "default_cuda": CUDA,
        "python": Items(PYTHON, at_least=1),
        "abi": ABI,
        "abi_exceptions": Items(
            Record({"cuda": CUDA, "platform": PLATFORM, "abi": ABI}, frozenset({"cuda", "platform"}))
        ),
        "triton": Items(VERSION, at_least=1),
        "manylinux": Text(),
        "cxx": Text("a C++ standard such as 17", exactly(r"\d\d"), version=True),
    },
    optional=frozenset({"cuda_inferred", "abi_exceptions"}),
)

_FLASH_ATTN = Record(
    {
        "repository": Text("owner/name", exactly(r"[\w.-]+/[\w.-]+")),
        "sass": Items(Record({"version": SPECIFIER, **_CODE, "source": Text()}, frozenset({"ptx"})), at_least=1),
        "runtime_gate": Items(
            Record(
                {"version": SPECIFIER, "least": CAPABILITY, "most": CAPABILITY, "source": Text()},
                frozenset({"most"}),
            )
        ),
        "glibc": Items(Record({"version": SPECIFIER, "glibc": MINOR, "source": Text()})),
        "reuse": Items(
            Record({"wheel_torch": MINOR, "loads_on": Items(MINOR), "fails_on": Items(MINOR), "source": Text()})
        ),
        "source_build": Record(
            {
                "max_torch": MINOR,
                "source": Text(),
                "sdists": Items(
                    Record({"version": VERSION, "name": Text(), "sha256": SHA256, "size": Whole(1, 10**12)}),
                    at_least=1,
                ),
            }
        ),
    }
)

_BASES = Record(
    {
        "registry": Items(
            Record({"suite": Text(), "image": Text(), "pythons": Items(PYTHON), "glibc": MINOR, "source": Text()}),
            at_least=1,
        ),
        "bootstrap": Entries(Text(), Record({"python": PYTHON, "glibc": MINOR, "source": Text()})),
        "cuda_devel": Entries(
            CUDA,
            Record({"image": Text(), "packages": Text(), "glibc": MINOR, "source": Text()}, frozenset({"packages"})),
        ),
    }
)

#: The shape of compat.yaml.
SPEC: Spec = Record(
    {
        "schema": Whole(1, 1),
        "as_of": Text("a date such as 2026-11-21, in quotes", exactly(r"\d{4}-\d\d-\d\d")),
        "origins": Record({"github_api": _URL, "github_downloads": _URL, "pytorch_wheels": _URL}),
        "platforms": Items(PLATFORM, at_least=1),
        "torch_source": Text(),
        "torch": Entries(MINOR, _TORCH, at_least=1),
        "torch_sass_source": Text(),
        "torch_sass": Items(
            Record(
                {"cuda": Items(CUDA, at_least=1), "torch": SPECIFIER, "platform": PLATFORM, **_CODE},
                frozenset({"ptx"}),
            ),
            at_least=1,
        ),
        "gpus_source": Text(),
        "gpus": Entries(Text("a GPU's name", exactly(r"[A-Za-z0-9][A-Za-z0-9 ()._-]*")), CAPABILITY, at_least=1),
        "driver_floors_source": Text(),
        "driver_floors": Entries(Text("a CUDA major", exactly(r"\d\d"), version=True), VERSION, at_least=1),
        "flash_attn": _FLASH_ATTN,
        "bases": _BASES,
        "qwen_tts": Record({"version": VERSION, "requires": Items(Text()), "python": SPECIFIER, "source": Text()}),
        "torchaudio": Items(Record({"version": SPECIFIER, "torch": Text(), "source": Text()})),
    }
)


def load_compat(path: Path) -> Compat:
    """Read the facts.

    Raises:
        DataError: the file's structure is wrong, or a specifier in it is not one.
    """
    document = read_document(path)
    data = read(document, SPEC)
    try:
        return _build(data)
    except InvalidSpecifier as error:
        raise document.error((), str(error)) from None


def _each(parse: Callable[[str], T], texts: list[str]) -> tuple[T, ...]:
    return tuple(parse(text) for text in texts)


def _code(row: dict[str, Any]) -> CodeFor:
    return CodeFor(_each(Arch.parse, row["sass"]), Arch.parse(row["ptx"]) if "ptx" in row else None)


def _torch(minor: str, row: dict[str, Any]) -> TorchFacts:
    return TorchFacts(
        minor=minor,
        patches=tuple(sorted(_each(Version, row["patches"]))),
        cuda=_each(Cuda.parse, row["cuda"]),
        default_cuda=Cuda.parse(row["default_cuda"]),
        python=_each(PythonVersion.parse, row["python"]),
        abi=Abi(row["abi"]),
        abi_exceptions=tuple(
            AbiException(
                Cuda.parse(exception["cuda"]) if "cuda" in exception else None,
                exception.get("platform"),
                Abi(exception["abi"]),
            )
            for exception in row.get("abi_exceptions", [])
        ),
        triton=tuple(row["triton"]),
        manylinux=row["manylinux"],
        cxx=row["cxx"],
    )


def _torch_sass(rows: list[dict[str, Any]], minors: Iterable[str]) -> dict[tuple[str, Cuda, str], CodeFor]:
    """The rows spread over the torch minors that they are for; of two that name the same build the first holds."""
    builds: dict[tuple[str, Cuda, str], CodeFor] = {}
    versions = {minor: Version(minor) for minor in minors}
    for row in rows:
        code, torch = _code(row), SpecifierSet(row["torch"])
        for minor, version in versions.items():
            if torch.contains(version):
                for cuda in _each(Cuda.parse, row["cuda"]):
                    builds.setdefault((minor, cuda, row["platform"]), code)
    return builds


def _flash_attn(row: dict[str, Any]) -> FlashAttnFacts:
    build = row["source_build"]
    return FlashAttnFacts(
        repository=row["repository"],
        sass=tuple(WheelSass(SpecifierSet(each["version"]), _code(each)) for each in row["sass"]),
        runtime_gate=tuple(
            RuntimeGate(
                SpecifierSet(each["version"]),
                Arch.parse(each["least"]),
                Arch.parse(each["most"]) if "most" in each else None,
            )
            for each in row["runtime_gate"]
        ),
        glibc=tuple(GlibcNeed(SpecifierSet(each["version"]), Version(each["glibc"])) for each in row["glibc"]),
        reuse=tuple(
            Reuse(each["wheel_torch"], tuple(each["loads_on"]), tuple(each["fails_on"]), each["source"])
            for each in row["reuse"]
        ),
        source_build=SourceBuildFacts(
            Version(build["max_torch"]),
            build["source"],
            tuple(
                Sdist(Version(sdist["version"]), sdist["name"], sdist["sha256"], sdist["size"])
                for sdist in build["sdists"]
            ),
        ),
    )


def _bases(row: dict[str, Any]) -> Bases:
    boot = row["bootstrap"]
    return Bases(
        registry=tuple(
            RegistryBase(
                each["suite"],
                each["image"],
                _each(PythonVersion.parse, each["pythons"]),
                Version(each["glibc"]),
            )
            for each in row["registry"]
        ),
        bootstrap={suite: PythonVersion.parse(each["python"]) for suite, each in boot.items()},
        bootstrap_glibc={suite: Version(each["glibc"]) for suite, each in boot.items()},
        cuda_devel={
            Cuda.parse(cuda): DevelBase(each["image"], each.get("packages"), Version(each["glibc"]))
            for cuda, each in row["cuda_devel"].items()
        },
    )


def _build(data: dict[str, Any]) -> Compat:
    qwen = data["qwen_tts"]
    return Compat(
        as_of=data["as_of"],
        origins=data["origins"],
        platforms=tuple(data["platforms"]),
        torch={minor: _torch(minor, row) for minor, row in data["torch"].items()},
        torch_sass=_torch_sass(data["torch_sass"], data["torch"]),
        gpus={name: Arch.parse(capability) for name, capability in data["gpus"].items()},
        driver_floors={int(major): floor for major, floor in data["driver_floors"].items()},
        flash_attn=_flash_attn(data["flash_attn"]),
        bases=_bases(data["bases"]),
        qwen_tts=QwenTts(qwen["version"], tuple(qwen["requires"]), SpecifierSet(qwen["python"])),
    )
