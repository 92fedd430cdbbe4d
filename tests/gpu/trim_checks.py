"""What inference uses of torch and NVIDIA's libraries, a check each: `trims_proof.py` runs them with files and without.

    python tests/gpu/trim_checks.py [NAME ...]

Prints JSON lines: ``{"torch", "cuda", "device", "checks"}`` first, then for each named check ``{"check", "state",
"detail"}``, the state ``passed``, ``failed`` or ``skipped``. On a GPU where there is one, else what a CPU can do of it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROOT = Path(__file__).resolve().parents[2]
# Largest difference from float32 or float64 that rounding explains, of values around 1.
NEAR = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
CHECKS: dict[str, Callable[[], str]] = {}


class Skip(Exception):  # noqa: N818 - not an error
    """The check means nothing on this machine."""


def check(function: Callable[[], str]) -> Callable[[], str]:
    """Register a check: it returns a detail, raises Skip, or raises whatever is wrong."""
    CHECKS[function.__name__] = function
    return function


def near(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """The values are finite, and the expected ones up to the rounding of ``dtype``."""
    torch.testing.assert_close(found.double().cpu(), expected.double().cpu(), rtol=NEAR[dtype], atol=NEAR[dtype])


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal values, made on the CPU."""
    return torch.randn(*shape).to(DEVICE, dtype)


def only_gpu() -> None:
    """Skip the check on a machine without a GPU."""
    if DEVICE == "cpu":
        raise Skip("no GPU")


def sdpa(backend: SDPBackend) -> str:
    """float16 and bfloat16, causal and not, heads of 64 and 128, against float32 with plain matrix products."""
    for dtype in (torch.float16, torch.bfloat16):
        for size in (64, 128):
            query, key, value = (random(2, 4, 96, size, dtype=dtype) for _ in range(3))
            for causal in (False, True):
                with sdpa_kernel(SDPBackend.MATH):
                    expected = functional.scaled_dot_product_attention(
                        query.float(), key.float(), value.float(), is_causal=causal
                    )
                with sdpa_kernel(backend):
                    found = functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
                near(found, expected, dtype)
    return "float16, bfloat16"


@check
def sdpa_flash() -> str:
    """torch's own flash kernels."""
    return sdpa(SDPBackend.FLASH_ATTENTION)


@check
def sdpa_efficient() -> str:
    """The memory-efficient kernels."""
    only_gpu()
    return sdpa(SDPBackend.EFFICIENT_ATTENTION)


@check
def sdpa_math() -> str:
    """Matrix products."""
    return sdpa(SDPBackend.MATH)


@check
def sdpa_cudnn() -> str:
    """cuDNN's graph interface, with kernels that it compiles at run time."""
    only_gpu()
    return sdpa(SDPBackend.CUDNN_ATTENTION)


@check
def convolution() -> str:
    """1d, transposed, dilated, grouped, strided and 2d, with cuDNN's choice by heuristic and by trying all engines."""
    kinds: list[tuple[Callable[..., torch.Tensor], tuple[int, ...], tuple[int, ...], dict[str, int]]] = [
        (functional.conv1d, (2, 32, 400), (48, 32, 7), {"padding": 3}),
        (functional.conv1d, (2, 32, 400), (32, 32, 7), {"dilation": 9}),
        (functional.conv1d, (2, 32, 400), (32, 1, 7), {"groups": 32}),
        (functional.conv1d, (2, 1, 4800), (32, 1, 16), {"stride": 8}),
        (functional.conv_transpose1d, (2, 32, 100), (32, 16, 16), {"stride": 8}),
        (functional.conv2d, (2, 8, 40, 40), (16, 8, 3, 3), {"padding": 1}),
    ]
    for benchmark in (False, True):
        torch.backends.cudnn.benchmark = benchmark
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for call, data, weights, options in kinds:
                scale = (weights[1] * weights[2]) ** -0.5
                inputs, kernel = random(*data, dtype=dtype), (random(*weights) * scale).to(dtype)
                near(call(inputs, kernel, **options), call(inputs.double(), kernel.double(), **options), dtype)
    if DEVICE == "cpu":
        return "CPU"
    assert torch.backends.cudnn.is_available()
    return f"cuDNN {torch.backends.cudnn.version()}"


@check
def matmul() -> str:
    """Plain, batched, and with a bias (cuBLAS and cuBLASLt)."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        left, right = random(3, 128, 256, dtype=dtype), (random(3, 256, 64) / 16).to(dtype)
        near(left @ right, left.double() @ right.double(), dtype)
        near(left[0] @ right[0], left[0].double() @ right[0].double(), dtype)
        bias, weight = random(64, dtype=dtype), right[0].T.contiguous()
        near(functional.linear(left[0], weight, bias), left[0].double() @ right[0].double() + bias.double(), dtype)
        near(torch.mv(left[0], right[0, :, 0]), left[0].double() @ right[0, :, 0].double(), dtype)
    return "float32, bfloat16, float16"


@check
def sparse() -> str:
    """A sparse matrix by a dense one (cuSPARSE)."""
    dense, other = random(64, 64), random(64, 32) / 8
    dense[dense.abs() < 1] = 0
    near(torch.sparse.mm(dense.to_sparse_csr(), other), dense.double() @ other.double(), torch.float32)
    return ""


@check
def fft() -> str:
    """Real and complex transforms, of a power of two and of a prime, and a spectrogram (cuFFT)."""
    for length in (1024, 1021, 1920):
        signal = random(2, length)
        near(torch.fft.irfft(torch.fft.rfft(signal), n=length), signal, torch.float32)
        near(torch.fft.ifft(torch.fft.fft(signal)).real, signal, torch.float32)
    spectrum = torch.stft(random(2, 4800), 1024, 256, window=torch.hann_window(1024).to(DEVICE), return_complex=True)
    assert spectrum.abs().isfinite().all()
    return ""


@check
def linalg() -> str:
    """Solve, Cholesky, eigenvalues, singular values, QR (cuSOLVER)."""
    matrix = random(3, 40, 40) / 8 + torch.eye(40, device=DEVICE) * 3
    side = random(3, 40, 5)
    near(matrix @ torch.linalg.solve(matrix, side), side, torch.float32)
    square = matrix @ matrix.mT
    lower = torch.linalg.cholesky(square)
    near(lower @ lower.mT / 9, square / 9, torch.float32)
    values, vectors = torch.linalg.eigh(square)
    near(vectors @ torch.diag_embed(values) @ vectors.mT / 9, square / 9, torch.float32)
    left, singular, right = torch.linalg.svd(matrix)
    near(left @ torch.diag_embed(singular) @ right, matrix, torch.float32)
    orthogonal, upper = torch.linalg.qr(matrix)
    near(orthogonal @ upper, matrix, torch.float32)
    return ""


@check
def sampling() -> str:
    """What generate() does with logits: sort, top-k, cumulated softmax, multinomial."""
    logits = random(8, 3072)
    best, places = logits.topk(50)
    near(best, logits.sort(descending=True).values[:, :50], torch.float32)
    near(logits.gather(1, places), best, torch.float32)
    near(logits.softmax(-1).cumsum(-1)[:, -1], torch.ones(8), torch.float32)
    drawn = best.softmax(-1).multinomial(20, replacement=True)
    assert drawn.min() >= 0
    assert drawn.max() < 50
    return ""


@check
def jit_kernels() -> str:
    """Kernels that torch hands to NVRTC: its own jiterated functions, and one of ours."""
    only_gpu()
    positive = random(100).abs() + 0.5
    for function in (torch.special.bessel_j0, torch.special.airy_ai, torch.special.zeta, torch.special.i1e):
        inputs = (positive + 1, positive) if function is torch.special.zeta else (positive,)
        near(function(*inputs), function(*(value.cpu() for value in inputs)), torch.float32)
    whole = torch.arange(1, 100, device=DEVICE)
    assert torch.equal(torch.gcd(whole, whole.flip(0)).cpu(), torch.gcd(whole.cpu(), whole.cpu().flip(0)))
    turned = torch.polar(positive, positive)
    for name in ("tan", "sigmoid", "acosh", "angle"):
        found, expected = getattr(torch, name)(turned), getattr(torch, name)(turned.cpu())
        near(torch.view_as_real(found + 0j), torch.view_as_real(expected + 0j), torch.float32)
    near(turned.prod().abs().log(), turned.cpu().prod().abs().log(), torch.float32)
    ours = torch.cuda.jiterator._create_jit_fn("template <typename T> T twice(T x) { return x + x; }")
    near(ours(positive), positive * 2, torch.float32)
    return "NVRTC"


@check
def fused_script() -> str:
    """TorchScript's fuser (NVRTC on a GPU)."""
    block = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.SiLU()).to(DEVICE)
    scripted = torch.jit.script(block)
    inputs = random(4, 16)
    for _ in range(3):  # it fuses after it has seen the shapes
        near(scripted(inputs), block(inputs), torch.float32)
    return ""


def compiler() -> str:
    """The C compiler that triton or inductor would find."""
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        raise Skip("no C compiler")
    return found


@check
def compiled() -> str:
    """torch.compile of a block like the talker's: triton on a GPU, C++ on a CPU."""
    found = compiler()
    block = torch.nn.Sequential(
        torch.nn.RMSNorm(64), torch.nn.Linear(64, 128), torch.nn.SiLU(), torch.nn.Linear(128, 64), torch.nn.Softmax(-1)
    ).to(DEVICE)
    inputs = random(4, 64)
    with torch.no_grad():
        expected = block(inputs)
        near(torch.compile(block)(inputs), expected, torch.float32)
        if DEVICE == "cuda":
            graphed = torch.compile(block, mode="reduce-overhead")
            for _ in range(3):  # warm, captured, replayed
                near(graphed(inputs), expected, torch.float32)
    return found


@check
def triton_kernel() -> str:
    """A triton kernel of our own."""
    only_gpu()
    compiler()
    from trim_kernel import add_one  # noqa: PLC0415 - needs triton, which a CPU's torch comes without

    inputs = random(1000)
    near(add_one(inputs), inputs + 1, torch.float32)
    return ""


@check
def cuda_graph() -> str:
    """Capture and replay, as one graph a frame needs it."""
    only_gpu()
    layer = torch.nn.Linear(64, 64, device=DEVICE, dtype=torch.bfloat16)
    inputs = random(1, 4, 16, 64, dtype=torch.bfloat16)

    def step() -> torch.Tensor:
        value = layer(inputs)
        return functional.scaled_dot_product_attention(value, value, value).softmax(-1)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = step()
    inputs.copy_(random(1, 4, 16, 64, dtype=torch.bfloat16) * 2)
    graph.replay()
    with torch.no_grad():
        near(result, step(), torch.bfloat16)
    return ""


@check
def profiler() -> str:
    """torch.profiler sees kernels (CUPTI's Activity API)."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if DEVICE == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        (random(64, 64) @ random(64, 64)).sum().item()
    kinds = {str(event.device_type).rpartition(".")[2] for event in profile.events()}
    assert DEVICE.upper() in kinds, kinds
    return ", ".join(sorted(kinds))


@check
def distributed() -> str:
    """torch.distributed with one process (NCCL on a GPU)."""
    import torch.distributed as group  # noqa: PLC0415 - not every build has it

    with tempfile.TemporaryDirectory() as folder:
        backend = "nccl" if DEVICE == "cuda" else "gloo"
        group.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        ones = torch.ones(4, device=DEVICE)
        group.all_reduce(ones)
        group.destroy_process_group()
    near(ones, torch.ones(4), torch.float32)
    return backend


@check
def service() -> str:
    """The service's own engine speaks, with the tiny checkpoint: its weights are random."""
    sys.path.insert(0, str(ROOT))
    from serve import tiny  # noqa: PLC0415 - only here: they bring the model's packages
    from serve.engines import attention, dtypes, engine, probe  # noqa: PLC0415

    device = probe.find_device(None)
    parts = dtypes.decide_dtypes("auto", device.gpus)
    rungs = probe.probe_attentions(device, parts, None)
    said = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = tiny.write_tiny(Path(folder) / "tiny")
        for name in ("sdpa", "eager"):
            chosen = engine.make_engine("qwen")
            decision = attention.decide(name, None, rungs)
            facts = chosen.load(engine.LoadPlan(checkpoint, device, decision, parts))
            chosen.warm()
            said.append(f"{decision.running} ({facts.versions['transformers']})")
    return f"{', '.join(said)}, {parts.talker}"


@check
def nothing_from_outside() -> str:
    """After all others: no mapped file and no module comes from the folders that were copied, but from the copies."""
    originals = tuple(f"{folder}/" for folder in os.environ.get("TRIM_ORIGINALS", "").split(os.pathsep) if folder)
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
    modules = {str(getattr(module, "__file__", "")) for module in [*sys.modules.values()]}
    outside = sorted(name for name in mapped | modules if name.startswith(originals)) if originals else []
    assert not outside, outside[:5]
    return f"{sum('.so' in name for name in mapped)} libraries"


def run(name: str) -> dict[str, str]:
    """Run one check."""
    try:
        return {"check": name, "state": "passed", "detail": CHECKS[name]()}
    except Skip as reason:
        return {"check": name, "state": "skipped", "detail": str(reason)}
    except Exception as error:  # noqa: BLE001 - whatever a missing file raises is the result
        return {"check": name, "state": "failed", "detail": " ".join(f"{type(error).__name__}: {error}".split())[:400]}


def main() -> int:
    """Say what there is, and run the named checks."""
    facts = {"torch": torch.__version__, "cuda": torch.version.cuda or "cpu", "device": DEVICE, "checks": [*CHECKS]}
    print(json.dumps(facts), flush=True)
    torch.manual_seed(0)
    for name in sys.argv[1:]:
        print(json.dumps(run(name)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
