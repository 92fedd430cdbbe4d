"""``compat.yaml``: its shape, and how its text becomes ``Compat``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from matrix import flash_attn_file
from matrix.compat import (
    AbiException,
    Bases,
    Compat,
    CudaSpan,
    DevelBase,
    GpuFacts,
    NotBuilt,
    OtherBackend,
    QwenTts,
    RegistryBase,
    TorchFacts,
)
from matrix.document import Document, KeyPath, read_document
from matrix.flash_attn_facts import CodeFor
from matrix.shapes import ABI, CAPABILITY, CUDA, DAY, DRIVER, MINOR, PLATFORM, PYTHON, SPECIFIER, VERSION
from matrix.spec import Entries, Items, Record, Spec, Text, Whole, exactly, read
from matrix.values import Abi, Arch, Cuda, Driver, PythonVersion

T = TypeVar("T")

_URL = Text("an https URL without a trailing slash", exactly(r"https?://[^\s/]+(?:/[^\s/]+)*"))

_NOT_BUILT: dict[str, Spec] = {"patch": VERSION, "cuda": CUDA, "platform": PLATFORM, "python": PYTHON}

_TORCH = Record(
    {
        "patches": Items(VERSION, at_least=1),
        "cuda": Items(CUDA, at_least=1),
        "cuda_unannounced": Items(CUDA),
        "cuda_inferred": Items(CUDA),
        "not_built": Items(
            Record(_NOT_BUILT, frozenset(_NOT_BUILT)),
        ),
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
    optional=frozenset({"cuda_unannounced", "cuda_inferred", "not_built", "abi_exceptions"}),
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

_GPU = Record(
    {"arch": CAPABILITY, "driver": DRIVER, "last_driver": DRIVER, "platforms": Items(PLATFORM, at_least=1)},
    optional=frozenset({"driver", "last_driver", "platforms"}),
)

_OTHER_BACKEND = Record(
    {
        "name": Text("a name such as flash_attention_3", exactly(r"[a-z0-9_]+")),
        "where": Text(),
        "archs": Items(Whole(1, 99), at_least=1),
        "torch": SPECIFIER,
        "cuda": CUDA,
        "needs": Text(),
        "because": Text(),
        "source": Text(),
    }
)

#: The shape of compat.yaml.
SPEC: Spec = Record(
    {
        "schema": Whole(1, 1),
        "as_of": DAY,
        "origins": Record({"github_api": _URL, "github_downloads": _URL, "pytorch_wheels": _URL}),
        "platforms": Items(PLATFORM, at_least=1),
        "torch_source": Text(),
        "torch": Entries(MINOR, _TORCH, at_least=1),
        "torch_sass_source": Text(),
        "torch_sass": Items(
            Record(
                {"cuda": Items(CUDA, at_least=1), "torch": SPECIFIER, "platform": PLATFORM, **flash_attn_file.CODE},
                frozenset({"ptx"}),
            ),
            at_least=1,
        ),
        "gpus_source": Text(),
        "gpu_drivers_source": Text(),
        "gpus": Entries(Text("a GPU's name", exactly(r"[A-Za-z0-9][A-Za-z0-9 ()._-]*")), _GPU, at_least=1),
        "toolkit_drivers_source": Text(),
        "toolkit_drivers": Entries(CUDA, DRIVER),
        "driver_floors_source": Text(),
        "driver_floors": Entries(Text("a CUDA major", exactly(r"\d\d"), version=True), DRIVER, at_least=1),
        "flash_attn": flash_attn_file.SPEC,
        "other_backends": Items(_OTHER_BACKEND),
        "bases": _BASES,
        "qwen_tts": Record({"version": VERSION, "requires": Items(Text()), "python": SPECIFIER, "source": Text()}),
        "torchaudio": Items(Record({"version": SPECIFIER, "torch": Text(), "source": Text()})),
    }
)


def load_compat(path: Path) -> Compat:
    """Read the facts.

    Raises:
        DataError: the file's structure is wrong, a specifier in it is not one, or its parts do not fit together.
    """
    document = read_document(path)
    data = read(document, SPEC)
    _check_torch(document, data["torch"])
    _check_recipes(document, data["flash_attn"])
    try:
        return _build(data)
    except InvalidSpecifier as error:
        raise document.error((), str(error)) from None


def _check_torch(document: Document, rows: Mapping[str, Any]) -> None:
    """A CUDA build is announced, or not, or known to be missing: one of them."""
    for minor, row in rows.items():
        for index, cuda in enumerate(row.get("cuda_unannounced", ())):
            if cuda in row["cuda"]:
                raise document.error(
                    ("torch", minor, "cuda_unannounced", index),
                    f"{cuda!r} stands in cuda, too",
                    remedy="leave it where the release notes have it: in cuda",
                )


def _check_recipes(document: Document, row: Mapping[str, Any]) -> None:
    """Each recipe names a known runner, and for each torch one build a toolkit, or none where that is not known."""
    for index, recipe in enumerate(row["recipes"]):
        keys: KeyPath = ("flash_attn", "recipes", index)
        if recipe["runner"] not in row["runners"]:
            raise document.error(
                (*keys, "runner"), f"{recipe['runner']!r} has no glibc below", remedy="add it to flash_attn.runners"
            )
        for torch, builds in recipe["torch"].items():
            if builds and len(builds) != len(recipe["toolkits"]):
                raise document.error(
                    (*keys, "torch", torch),
                    f"names {len(builds)} builds of torch for {len(recipe['toolkits'])} toolkits",
                    remedy="write one CUDA for each toolkit, or []",
                )


def _each(parse: Callable[[str], T], texts: list[str]) -> tuple[T, ...]:
    return tuple(parse(text) for text in texts)


def _torch(minor: str, row: dict[str, Any]) -> TorchFacts:
    return TorchFacts(
        minor=minor,
        patches=tuple(sorted(_each(Version, row["patches"]))),
        cuda=tuple(sorted(map(Cuda.parse, (*row["cuda"], *row.get("cuda_unannounced", ()))))),
        unannounced=frozenset(map(Cuda.parse, row.get("cuda_unannounced", ()))),
        not_built=tuple(map(_not_built, row.get("not_built", ()))),
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


def _not_built(row: dict[str, Any]) -> NotBuilt:
    return NotBuilt(
        patch=Version(row["patch"]) if "patch" in row else None,
        cuda=Cuda.parse(row["cuda"]) if "cuda" in row else None,
        platform=row.get("platform"),
        python=PythonVersion.parse(row["python"]) if "python" in row else None,
    )


def _torch_sass(rows: list[dict[str, Any]], minors: Iterable[str]) -> dict[tuple[str, Cuda, str], CodeFor]:
    """The rows spread over the torch minors that they are for; of two that name the same build the first holds."""
    builds: dict[tuple[str, Cuda, str], CodeFor] = {}
    versions = {minor: Version(minor) for minor in minors}
    for row in rows:
        code, torch = flash_attn_file.code(row), SpecifierSet(row["torch"])
        for minor, version in versions.items():
            if torch.contains(version):
                for cuda in _each(Cuda.parse, row["cuda"]):
                    builds.setdefault((minor, cuda, row["platform"]), code)
    return builds


def _gpu(row: dict[str, Any], platforms: tuple[str, ...]) -> GpuFacts:
    return GpuFacts(
        arch=Arch.parse(row["arch"]),
        platforms=tuple(row["platforms"]) if "platforms" in row else platforms,
        first=Driver.parse(row["driver"]) if "driver" in row else None,
        last=Driver.parse(row["last_driver"]) if "last_driver" in row else None,
    )


def _other_backend(row: dict[str, Any]) -> OtherBackend:
    return OtherBackend(
        name=row["name"],
        where=row["where"],
        archs=tuple(row["archs"]),
        torch=SpecifierSet(row["torch"]),
        cuda=Cuda.parse(row["cuda"]),
        needs=row["needs"],
        because=row["because"],
        source=row["source"],
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


def _cuda_spans(torches: Iterable[TorchFacts]) -> dict[Cuda, CudaSpan]:
    places: dict[Cuda, list[int]] = {}
    unannounced: set[Cuda] = set()
    for place, facts in enumerate(torches):
        unannounced |= facts.unannounced
        for cuda in facts.cuda:
            places.setdefault(cuda, []).append(place)
    return {cuda: CudaSpan(having[0], having[-1], cuda not in unannounced) for cuda, having in places.items()}


def _build(data: dict[str, Any]) -> Compat:
    qwen = data["qwen_tts"]
    platforms = tuple(data["platforms"])
    gpus = {name: _gpu(row, platforms) for name, row in data["gpus"].items()}
    torch = {minor: _torch(minor, row) for minor, row in data["torch"].items()}
    sass = _torch_sass(data["torch_sass"], torch)
    return Compat(
        as_of=data["as_of"],
        origins=data["origins"],
        platforms=platforms,
        torch=torch,
        torch_sass=sass,
        gpus={name: facts.arch for name, facts in gpus.items()},
        gpu_facts=gpus,
        driver_floors={int(major): Driver.parse(floor) for major, floor in data["driver_floors"].items()},
        toolkit_drivers={Cuda.parse(cuda): Driver.parse(driver) for cuda, driver in data["toolkit_drivers"].items()},
        flash_attn=flash_attn_file.build(data["flash_attn"]),
        other_backends=tuple(_other_backend(row) for row in data["other_backends"]),
        bases=_bases(data["bases"]),
        qwen_tts=QwenTts(qwen["version"], tuple(qwen["requires"]), SpecifierSet(qwen["python"])),
        data=data,
        minors={minor: place for place, minor in enumerate(torch)},
        cuda_spans=_cuda_spans(torch.values()),
        with_cuda=frozenset((minor, platform) for minor, _, platform in sass),
    )
