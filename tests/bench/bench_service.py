"""`make bench-service`: the service beside a plain call of qwen-tts, in one run on one machine.

    PYTHONPATH=. python tests/bench/bench_service.py CHECKPOINT [--engines qwen faster] [--dtype float16] [--json FILE]

Plain is what its README shows: load with qwen-tts, ``generate_voice_clone`` with the reference each time, wait for the
end. The service is ``python -m serve`` on the loopback. Both say the same text with the same checkpoint.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from images.wav import reference_voice  # noqa: E402 - it lies beside us

TEXT = "The quick brown fox jumps over the lazy dog."
REFERENCE_TEXT = "What the reference says."
RATE = 24_000
RUNS = 2
BATCH = 8


@contextlib.contextmanager
def service(checkpoint: Path, port: int, settings: dict[str, str]) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    """The service as a process; its client, and what /ready said of the start."""
    environment = (
        os.environ | {"WW_MODEL_DIR": str(checkpoint), "WW_HOST": "127.0.0.1", "WW_PORT": str(port)} | settings
    )
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", "serve"], cwd=ROOT, env=environment, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
                yield client, wait_ready(client, process)
        finally:
            process.terminate()
            process.wait(30)


def wait_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            answer = client.get("/ready")
            if answer.status_code == httpx.codes.OK:
                content: dict[str, Any] = answer.json()
                return content
        time.sleep(0.1)
    raise SystemExit(f"the service ended with status {process.returncode}")


def measure_service(client: httpx.Client) -> dict[str, float]:
    """Seconds, and seconds of sound per second."""
    voice = {"ref_audio_base64": base64.b64encode(reference_voice()).decode(), "ref_text": REFERENCE_TEXT}
    body = {"text": TEXT, "language": "english"} | voice
    first_call, _ = whole(client, body)
    calls = [whole(client, body) for _ in range(RUNS)]
    streams = [streamed(client, body | {"stream": True, "response_format": "pcm"}) for _ in range(RUNS)]
    start = time.perf_counter()
    answer = client.post("/clone-batch", json={"items": [{"text": TEXT, "language": "english"}] * BATCH} | voice)
    batch_s = time.perf_counter() - start
    items = answer.json()["items"]
    sound = sum(len(base64.b64decode(item["audio_base64"])) - 44 for item in items) / 2 / RATE
    return {
        "first request, s": first_call,
        "whole answer, s": statistics.median(seconds for seconds, _ in calls),
        "first sound, streamed, s": statistics.median(first for first, _, _ in streams),
        "x real time": statistics.median(sound / seconds for seconds, sound in calls),
        "x real time, streamed": statistics.median(sound / seconds for _, seconds, sound in streams),
        f"x real time, {BATCH} at once": sound / batch_s,
    }


def whole(client: httpx.Client, body: dict[str, Any]) -> tuple[float, float]:
    start = time.perf_counter()
    answer = client.post("/clone", json=body).raise_for_status()
    return time.perf_counter() - start, (len(answer.content) - 44) / 2 / RATE


def streamed(client: httpx.Client, body: dict[str, Any]) -> tuple[float, float, float]:
    start, first, size = time.perf_counter(), 0.0, 0
    with client.stream("POST", "/clone", json=body) as answer:
        answer.raise_for_status()
        for part in answer.iter_raw():
            first = first or time.perf_counter() - start
            size += len(part)
    return first, time.perf_counter() - start, size / 2 / RATE


def measure_plain(checkpoint: Path, dtype: str, attention: str) -> dict[str, float]:
    """The same with qwen-tts alone, in this process."""
    import io  # noqa: PLC0415 - torch takes seconds: after the service's own start is measured

    import soundfile  # noqa: PLC0415

    from serve.engines import attention as attentions  # noqa: PLC0415
    from serve.engines import dtypes, engine, probe  # noqa: PLC0415
    from serve.engines.qwen_load import load_checkpoint  # noqa: PLC0415

    device = probe.find_device(None)
    parts = dtypes.decide_dtypes(dtype, device.gpus)  # type: ignore[arg-type]
    if parts.uniform:
        parts = dataclasses.replace(parts, codec=parts.talker)  # as its README has it: one dtype for all
    decision = attentions.Decision(attention, "the benchmark", ())  # type: ignore[arg-type]
    # Its own loader cannot read a local checkpoint's tokenizer: ours, and from there on nothing but the package.
    model = load_checkpoint(engine.LoadPlan(checkpoint, device, decision, parts)).model
    samples, rate = soundfile.read(io.BytesIO(reference_voice()), dtype="float32")

    def call(texts: list[str]) -> tuple[float, float]:
        start = time.perf_counter()
        waves, _ = model.generate_voice_clone(
            text=texts,
            language=["english"] * len(texts),
            ref_audio=[(samples, rate)] * len(texts),
            ref_text=[REFERENCE_TEXT] * len(texts),
            non_streaming_mode=True,
            max_new_tokens=frames(),
        )
        return time.perf_counter() - start, sum(map(len, waves)) / RATE

    first, _ = call([TEXT])
    calls = [call([TEXT]) for _ in range(RUNS)]
    batch_s, sound = call([TEXT] * BATCH)
    return {
        "first request, s": first,
        "whole answer, s": statistics.median(seconds for seconds, _ in calls),
        "first sound, streamed, s": statistics.median(seconds for seconds, _ in calls),
        "x real time": statistics.median(sound / seconds for seconds, sound in calls),
        f"x real time, {BATCH} at once": sound / batch_s,
    }


def frames() -> int:
    """As many as the service lets the text have: random weights do not stop by themselves."""
    from serve.speech.text import frame_cap  # noqa: PLC0415

    return frame_cap(TEXT) + 1


def table(rows: dict[str, dict[str, float]]) -> str:
    names: list[str] = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| | {' | '.join(rows)} |", f"|---|{'---:|' * len(rows)}"]
    show = [[f"{row[name]:.3g}" if name in row else "" for row in rows.values()] for name in names]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in zip(names, show, strict=True))])


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--engines", nargs="+", default=["qwen"], help="of the service, one column each")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    settings = {"WW_DTYPE": options.dtype, "WW_ATTENTION": options.attention}
    figures: dict[str, Any] = {}
    columns: dict[str, dict[str, float]] = {}
    for engine in options.engines:
        with service(options.checkpoint.resolve(), options.port, settings | {"WW_ENGINE": engine}) as (client, ready):
            columns[engine] = measure_service(client)
            health = client.get("/health").json()
        phases = {phase["name"]: phase["seconds"] for phase in ready["phases"]}
        print(
            f"{engine}: {health['device']['name']}, {health['attention']['running']}, {health['dtype']['talker']};",
            end=" ",
        )
        print(f"start {phases}")
        figures[engine] = {key: health[key] for key in ("device", "dtype")} | {"start": phases}
    columns["plain qwen-tts"] = measure_plain(options.checkpoint.resolve(), options.dtype, options.attention)
    print(table(columns))
    if options.json:
        options.json.write_text(json.dumps({"runs": figures, "figures": columns}, indent=1) + "\n")


if __name__ == "__main__":
    main()
