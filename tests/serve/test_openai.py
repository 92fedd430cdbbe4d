"""OpenAI's routes: with its real client on a real process, and what its client would hide in this process."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import time
from http.client import HTTPConnection, IncompleteRead

import numpy as np
import openai
import pytest
import uvicorn

from serve.api.spoken import Counting, SpokenAnswer, as_file, first_samples
from serve.errors import ServiceError
from serve.speech.cloning import Reference
from serve.speech.encoders import make_encoder
from tests.serve.refused import error_of

ANNA, BEN = "anna-0123456789abcdef", "ben-0123456789abcdef"
SPEECH = "/v1/audio/speech"
FORMATS = {"wav": b"RIFF", "pcm": b"", "mp3": None, "opus": b"OggS", "flac": b"fLaC"}


@pytest.fixture(scope="module")
def speaker(make_client, ready, sound, tmp_path_factory):
    """The app, ready, with a voice of Anna's."""
    folder = tmp_path_factory.mktemp("data")
    with make_client(DATA_DIR=str(folder), API_KEYS=f"anna:{ANNA},ben:{BEN}", MODEL_ID="test/tiny") as client:
        ready(client)
        client.headers["Authorization"] = f"Bearer {ANNA}"
        fields = {"name": "anna", "ref_text": "What is said.", "consent": "Yes.", "language": "de"}
        answer = client.post("/v1/audio/voices", data=fields, files={"audio_sample": ("a.wav", sound())})
        assert answer.status_code == 201, answer.text
        client.app_state["voice"] = answer.json()["id"]
        yield client


def say(client, **changes):
    body = {"model": "test/tiny", "input": "Hello there.", "voice": "anna", "response_format": "wav"}
    return client.post(SPEECH, json=body | changes)


def events_of(content):
    """The events of a stream, as ``(name, data)``."""
    blocks = [block.splitlines() for block in content.decode().split("\n\n") if block]
    fields = [dict(line.split(": ", 1) for line in lines) for lines in blocks]
    return [(field.get("event"), json.loads(field["data"])) for field in fields]


def pcm(content):
    return np.frombuffer(content, "<i2")


def test_the_real_client(launch, sound, tmp_path):
    process = launch(DATA_DIR=str(tmp_path / "data"), API_KEYS=f"anna:{ANNA},ben:{BEN}", MODEL_ID="test/tiny")
    process.wait_ready()
    with openai.OpenAI(base_url=f"http://127.0.0.1:{process.port}/v1", api_key=ANNA, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["test/tiny"]
        assert client.models.retrieve("test/tiny").owned_by == "wheelwright"
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("gpt-4o-mini-tts")
        assert (missing.value.code, missing.value.body["remedy"]) == ("model_not_found", "the model here is test/tiny")
        voice = client.audio.voices.create(
            name="anna", consent="Anna said yes.", audio_sample=("a.wav", sound()),
            extra_body={"ref_text": "What is said.", "language": "en"},
        )  # fmt: skip
        assert (voice.name, voice.object, voice.type) == ("anna", "audio.voice", "audio_sample")
        wanted = {"model": "test/tiny", "input": "Hello there."}
        whole = client.audio.speech.create(**wanted, voice="anna", response_format="wav")
        assert whole.response.headers["x-weights"] == "random"
        assert whole.read()[:4] == b"RIFF"
        assert pcm(whole.content[44:]).size > 1000
        assert pcm(whole.content[44:]).any()
        seeded = {**wanted, "response_format": "pcm", "extra_body": {"seed": 3}}
        once = client.audio.speech.create(**seeded, voice={"id": voice.id}).content
        with client.audio.speech.with_streaming_response.create(**seeded, voice=voice.id) as streamed:
            assert streamed.headers["content-type"].startswith("audio/pcm")
            assert b"".join(streamed.iter_bytes()) == once
        with client.audio.speech.with_streaming_response.create(
            **seeded, voice="anna", stream_format="sse"
        ) as streamed:
            assert streamed.headers["content-type"].startswith("text/event-stream")
            events = events_of(b"".join(streamed.iter_bytes()))
        assert [data["type"] for _, data in events] == ["speech.audio.delta"] * (len(events) - 1) + [
            "speech.audio.done"
        ]
        assert b"".join(base64.b64decode(data["audio"]) for _, data in events[:-1]) == once
        frames = round(pcm(once).size / 1920)
        assert events[-1][1]["usage"] == {"input_tokens": 12, "output_tokens": frames, "total_tokens": 12 + frames}
        with pytest.raises(openai.BadRequestError) as fast:
            client.audio.speech.create(**wanted, voice="anna", speed=2)
        assert (fast.value.code, fast.value.body["field"]) == ("unsupported_speed", "speed")
        other = client.with_options(api_key=BEN)
        with pytest.raises(openai.NotFoundError) as stranger:
            other.audio.speech.create(**seeded, voice=voice.id)
        assert stranger.value.code == "voice_not_found"
        with pytest.raises(openai.AuthenticationError) as unknown:
            client.with_options(api_key="nobody-0123456789").models.list()
        assert unknown.value.code == "wrong_key"
        assert client.audio.voices.delete(voice.id).deleted
    assert "Hello" not in process.stderr()
    assert ANNA not in process.stderr()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_formats(speaker, kind, stream_format):
    answer = say(speaker, response_format=kind, stream_format=stream_format)
    try:
        make_encoder(kind)
    except KeyError:
        error_of(answer, 400, "unsupported_format", "response_format")
        return
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-weights"] == "random"
    content = answer.content
    if stream_format == "sse":
        content = b"".join(base64.b64decode(data.get("audio", "")) for _, data in events_of(content))
    assert len(content) > 500
    assert content.startswith(FORMATS[kind] or b"")


def test_the_voices_language_unless_told(speaker):
    def pcm_in(seed, **changes):
        return say(speaker, response_format="pcm", seed=seed, **changes).content

    assert pcm_in(1) == pcm_in(1, language="German")
    # One sample of a sharp distribution may come out the same in two languages; not several.
    assert any(pcm_in(seed) != pcm_in(seed, language="en") for seed in range(5))


@pytest.mark.skipif(
    Reference.__annotations__["text"] == "str", reason="the engine takes no voice without a transcript yet"
)
def test_a_voice_of_likeness_alone(speaker, sound):
    fields = {"name": "likeness", "consent": "Yes.", "x_vector_only": "true"}
    speaker.post("/v1/audio/voices", data=fields, files={"audio_sample": ("a.wav", sound(seed=2))})
    assert say(speaker, voice="likeness").status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"input": " "}, 422, "no_text", "input"),
        ({"input": "x" * 5001}, 422, "text_too_long", "input"),
        ({"input": None}, 422, "invalid_request", "input"),
        ({"model": "tts-1"}, 404, "model_not_found", "model"),
        ({"voice": "alloy"}, 404, "voice_not_found", "voice"),
        ({"voice": ""}, 404, "voice_not_found", "voice"),
        ({"voice": {"id": "voice_1"}}, 404, "voice_not_found", "voice"),
        ({"voice": {"id": 1}}, 422, "invalid_request", "voice"),
        ({"voice": {"name": "anna"}}, 422, "invalid_request", "voice"),
        ({"voice": ["anna"]}, 422, "invalid_request", "voice"),
        ({"response_format": "aac"}, 422, "invalid_request", "response_format"),
        ({"stream_format": "ws"}, 422, "invalid_request", "stream_format"),
        ({"speed": 1.5}, 400, "unsupported_speed", "speed"),
        ({"speed": 0}, 400, "unsupported_speed", "speed"),
        ({"speed": "1"}, 422, "invalid_request", "speed"),
        ({"instructions": "Whisper."}, 400, "unsupported_instructions", "instructions"),
        ({"language": "xx"}, 422, "unknown_language", "language"),
        ({"seed": -1}, 422, "invalid_request", "seed"),
        ({"ref_audio": "x"}, 422, "invalid_request", "ref_audio"),
    ],
)
def test_what_is_not_said(speaker, changes, status, code, field):
    for stream_format in ("audio", "sse"):
        error_of(say(speaker, **({"stream_format": stream_format} | changes)), status, code, field)


@pytest.mark.parametrize("changes", [{"speed": 1}, {"instructions": ""}, {"instructions": None}, {"model": "tiny"}])
def test_what_says_nothing_new_is_taken(speaker, changes):
    assert say(speaker, **changes).status_code == 200


def test_models(speaker, make_client, tiny):
    listed = speaker.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["test/tiny"]
    assert speaker.get("/v1/models/test/tiny").json() == speaker.get("/v1/models/tiny").json() == listed["data"][0]
    error_of(speaker.get("/v1/models/other"), 404, "model_not_found")
    # Of a folder only its name is shown.
    (model,) = make_client().get("/v1/models").json()["data"]
    assert model["id"] == tiny.name


def test_before_it_is_ready(make_client):
    client = make_client(MODEL_ID="test/tiny")
    answer = say(client)
    error_of(answer, 503, "loading")
    assert answer.headers["retry-after"]


def test_an_error_before_the_first_sound_has_its_status(speaker, monkeypatch):
    service = speaker.app_state["service"]
    closed = []

    async def broken(*_, **__):
        try:
            raise ServiceError(504, "too_late", "it took too long", remedy="say less")
            yield
        finally:
            closed.append(1)

    monkeypatch.setattr(service, "speak", broken)
    for stream_format in ("audio", "sse"):
        error_of(say(speaker, stream_format=stream_format), 504, "too_late")
    assert closed == [1, 1]


def breaks_after_one(error, closed):
    async def speak(*_, **__):
        try:
            yield np.full(2400, 0.1, np.float32)
            raise error
        finally:
            closed.append(1)

    return speak


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceError(500, "runaway", "it went on", remedy="again"), "runaway"),
        (ZeroDivisionError("secret"), "internal"),
    ],
)
def test_an_error_in_the_middle_of_events_is_one(speaker, monkeypatch, error, code, caplog):
    closed = []
    monkeypatch.setattr(speaker.app_state["service"], "speak", breaks_after_one(error, closed))
    with caplog.at_level(logging.INFO):
        answer = say(speaker, stream_format="sse", response_format="pcm")
    first, last = events_of(answer.content)
    assert first[1]["type"] == "speech.audio.delta"
    assert (last[0], last[1]["type"], last[1]["error"]["code"]) == ("error", "error", code)
    assert set(last[1]["error"]) == {"code", "message", "field", "remedy"}
    assert "secret" not in answer.text + caplog.text
    assert closed == [1]


def drive(parts_of, disconnect_after=None, deadline_s=60.0, taken_in_s=0.0):
    """A ``SpokenAnswer`` by hand: what it sent, whether its generator was closed, and what was sent last."""
    closed, sent = [], []

    async def run():
        gone = asyncio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            await asyncio.sleep(taken_in_s)
            sent.append(message)
            if disconnect_after is not None and len(sent) == disconnect_after:
                gone.set()

        spoken, counted = parts_of(closed), Counting(make_encoder("pcm"))
        parts = as_file(await anext(spoken), spoken, counted)
        await SpokenAnswer(parts, spoken, "audio/pcm", {}, counted=counted, deadline_s=deadline_s)(
            {"type": "http"}, receive, send
        )

    asyncio.run(run())
    return sent, closed


def test_a_file_that_fails_has_no_end(caplog):
    error = ServiceError(500, "runaway", "it went on", remedy="again")
    sent, closed = drive(lambda closed: breaks_after_one(error, closed)())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["more_body"] is True
    assert closed == [1]
    assert "cut off: runaway: it went on" in caplog.text


async def seconds_of(count):
    for _ in range(count):
        yield np.full(24_000, 0.5, np.float32)


def test_who_takes_the_sound_as_it_is_played_is_not_cut_off(caplog):
    sent, _ = drive(lambda _: seconds_of(3), deadline_s=0.05, taken_in_s=0.3)
    assert sent[-1]["more_body"] is False
    assert not caplog.records


def test_who_takes_longer_than_the_sound_and_the_deadline_is_cut_off(caplog):
    sent, _ = drive(lambda _: seconds_of(3), deadline_s=-0.9, taken_in_s=0.3)
    assert sent[-1]["type"] == "http.response.start"
    assert "the caller did not take it" in caplog.text


def test_a_client_notices_that_a_file_has_no_end(free_port):
    """On the real server: what it does with an answer without an end is what the class relies on."""
    error = ServiceError(500, "runaway", "it went on", remedy="again")

    async def app(scope, receive, send):
        spoken, counted = breaks_after_one(error, [])(), Counting(make_encoder("pcm"))
        parts = as_file(await anext(spoken), spoken, counted)
        await SpokenAnswer(parts, spoken, "audio/pcm", {}, counted=counted, deadline_s=60)(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, port=free_port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    connection = HTTPConnection("127.0.0.1", free_port)
    connection.request("GET", "/")
    answer = connection.getresponse()
    with pytest.raises(IncompleteRead):
        answer.read()
    assert answer.status == 200
    connection.close()
    server.should_exit = True
    thread.join()


def test_who_goes_away_ends_the_work():
    def endless(closed):
        async def speak():
            try:
                while True:
                    yield np.full(2400, 0.1, np.float32)
                    await asyncio.sleep(0.001)
            finally:
                closed.append(1)

        return speak()

    sent, closed = drive(endless, disconnect_after=5)
    assert closed == [1]
    assert sent[-1]["more_body"] is True


def test_who_goes_away_before_the_first_sound_ends_the_work():
    closed = []

    async def never():
        try:
            await asyncio.sleep(3600)
            yield np.zeros(1, np.float32)
        finally:
            closed.append(1)

    class Gone:
        async def receive(self):
            return {"type": "http.disconnect"}

    with pytest.raises(ServiceError) as caught:
        asyncio.run(first_samples(Gone(), never()))
    assert (caught.value.status, caught.value.code) == (499, "client_gone")
    assert closed == [1]


def test_a_process_sees_who_goes_away(launch, sound, tmp_path):
    process = launch(DATA_DIR=str(tmp_path / "data"), MODEL_ID="test/tiny")
    process.wait_ready()
    audio = base64.b64encode(sound()).decode()
    fields = {"name": "anna", "consent": "Yes.", "ref_text": "Said.", "ref_audio_base64": audio}
    assert process.ask("POST", "/v1/audio/voices", fields)[0] == 201
    connection = HTTPConnection("127.0.0.1", process.port)
    text = "A sentence that is said many times. " * 130
    body = {"model": "tiny", "input": text, "voice": "anna", "response_format": "wav"}
    connection.request("POST", SPEECH, json.dumps(body), {"Content-Type": "application/json"})
    time.sleep(0.1)
    connection.close()
    deadline = time.monotonic() + 60
    while f"POST '{SPEECH}' " not in process.stderr():
        assert time.monotonic() < deadline, process.stderr()
        time.sleep(0.05)
    assert process.ask("POST", SPEECH, body | {"input": "Hello."})[0] == 200
    assert process.end()[0] == 0
    assert "Traceback" not in process.stderr()
