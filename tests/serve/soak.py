"""`make soak`: many clients, on loopback, that ask well, ask badly, and go away; then the service must be as before.

    python tests/serve/soak.py --seconds 600 --clients 64

Every answer has a status that its request may have, its own request id, and with 200 sound that can be decoded; every
request that was waited for has an answer; afterwards threads, file descriptors and tasks are those of after the
warm-up, memory is that of the middle of the load, and the folder of the voices holds the listed ones and no other.
The report is JSON on stdout; the exit status is 1 when something of this is not so.
"""

from __future__ import annotations

import argparse
import asyncio
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
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from soak_asks import KEPT, KINDS, MODEL, VOICE_PATH, Ask, Kind, fault, new_voice

ROOT = Path(__file__).parents[2]
# Low enough that 64 clients meet it: a 429 is one of the answers that are tried.
SETTINGS = {
    "WW_HOST": "127.0.0.1", "WW_MAX_WAITING": "40", "WW_MAX_BODY_MIB": "2", "WW_LOG_LEVEL": "warning",
    "WW_MODEL_ID": MODEL,
}  # fmt: skip
START_S, ANSWER_S, SETTLE_S, END_S = 120.0, 120.0, 60.0, 30.0
# What the allocator may keep of pages that it freed in an order of its own.
SLACK_MIB, SLACK_SHARE = 48.0, 0.05
SLACK_COUNT = 2


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
        request = self.client.build_request(ask.method, ask.path, content=content, headers=headers)
        if kind.leave == "hearing":
            await self._hear_a_part(kind, request, name)
            return
        try:
            # Who does not leave waits as long as the client does.
            answer = await asyncio.wait_for(self.client.send(request), None if kind.leave == "never" else patience_s)
        except TimeoutError:
            self.report.count(kind, "left")
            return
        self._check(kind, answer, name)
        if answer.status_code == 429:  # asked for to come back later, a client does, if a little early
            await asyncio.sleep(patience_s)

    async def _hear_a_part(self, kind: Kind, request: httpx.Request, name: str) -> None:
        """Leave when the first part of the sound is there."""
        answer = await self.client.send(request, stream=True)
        try:
            if answer.is_success:
                async for _ in answer.aiter_raw():
                    self.report.count(kind, "left")
                    break
            else:
                await answer.aread()
                self._check(kind, answer, name)
        finally:
            await answer.aclose()

    def _check(self, kind: Kind, answer: httpx.Response, name: str) -> None:
        self.report.count(kind, str(answer.status_code))
        if answer.status_code not in kind.statuses:
            self.report.problem(f"{kind.name}: {answer.status_code}: {answer.text[:300]}")
        if answer.headers.get("X-Request-ID") != name:
            self.report.problem(f"{kind.name}: the answer to another request")
        if wrong := fault(answer):
            self.report.problem(f"{kind.name}: {wrong}")

    async def keep_voices(self) -> None:
        """Make the voices that stay."""
        for name in KEPT:
            (await self.probe.post(VOICE_PATH, json=new_voice(random.Random(name), name))).raise_for_status()

    async def compare_voices(self, folder: Path) -> None:
        """What is listed must be in the folder, and nothing else."""
        listed = {voice["id"]: voice["name"] for voice in (await self.probe.get(VOICE_PATH)).json()["data"]}
        files = {file.name.partition(".")[0] for file in (folder / "voices").iterdir()}
        if files != set(listed) or not {*KEPT} <= {*listed.values()}:
            self.report.problem(f"{len(listed)} voices are listed, and {len(files)} files are there")

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


async def drive(process: subprocess.Popen[bytes], port: int, report: Report, data: Path) -> None:
    """Warm up, settle, load, settle, compare; ``data`` is the folder of the voices."""
    async with connect(f"http://127.0.0.1:{port}") as client:
        await _wait_ready(client, process)
        soak = Soak(client, process, report)
        await soak.keep_voices()
        await soak.load(max(3.0, min(60.0, report.seconds / 4)), seed=0)
        report.before = await soak.settle()
        await soak.load(report.seconds, seed=1)
        report.after = await soak.settle()
        await soak.compare_voices(data)
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
    data = log.parent / "data"
    environment |= {"WW_PORT": str(port), "WW_MODEL_DIR": str(model_dir), "WW_DATA_DIR": str(data)}
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "serve"], env=environment, cwd=log.parent, stderr=stderr)
    try:
        asyncio.run(drive(process, port, report, data))
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
