"""``compat.yaml``: its shape, and how its text becomes ``Compat``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from matrix import flash_attn_file, torch_file
from matrix.compat import (
    Bases,
    Compat,
    DevelBase,
    GpuFacts,
    OtherBackend,
    QwenTts,
    RegistryBase,
)
from matrix.document import Document, KeyPath, read_document
from matrix.gpu_names import GpuNames
from matrix.origins import KNOWN, operator, word_for
from matrix.shapes import CAPABILITY, CUDA, DAY, DRIVER, MINOR, PLATFORM, PYTHON, SPECIFIER, VERSION
from matrix.spec import Entries, Items, Record, Spec, Text, Whole, exactly, read
from matrix.values import Arch, Cuda, Driver, PythonVersion

_URL = Text(
    "an https URL without user, query or trailing slash", exactly(r"https?://[\w.-]+(?::\d{1,5})?(?:/[\w.~+-]+)*")
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

_GPU_NAME = Text("a GPU's name", exactly(r"[A-Za-z0-9][A-Za-z0-9 ()._-]*"))
_GPU = Record(
    {
        "arch": CAPABILITY,
        "driver": DRIVER,
        "last_driver": DRIVER,
        "platforms": Items(PLATFORM, at_least=1),
        "names": Items(_GPU_NAME, at_least=1),
    },
    optional=frozenset({"driver", "last_driver", "platforms", "names"}),
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
        "torch": Entries(MINOR, torch_file.SPEC, at_least=1),
        "torch_sass_source": Text(),
        "torch_sass": Items(torch_file.SASS, at_least=1),
        "gpus_source": Text(),
        "gpu_drivers_source": Text(),
        "gpus": Entries(_GPU_NAME, _GPU, at_least=1),
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
        DataError: the file's structure is wrong, a specifier in it is not one, its parts do not fit together, or it
            names a place that neither the code knows nor the operator's environment names.
    """
    document = read_document(path)
    data = read(document, SPEC)
    _check_origins(document, data)
    torch_file.check(document, data["torch"])
    flash_attn_file.check(document, data["flash_attn"])
    try:
        return _build(data, _gpu_names(document, data["gpus"]))
    except InvalidSpecifier as error:
        raise document.error((), str(error)) from None


def _gpu_names(document: Document, rows: Mapping[str, Any]) -> GpuNames:
    try:
        return GpuNames.of({name: row.get("names", ()) for name, row in rows.items()})
    except ValueError as error:
        raise document.error(("gpus",), str(error), remedy="let one row have the name") from None


def _check_origins(document: Document, data: dict[str, Any]) -> None:
    """Whoever can change this file must not be able to say where tokens go and where code comes from."""
    allowed = operator()
    for key, url in data["origins"].items():
        if not allowed.allows(key, url):
            raise document.error(
                ("origins", key),
                f"{url} is not {KNOWN[key]}, and nobody but this file names it",
                remedy=f"restore {KNOWN[key]}; or, {word_for(url)}",
            )
    bases = data["bases"]
    images: list[tuple[KeyPath, str]] = []
    images += [(("registry", index), row["image"]) for index, row in enumerate(bases["registry"])]
    images += [(("cuda_devel", cuda), row["image"]) for cuda, row in bases["cuda_devel"].items()]
    for keys, image in images:
        host, slash, _ = image.partition("/")
        # As Docker reads a reference: the first part is a registry if it has a dot or a port, else one of Docker Hub's.
        if slash and (host == "localhost" or set(host) & set(".:")) and not allowed.allows_registry(host):
            raise document.error(
                ("bases", *keys, "image"),
                f"{host!r} is a registry that nobody but this file names",
                remedy=f"take the image from Docker Hub; or, {word_for(f'https://{host}')}",
            )


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
                tuple(map(PythonVersion.parse, each["pythons"])),
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


def _build(data: dict[str, Any], gpu_names: GpuNames) -> Compat:
    qwen = data["qwen_tts"]
    platforms = tuple(data["platforms"])
    gpus = {name: _gpu(row, platforms) for name, row in data["gpus"].items()}
    torch = {minor: torch_file.build(minor, row) for minor, row in data["torch"].items()}
    sass = torch_file.code_by_build(data["torch_sass"], torch)
    return Compat(
        as_of=data["as_of"],
        origins=data["origins"],
        platforms=platforms,
        torch=torch,
        torch_sass=sass,
        gpus={name: facts.arch for name, facts in gpus.items()},
        gpu_facts=gpus,
        gpu_names=gpu_names,
        driver_floors={int(major): Driver.parse(floor) for major, floor in data["driver_floors"].items()},
        toolkit_drivers={Cuda.parse(cuda): Driver.parse(driver) for cuda, driver in data["toolkit_drivers"].items()},
        flash_attn=flash_attn_file.build(data["flash_attn"]),
        other_backends=tuple(_other_backend(row) for row in data["other_backends"]),
        bases=_bases(data["bases"]),
        qwen_tts=QwenTts(qwen["version"], tuple(qwen["requires"]), SpecifierSet(qwen["python"])),
        data=data,
        minors={minor: place for place, minor in enumerate(torch)},
        cuda_spans=torch_file.cuda_spans(torch.values()),
        with_cuda=frozenset((minor, platform) for minor, _, platform in sass),
    )
