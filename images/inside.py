"""Runs inside an image (``python -``): says, as JSON, what is really installed there. Imports nothing of ours."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import pathlib
import pkgutil
import platform
import sys
import time
import warnings

# What the service imports only when it comes to it: the codec's feature extractor, weights placed on a device, the
# hub's download in both of its ways, and torch.compile.
LAZY = (
    "transformers.models.encodec.feature_extraction_encodec",
    "accelerate.hooks",
    "huggingface_hub._snapshot_download",
    "hf_xet",
    "torch._inductor.compile_fx",
    "torch._inductor.codegen.cpp",
    "torch._functorch.partitioners",
    "networkx",
)
# What only some images have: distribution -> what is imported of it when a setting asks for it.
OPTIONAL = {
    "faster-qwen3-tts": ("faster_qwen3_tts.model", "faster_qwen3_tts.streaming", "faster_qwen3_tts.talker_graph"),
}

# What must not be importable in an image, whatever brought it there.
FORBIDDEN = (
    # Hugging Face's kernels. Where flash-attn cannot serve a request for flash_attention_2, transformers 4.57.3 then
    # downloads a kernel from the hub and uses that: not the locked wheel, and no error (modeling_utils.py,
    # _check_and_adjust_attn_implementation).
    "kernels",
)


def _import(name: str) -> str | None:
    """None when the module imports, else what went wrong: an ABI or glibc fault shows here, without a GPU."""
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a report of whatever it was is this program's purpose
        return f"{type(error).__name__}: {error}"
    return None


def unimportable(serve: str) -> dict[str, str]:
    """What the service, in the folder ``serve``, can reach and does not import: module -> what went wrong."""
    walked = pkgutil.walk_packages([serve], "serve.", onerror=lambda _: None)  # what fails is said below
    names = [module.name for module in walked if not module.name.endswith("__main__")]
    optional = [module for name, modules in OPTIONAL.items() if _version(name) for module in modules]
    return {name: error for name in (*names, *LAZY, *optional) if (error := _import(name))}


def forbidden() -> list[str]:
    """The names of `FORBIDDEN` that can be imported here."""
    return [name for name in FORBIDDEN if importlib.util.find_spec(name) is not None]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unmet() -> list[str]:
    """What installed distributions require and is not there, or not in the version that they ask for."""
    from packaging.requirements import Requirement  # noqa: PLC0415

    unmet = set()
    for distribution in importlib.metadata.distributions():
        for text in distribution.requires or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = _version(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                unmet.add(requirement.name)
    return sorted(unmet)


def _gpu(torch: object) -> dict[str, object] | None:
    """A call of each attention on the first GPU, or None without one."""
    cuda = torch.cuda  # type: ignore[attr-defined]
    if not cuda.is_available():
        return None
    query = torch.randn(1, 16, 4, 64, device="cuda", dtype=torch.float16)  # type: ignore[attr-defined]
    result: dict[str, object] = {"name": cuda.get_device_name(0), "capability": list(cuda.get_device_capability(0))}
    result["sdpa_finite"] = bool(
        torch.nn.functional.scaled_dot_product_attention(query, query, query).isfinite().all()  # type: ignore[attr-defined]
    )
    if _version("flash-attn"):
        try:
            call = importlib.import_module("flash_attn").flash_attn_func
            result["flash_attn_finite"] = bool(call(query, query, query).isfinite().all())
        except Exception as error:  # noqa: BLE001 - as above
            result["flash_attn_error"] = f"{type(error).__name__}: {error}"
    return result


def main() -> None:
    """Print the report."""
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch_error = _import("torch")
        torch = sys.modules.get("torch")
        flash_error = _import("flash_attn_2_cuda") if torch is not None and _version("flash-attn") else None
    report: dict[str, object] = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "glibc": platform.libc_ver()[1],
        "torch_error": torch_error,
        "flash_attn": _version("flash-attn"),
        "flash_attn_error": flash_error,
        "import_seconds": round(time.monotonic() - start, 2),
        "warnings": [str(item.message) for item in caught],
        "unmet": _unmet(),
        "forbidden": forbidden(),
        "unimportable": unimportable("/app/serve"),
        "image": json.loads(pathlib.Path("/app/image.json").read_text(encoding="utf-8")),
        "left_out": [
            line.partition(";")[0].strip()
            for line in pathlib.Path("/app/serve/overrides.txt").read_text(encoding="utf-8").splitlines()
            if line.strip() and not line.startswith("#")
        ],
    }
    if torch is not None:
        ones = torch.ones(1, 2, 3, 8)
        report |= {
            "torch": torch.__version__,
            "cuda": torch.version.cuda or "cpu",
            "abi": "TRUE" if torch.compiled_with_cxx11_abi() else "FALSE",
            "sdpa_finite": bool(torch.nn.functional.scaled_dot_product_attention(ones, ones, ones).isfinite().all()),
            "gpu": _gpu(torch),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
