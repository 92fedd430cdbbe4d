"""The clients of `make soak`, what they see, and what the service holds."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from soak_asks import KEPT, KINDS, VOICE_PATH, Ask, Kind, fault, new_voice

ANSWER_S, SETTLE_S = 120.0, 60.0


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
    compared: Counter[str] | None = None

    def count(self, kind: Kind, what: str) -> None:
        """One more outcome of a kind of request."""
        self.answers.setdefault(kind.name, Counter())[what] += 1

    def problem(self, what: str) -> None:
        """Keep what is wrong, but not for ever."""
        if len(self.problems) < 50:
            self.problems.append(what)


class Soak:
    """The clients, and what they see."""

    kinds: Sequence[Kind] = KINDS

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
        weights = [kind.weight for kind in self.kinds]
        while time.monotonic() < until and self.process.poll() is None:
            (kind,) = rng.choices(self.kinds, weights)
            try:
                await self._ask(kind, kind.make(rng), f"{rng.getrandbits(64):x}", rng.uniform(0.01, 1))
            except httpx.HTTPError as error:
                self.report.count(kind, "lost")
                self.report.problem(f"{kind.name}: no answer: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)

    async def _ask(self, kind: Kind, ask: Ask, name: str, patience_s: float) -> None:
        headers = {"Content-Type": ask.kind, "X-Request-ID": name} | self._key(ask, name)
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

    def _key(self, ask: Ask, name: str) -> dict[str, str]:
        return {}

    async def prepare(self) -> None:
        """Make the voices that stay."""
        for name in KEPT:
            (await self.probe.post(VOICE_PATH, json=new_voice(random.Random(name), name))).raise_for_status()

    async def compare_voices(self, folder: Path) -> None:
        """What is listed must be in the folder, and nothing else."""
        listed = await self._voices()
        files = {file.name.partition(".")[0] for file in (folder / "voices").iterdir()}
        if files != set(listed) or not {*KEPT} <= {*listed.values()}:
            self.report.problem(f"{len(listed)} voices are listed, and {len(files)} files are there")

    async def _voices(self) -> dict[str, str]:
        return {voice["id"]: voice["name"] for voice in (await self.probe.get(VOICE_PATH)).json()["data"]}

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


def connect(base_url: str) -> httpx.AsyncClient:
    """A client with as many connections as it likes."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=8)
    return httpx.AsyncClient(base_url=base_url, timeout=ANSWER_S, limits=limits, trust_env=False)
