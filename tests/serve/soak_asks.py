"""What `make soak` asks for: one line a kind of request; and what must be in an answer."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import numpy as np
import soundfile

MODEL = "soak/model"
# Made before the load, and never deleted.
KEPT = tuple(f"kept-{number}" for number in range(4))
# Made, spoken with and deleted by everybody at once.
PASSING = tuple(f"passing-{number}" for number in range(12))
FORMATS = ("wav", "mp3", "opus", "flac", "pcm")
Leave = Literal["never", "waiting", "hearing", "sending"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; ``key``: whose it is, where it matters and there are keys."""

    path: str
    body: bytes
    method: str = "POST"
    kind: str = "application/json"
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request.

    Args:
        name: for the report.
        weight: how often, beside the others.
        make: one request of the kind.
        statuses: those that it may be answered with; 429 always may be one of them for work.
        leave: when the caller goes away: never, while it waits for the answer, after the answer's first part, or in the
            middle of its body.
    """

    name: str
    weight: int
    make: Callable[[random.Random], Ask]
    statuses: frozenset[int]
    leave: Leave = "never"


def _voice(seed: int) -> dict[str, str]:
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, 24_000).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, 24_000, format="WAV", subtype="PCM_16")
    return {"ref_audio_base64": base64.b64encode(buffer.getvalue()).decode(), "ref_text": f"This is voice {seed}."}


VOICES = tuple(_voice(seed) for seed in range(4))


def post(path: str, body: Mapping[str, Any]) -> Ask:
    """A request with a JSON body."""
    return Ask(path, json.dumps(body).encode())


def form(path: str, body: Mapping[str, str], file_field: str = "ref_audio") -> Ask:
    """A request with a form, its audio as a file."""
    fields = {name: value for name, value in body.items() if name != "ref_audio_base64"}
    audio = base64.b64decode(body["ref_audio_base64"])
    request = httpx.Request("POST", "http://x", data=fields, files={file_field: ("voice.wav", audio)})
    return Ask(path, request.read(), kind=request.headers["Content-Type"])


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


def new_voice(rng: random.Random, name: str) -> dict[str, str]:
    """A voice to keep."""
    return {"name": name, "consent": "Nobody's voice.", "language": "en"} | rng.choice(VOICES)


def speech(rng: random.Random, voice: str, stream_format: str, sentences: int = 1, **changes: Any) -> Ask:
    """A request as OpenAI's clients send it, in any format."""
    text = "A sentence that is said now. " * rng.randint(1, sentences)
    body = {"model": MODEL, "input": text, "voice": voice, "response_format": rng.choice(FORMATS)}
    return post("/v1/audio/speech", body | {"stream_format": stream_format} | changes)


def one_of(rng: random.Random, method: str) -> Ask:
    """About one voice that may be there."""
    return Ask(f"{VOICE_PATH}/{rng.choice(PASSING)}", b"", method)


VOICE_PATH = "/v1/audio/voices"
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
    Kind("left while heard", 2, lambda rng: post("/clone", said(rng, 20) | {"stream": True}), WORKS, leave="hearing"),
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
    Kind("speech", 4, lambda rng: speech(rng, rng.choice(KEPT), "audio", 4), WORKS),
    Kind("speech, events", 3, lambda rng: speech(rng, rng.choice(KEPT), "sse", 4), WORKS),
    Kind("speech left", 2, lambda rng: speech(rng, rng.choice(KEPT), "audio", 20), WORKS, leave="hearing"),
    Kind("events left", 2, lambda rng: speech(rng, rng.choice(KEPT), "sse", 20), WORKS, leave="hearing"),
    Kind("speech, passing voice", 3, lambda rng: speech(rng, rng.choice(PASSING), "audio"), WORKS | {404}),
    Kind("speech, no model", 1, lambda rng: speech(rng, KEPT[0], "audio", model="none"), frozenset({404})),
    Kind(
        "voice made", 3, lambda rng: post(VOICE_PATH, new_voice(rng, rng.choice(PASSING))), frozenset({201, 409})
    ),
    Kind(
        "voice made by form", 2, lambda rng: form(VOICE_PATH, new_voice(rng, rng.choice(PASSING)), "audio_sample"),
        frozenset({201, 409}),
    ),
    Kind("voice left in its body", 1, lambda rng: post(VOICE_PATH, new_voice(rng, "never")), WORKS, leave="sending"),
    Kind("voices", 2, lambda _: Ask(VOICE_PATH, b"", "GET"), frozenset({200})),
    Kind("voice shown", 1, lambda rng: one_of(rng, "GET"), frozenset({200, 404})),
    Kind("voice deleted", 4, lambda rng: one_of(rng, "DELETE"), frozenset({200, 404})),
    Kind("no route", 1, lambda rng: Ask(f"/{rng.randrange(10**6)}", b"", "GET"), frozenset({404})),
    Kind("probe", 3, lambda rng: Ask(rng.choice(("/live", "/ready", "/health")), b"", "GET"), frozenset({200})),
    Kind("scrape", 1, lambda rng: Ask(rng.choice(("/metrics", "/info")), b"", "GET"), frozenset({200})),
)  # fmt: skip


def fault(answer: httpx.Response) -> str | None:
    """What is wrong with the content of an answer, if it is an error, sound or events; None: nothing."""
    if answer.status_code >= 400:
        good = set(answer.json()["error"]) == {"code", "message", "field", "remedy"}
        return None if good else f"an error of another shape: {answer.text[:300]}"
    kind = answer.headers["Content-Type"].partition(";")[0]
    if kind == "text/event-stream":
        return _fault_of_events(answer.text)
    if kind.startswith("audio/"):
        return _fault_of_sound(kind, answer.content)
    return None


def _fault_of_sound(kind: str, content: bytes) -> str | None:
    if kind == "audio/pcm":
        return None if len(content) > 1000 and len(content) % 2 == 0 else f"{len(content)} bytes of pcm"

    class Forward(soundfile.SoundFile):
        def seekable(self) -> bool:  # a streamed flac does not say its length
            return False

    try:
        with Forward(io.BytesIO(content)) as file:
            heard = file.read(frames=24_000 * 600, dtype="float32").size
    except soundfile.LibsndfileError as error:
        return f"{kind} that is no sound: {error}, {len(content)} bytes"
    return None if heard > 500 else f"{kind} of {heard} samples"


def _fault_of_events(text: str) -> str | None:
    events = [json.loads(line[len("data: ") :]) for line in text.splitlines() if line.startswith("data: ")]
    kinds = [event["type"] for event in events]
    if len(kinds) < 2 or kinds[-1] != "speech.audio.done" or {*kinds[:-1]} != {"speech.audio.delta"}:
        return f"events {kinds[:2]} ... {kinds[-1:]}"
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    return None if len(sound) > 200 else f"events of {len(sound)} bytes"
