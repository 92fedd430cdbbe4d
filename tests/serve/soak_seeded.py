"""What `make soak VERIFY=1` compares: seeded requests of two keys, whose voices have the same names and other audio."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
from soak_asks import FORMATS, KEPT, KINDS, MODEL, VOICES, WORKS, Ask, Kind, form, post

KEYS = ("anna-0123456789abcdef", "ben-0123456789abcdef")
NAMES = ("one", "two", "three")
SEED = 4711
WEIGHT = 3
# So many of each kind of request that is not compared, of a hundred: they are there to disturb.
SHARE = 40


@dataclass(frozen=True, slots=True)
class Seeded:
    """A request whose answer is the same bytes each time.

    Attributes:
        what: its name without the key's.
        key: whose it is.
        ask: the request.
        of_voice: it speaks with a voice that is kept, so the two keys' answers differ.
    """

    what: str
    key: str
    ask: Ask
    of_voice: bool

    def name_for(self, key: str) -> str:
        """The name of the same request by that key."""
        return f"seeded, {key.partition('-')[0]}: {self.what}"

    @property
    def kind(self) -> Kind:
        """Of the load."""
        return Kind(self.name_for(self.key), WEIGHT, lambda _: self.ask, WORKS)


def own_voice(key: str, name: str) -> dict[str, str]:
    """A voice to keep: each key's own audio under that name."""
    number = (KEYS.index(key) + len(KEYS) * (*KEPT, *NAMES).index(name)) % len(VOICES)
    return {"name": name, "consent": "Nobody's voice.", "language": "en"} | VOICES[number]


def _asks() -> Iterator[tuple[str, Ask, bool]]:
    """Name, request, and whether it is by a kept voice."""
    text = {"text": "The same words each time. And a second sentence.", "language": "en", "seed": SEED}
    for kind in FORMATS:
        yield f"clone, {kind}", post("/clone", text | VOICES[0] | {"response_format": kind}), False
        streamed = text | VOICES[1] | {"response_format": kind, "stream": True}
        yield f"clone, streamed, {kind}", post("/clone", streamed), False
        for stream_format in ("audio", "sse"):
            yield f"speech, {stream_format}, {kind}", _speech(NAMES[0], kind, stream_format), True
    for name in NAMES[1:]:
        yield f"speech, {name}", _speech(name, "wav", "audio"), True
    alone = {"ref_audio_base64": VOICES[2]["ref_audio_base64"], "x_vector_only": True}
    yield "clone, x-vector", post("/clone", text | alone), False
    yield "form", form("/clone", {name: str(value) for name, value in (text | VOICES[3]).items()}), False
    for count in (1, 4):
        items = [{"text": f"Item {index} of them."} for index in range(count)]
        yield f"batch of {count}", post("/clone-batch", {"items": items, "seed": SEED} | VOICES[0]), False


def _speech(voice: str, kind: str, stream_format: str) -> Ask:
    body: dict[str, Any] = {"model": MODEL, "input": "Said by a voice that is kept.", "voice": voice, "seed": SEED}
    return post("/v1/audio/speech", body | {"response_format": kind, "stream_format": stream_format})


SEEDED = tuple(Seeded(what, key, replace(ask, key=key), of_voice) for key in KEYS for what, ask, of_voice in _asks())


def meanwhile() -> tuple[Kind, ...]:
    """What happens beside: who leaves, garbage, voices that come and go; fewer of them."""
    rest = [
        kind for kind in KINDS if kind.leave != "never" or kind.name.startswith(("garbage", "voice", "wrong", "no"))
    ]
    total, seeded = sum(kind.weight for kind in rest), WEIGHT * len(SEEDED)
    scale = SHARE / (100 - SHARE) * seeded / total
    return tuple(replace(kind, weight=max(1, round(kind.weight * scale))) for kind in rest)


def digest(answer: httpx.Response) -> str:
    """Of the sound in an answer, which may be parts in events or items of a batch."""
    kind = answer.headers["Content-Type"].partition(";")[0]
    content = answer.content
    if kind == "text/event-stream":
        events = [json.loads(line[len("data: ") :]) for line in answer.text.splitlines() if line.startswith("data: ")]
        content = b"".join(base64.b64decode(event["audio"]) for event in events if "audio" in event)
    elif kind == "application/json":
        content = json.dumps([item["audio_base64"] for item in answer.json()["items"]]).encode()
    return hashlib.sha256(content).hexdigest()
