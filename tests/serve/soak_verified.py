"""The clients of `make soak VERIFY=1`: what is seeded must be under load what it is alone, bit for bit."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import httpx
from soak_asks import KEPT, VOICE_PATH, Ask, Kind
from soak_clients import Report, Soak
from soak_seeded import KEYS, NAMES, SEEDED, Seeded, digest, meanwhile, own_voice


class VerifiedSoak(Soak):
    """Two keys with voices of the same names and other audio; what is seeded is compared with the answer made alone."""

    kinds = (*(kind.kind for kind in SEEDED), *meanwhile())

    def __init__(self, probe: httpx.AsyncClient, process: subprocess.Popen[bytes], report: Report) -> None:
        super().__init__(probe, process, report)
        self.probe.headers.update(_bearer(KEYS[0]))
        self._alone: dict[str, str] = {}
        self.compared: Counter[str] = Counter()
        report.compared = self.compared

    async def prepare(self) -> None:
        """Make each key's voices, then ask everything alone, twice: it must repeat before it can be compared."""
        for key in KEYS:
            for name in (*KEPT, *NAMES):
                made = await self.probe.post(VOICE_PATH, json=own_voice(key, name), headers=_bearer(key))
                made.raise_for_status()
        self._alone = await self._ask_alone()
        for name, found in (await self._ask_alone()).items():
            if found != self._alone[name]:
                self.report.problem(f"{name}: not the same twice, though alone")
        for one in SEEDED:
            other = one.name_for(KEYS[1])
            if one.of_voice and one.kind.name != other and self._alone[one.kind.name] == self._alone[other]:
                self.report.problem(f"{one.kind.name}: the same as the other key's, whose voice has another audio")

    async def compare_voices(self, folder: Path) -> None:
        """And ask everything alone once more."""
        await super().compare_voices(folder)
        for name, found in (await self._ask_alone()).items():
            if found != self._alone[name]:
                self.report.problem(f"{name}: after the load not what it was before")
        if not self.compared:
            self.report.problem("no seeded answer was compared")

    async def _voices(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for key in KEYS:
            answer = await self.probe.get(VOICE_PATH, headers=_bearer(key))
            found |= {voice["id"]: voice["name"] for voice in answer.json()["data"]}
        return found

    async def _ask_alone(self) -> dict[str, str]:
        return {one.kind.name: digest(await self._send(one)) for one in SEEDED}

    async def _send(self, one: Seeded) -> httpx.Response:
        ask = one.ask
        headers = {"Content-Type": ask.kind} | _bearer(one.key)
        return (await self.probe.request(ask.method, ask.path, content=ask.body, headers=headers)).raise_for_status()

    def _key(self, ask: Ask, name: str) -> dict[str, str]:
        return _bearer(ask.key or KEYS[int(name, 16) % len(KEYS)])

    def _check(self, kind: Kind, answer: httpx.Response, name: str) -> None:
        super()._check(kind, answer, name)
        if kind.name in self._alone and answer.is_success:
            self.compared[kind.name] += 1
            if digest(answer) != self._alone[kind.name]:
                self.report.problem(f"{kind.name}: under load not what it is alone ({name})")


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
