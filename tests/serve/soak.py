"""`make soak`: many clients, on loopback, that ask well, ask badly, and go away; then the service must be as before.

    python tests/serve/soak.py --seconds 600 --clients 64

Every answer has a status that its request may have, its own request id, and (with 200) audio; every request that was
waited for has an answer; afterwards threads, file descriptors and tasks are those of after the warm-up, and memory is
that of the middle of the load.
The report is JSON on stdout; the exit status is 1 when something of this is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]
# Low enough that 64 clients meet it: a 429 is one of the answers that are tried.
SETTINGS = {"WW_HOST": "127.0.0.1", "WW_MAX_WAITING": "40", "WW_MAX_BODY_MIB": "2", "WW_LOG_LEVEL": "warning"}
START_S, ANSWER_S, SETTLE_S, END_S = 120.0, 120.0, 60.0, 30.0
# What the allocator may keep of pages that it freed in an order of its own.
SLACK_MIB, SLACK_SHARE = 48.0, 0.05
SLACK_COUNT = 2


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    path: str
    body: bytes
    method: str = "POST"
    kind: str = "application/json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request.

    Args:
        name: for the report.
        weight: how often, beside the others.
        make: one request of the kind.
        statuses: those that it may be answered with; 429 always may be one of them for work.
        leave: when the caller goes away: never, while it waits for the answer, or in the middle of its body.
    """

    name: str
    weight: int
    make: Callable[[random.Random], Ask]
    statuses: frozenset[int]
    leave: Literal["never", "waiting", "sending"] = "never"


def _voice(seed: int) -> dict[str, str]:
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, 24_000).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, 24_000, format="WAV", subtype="PCM_16")
    return {"ref_audio_base64": base64.b64encode(buffer.getvalue()).decode(), "ref_text": f"This is voice {seed}."}


VOICES = tuple(_voice(seed) for seed in range(4))


def post(path: str, body: Mapping[str, Any]) -> Ask:
    """A request with a JSON body."""
    return Ask(path, json.dumps(body).encode())


def form(path: str, body: Mapping[str, str]) -> Ask:
    """A request with a form, its audio as a file."""
    fields = {name: value for name, value in body.items() if name != "ref_audio_base64"}
    audio = base64.b64decode(body["ref_audio_base64"])
    request = httpx.Request("POST", "http://x", data=fields, files={"ref_audio": ("voice.wav", audio)})
    return Ask(path, request.read(), kind=request.headers["Content-Type"])


def spoken(rng: random.Random) -> dict[str, Any]:
    """A request for speech with a voice that nobody has."""
    return {"model": "none", "input": said(rng)["text"], "voice": f"voice-{rng.randrange(9)}"}


def said(rng: random.Random, sentences: int = 1) -> dict[str, Any]:
    """A good request's text and voice."""
    text = "A sentence that is said now. " * rng.randint(1, sentences)
    return {"text": text, "language": rng.choice(("auto", "en", "German"))} | rng.choice(VOICES)


def several(rng: random.Random) -> dict[str, Any]:
    """A good batch."""
    return {"items": [{"text": f"Item {index}."} for index in range(rng.randint(1, 4))]} | rng.choice(VOICES)


def wrong(rng: random.Random) -> dict[str, Any]:
    """A request with one field that cannot be."""
    changes: tuple[dict[str, Any], ...] = (
        {"text": ""}, {"text": 7}, {"text": "x" * 6000}, {"language": "xx"}, {"seed": -1}, {"ref_text": None},
        {"ref_audio_base64": "AAAA"}, {"ref_audio_base64": "file:///etc/passwd"}, {"ref_audio_base64": "/etc/passwd"},
        {"ref_audio_base64": VOICES[0]["ref_audio_base64"][:200]}, {"nonsense": {}},
    )  # fmt: skip
    return said(rng) | rng.choice(changes)


WORKS = frozenset({200, 429})
REFUSED = frozenset({422, 429})
KINDS: tuple[Kind, ...] = (
    Kind("clone", 8, lambda rng: post("/clone", said(rng)), WORKS),
    Kind("clone, long", 1, lambda rng: post("/clone", said(rng, 40)), WORKS),
    Kind("clone, seeded", 1, lambda rng: post("/clone", said(rng) | {"seed": rng.randrange(2**31)}), WORKS),
    Kind("clone, streamed", 3, lambda rng: post("/clone", said(rng, 4) | {"stream": True}), WORKS),
    Kind(
        "left while streamed", 2, lambda rng: post("/clone", said(rng, 20) | {"stream": True}), WORKS, leave="waiting"
    ),
    Kind("batch", 3, lambda rng: post("/clone-batch", several(rng)), WORKS),
    Kind("left while waiting", 4, lambda rng: post("/clone", said(rng, 20)), WORKS, leave="waiting"),
    Kind("batch left", 2, lambda rng: post("/clone-batch", several(rng)), WORKS, leave="waiting"),
    Kind("left in its body", 2, lambda rng: post("/clone", said(rng)), WORKS, leave="sending"),
    Kind("wrong field", 4, lambda rng: post("/clone", wrong(rng)), REFUSED),
    Kind("garbage", 3, lambda rng: Ask("/clone", rng.randbytes(rng.randrange(3000))), frozenset({400, 422})),
    Kind("garbage batch", 2, lambda rng: Ask("/clone-batch", rng.randbytes(99)), frozenset({400, 422})),
    Kind("too large", 1, lambda _: Ask("/clone", b" " * (2 << 20) + b"{}"), frozenset({413})),
    Kind("not JSON", 1, lambda rng: Ask("/clone", rng.randbytes(500), kind="audio/wav"), frozenset({415})),
    Kind("form", 2, lambda rng: form("/clone", said(rng)), WORKS),
    Kind("speech", 1, lambda rng: post("/v1/audio/speech", spoken(rng)), frozenset({404, 409, 429})),
    Kind("no route", 1, lambda rng: Ask(f"/{rng.randrange(10**6)}", b"", "GET"), frozenset({404})),
    Kind("probe", 3, lambda rng: Ask(rng.choice(("/live", "/ready", "/health")), b"", "GET"), frozenset({200})),
    Kind("scrape", 1, lambda rng: Ask(rng.choice(("/metrics", "/info")), b"", "GET"), frozenset({200})),
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the idle service holds."""

    rss_mib: float
    threads: int
    descriptors: int
    tasks: int


@dataclass(slots=True)
class Report:
    """What happened; good when ``problems`` is empty."""

    seconds: float
    clients: int
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    before: Usage | None = None
    after: Usage | None = None
    rss_mib: list[float] = field(default_factory=list)

    def count(self, kind: Kind, what: str) -> None:
        """One more outcome of a kind of request."""
        self.answers.setdefault(kind.name, Counter())[what] += 1

    def problem(self, what: str) -> None:
        """Keep what is wrong, but not for ever."""
        if len(self.problems) < 50:
            self.problems.append(what)


class Soak:
    """The clients, and what they see."""

    def __init__(self, probe: httpx.AsyncClient, process: subprocess.Popen[bytes], report: Report) -> None:
        self.probe = probe
        self.client = probe
        self.process = process
        self.report = report

    async def load(self, seconds: float, seed: int) -> None:
        """Let all clients ask until the time is over; each then waits for its last answer. Seed 0 is the warm-up."""
        until = time.monotonic() + seconds
        # Its connections end with it, so that those kept alive are not taken for a leak.
        async with connect(str(self.probe.base_url)) as self.client, asyncio.TaskGroup() as group:
            if seed:
                group.create_task(self._watch(until, seconds / 20))
            for index in range(self.report.clients):
                group.create_task(self._client(random.Random(f"{seed} {index}"), until))

    async def _watch(self, until: float, step: float) -> None:
        while time.monotonic() < until and self.process.poll() is None:
            self.report.rss_mib.append(_usage(self.process.pid, 0).rss_mib)
            await asyncio.sleep(step)

    async def _client(self, rng: random.Random, until: float) -> None:
        weights = [kind.weight for kind in KINDS]
        while time.monotonic() < until and self.process.poll() is None:
            (kind,) = rng.choices(KINDS, weights)
            try:
                await self._ask(kind, kind.make(rng), f"{rng.getrandbits(64):x}", rng.uniform(0.01, 1))
            except httpx.HTTPError as error:
                self.report.count(kind, "lost")
                self.report.problem(f"{kind.name}: no answer: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)

    async def _ask(self, kind: Kind, ask: Ask, name: str, patience_s: float) -> None:
        headers = {"Content-Type": ask.kind, "X-Request-ID": name}
        content: bytes | AsyncIterator[bytes] = ask.body
        if kind.leave == "sending":
            content = _half(ask.body)
            headers["Content-Length"] = str(len(ask.body))
        answering = self.client.request(ask.method, ask.path, content=content, headers=headers)
        if kind.leave != "never":
            try:
                answer = await asyncio.wait_for(answering, patience_s)
            except TimeoutError:
                self.report.count(kind, "left")
                return
        else:
            answer = await answering
        self.report.count(kind, str(answer.status_code))
        self._check(kind, answer, name)
        if answer.status_code == 429:  # asked for to come back later, a client does, if a little early
            await asyncio.sleep(patience_s)

    def _check(self, kind: Kind, answer: httpx.Response, name: str) -> None:
        if answer.status_code not in kind.statuses:
            self.report.problem(f"{kind.name}: {answer.status_code}: {answer.text[:300]}")
        if answer.headers.get("X-Request-ID") != name:
            self.report.problem(f"{kind.name}: the answer to another request")
        if answer.status_code >= 400:
            if set(answer.json()["error"]) != {"code", "message", "field", "remedy"}:
                self.report.problem(f"{kind.name}: an error of another shape: {answer.text[:300]}")
        elif answer.headers["Content-Type"] == "audio/wav" and not (
            answer.content[:4] == b"RIFF" and len(answer.content) > 1000
        ):
            self.report.problem(f"{kind.name}: 200 without audio, {len(answer.content)} bytes")

    async def settle(self) -> Usage:
        """Wait until nothing runs and nothing changes any more; what is held then."""
        deadline, last = time.monotonic() + SETTLE_S, None
        while time.monotonic() < deadline:
            await asyncio.sleep(1)
            metrics = await self._metrics()
            if metrics["wheelwright_requests_running"] or metrics["wheelwright_queue_pieces"]:
                continue
            usage = _usage(self.process.pid, int(metrics["wheelwright_event_loop_tasks"]))
            if last is not None and (usage.threads, usage.descriptors, usage.tasks) == (
                last.threads, last.descriptors, last.tasks,
            ):  # fmt: skip
                return usage
            last = usage
        self.report.problem(f"not idle {SETTLE_S:g} s after the last answer: {await self._metrics()}")
        return last or _usage(self.process.pid, 0)

    async def _metrics(self) -> dict[str, float]:
        lines = (await self.probe.get("/metrics")).text.splitlines()
        plain = (line.split() for line in lines if not line.startswith("#") and "{" not in line)
        return {name: float(value) for name, value in plain if name.startswith("wheelwright_")}


async def _half(body: bytes) -> AsyncIterator[bytes]:
    """The first half of a body, and then nothing until the caller is gone."""
    yield body[: len(body) // 2]
    await asyncio.sleep(3600)


def _usage(pid: int, tasks: int) -> Usage:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (rss,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    threads, descriptors = (len([*Path(f"/proc/{pid}/{name}").iterdir()]) for name in ("task", "fd"))
    return Usage(round(rss / 1024, 1), threads, descriptors, tasks)


def compare(before: Usage, after: Usage, warm_mib: float) -> list[str]:
    """What there is more of after the load than before it; of memory, than in its middle."""
    problems = []
    if after.rss_mib - warm_mib > SLACK_MIB + SLACK_SHARE * warm_mib:
        problems.append(f"memory grew from {warm_mib:g} to {after.rss_mib:g} MiB")
    for name in ("threads", "descriptors", "tasks"):
        was, is_now = getattr(before, name), getattr(after, name)
        if is_now > was + SLACK_COUNT:
            problems.append(f"{name} grew from {was} to {is_now}")
    return problems


def connect(base_url: str) -> httpx.AsyncClient:
    """A client with as many connections as it likes."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=8)
    return httpx.AsyncClient(base_url=base_url, timeout=ANSWER_S, limits=limits, trust_env=False)


async def drive(process: subprocess.Popen[bytes], port: int, report: Report) -> None:
    """Warm up, settle, load, settle, compare."""
    async with connect(f"http://127.0.0.1:{port}") as client:
        await _wait_ready(client, process)
        soak = Soak(client, process, report)
        await soak.load(max(3.0, min(60.0, report.seconds / 4)), seed=0)
        report.before = await soak.settle()
        await soak.load(report.seconds, seed=1)
        report.after = await soak.settle()
    # The allocator is not at its most after a short warm-up: what counts is that memory stops growing.
    middle = report.rss_mib[len(report.rss_mib) // 2]
    report.problems += compare(report.before, report.after, max(report.before.rss_mib, middle))


async def _wait_ready(client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if (await client.get("/ready")).is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the service does not start")
        await asyncio.sleep(0.1)


def run(seconds: float, clients: int, model_dir: Path, log: Path) -> Report:
    """Start the service, load it, and end it."""
    report = Report(seconds, clients)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WW_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **SETTINGS}
    environment |= {"WW_PORT": str(port), "WW_MODEL_DIR": str(model_dir)}
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "serve"], env=environment, cwd=log.parent, stderr=stderr)
    try:
        asyncio.run(drive(process, port, report))
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=END_S)
        if status != 0:
            report.problem(f"exit status {status} after SIGTERM")
    finally:
        process.kill()
        process.wait()
        said_last = log.read_text(errors="replace").splitlines()[-50:]
    report.problems += [f"log: {line}" for line in said_last]
    return report


def main() -> int:
    """Run it and print the report; 1 when there are problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="of load after the warm-up (default: 600)")
    parser.add_argument("--clients", type=int, default=64, help="default: 64")
    parser.add_argument("--model-dir", type=Path, help="a checkpoint; default: the tiny one, made for this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model_dir = options.model_dir
        if model_dir is None:
            model_dir = folder / "tiny"
            subprocess.run(
                [sys.executable, "-m", "serve.tiny", str(model_dir)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
        report = run(options.seconds, options.clients, model_dir.resolve(), folder / "log")
    held = {name: None if use is None else {key: getattr(use, key) for key in Usage.__slots__}
            for name, use in (("before", report.before), ("after", report.after))}  # fmt: skip
    answers = {name: dict(sorted(counts.items())) for name, counts in sorted(report.answers.items())}
    total = sum(sum(counts.values()) for counts in report.answers.values())
    document = {"seconds": report.seconds, "clients": report.clients, "requests": total, "answers": answers}
    print(json.dumps(document | held | {"rss_mib": report.rss_mib, "problems": report.problems}, indent=2))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
