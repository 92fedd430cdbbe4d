"""Sound that leaves while it is made, and callers who go away: over a real connection, with the engine in sight."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import threading
import time

import httpx
import numpy as np
import pytest
import soundfile
import uvicorn

from serve import service as service_module
from serve.api import clone, sounding
from serve.api.app import create_app
from serve.service import Service
from serve.settings import read_settings

FRAME = 1920  # samples
LONG = "This is one of many sentences that are said one after the other. " * 60


@contextlib.contextmanager
def serving(tiny, **settings):
    """The service behind a port, in this process; its client knows the service: ``client.service``."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ({"MODEL_DIR": str(tiny)} | settings).items():
            patch.setenv(f"WW_{name}", value)
        service = Service(read_settings(), None)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # so that who does not read is felt soon
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: service.state.status == "ready")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            client.service = service
            yield client
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="module")
def live(tiny):
    with serving(tiny) as client:
        yield client


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def engine_of(live):
    return live.service.running.engine


def test_the_first_frame_leaves_alone_and_the_rest_in_growing_parts(live, voice):
    body = json.dumps({"text": "Hello.", "stream": True, "seed": 0} | voice).encode()
    head = ["POST /clone HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    with socket.create_connection(("127.0.0.1", live.base_url.port)) as connection:
        connection.sendall("\r\n".join(head).encode() + body)
        answer = connection.makefile("rb")
        assert answer.readline().split()[1] == b"200"
        headers = {}
        while (line := answer.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        sizes = []
        while size := int(answer.readline(), 16):
            answer.read(size + 2)
            sizes.append(size)
        answer.close()
    assert headers["transfer-encoding"] == "chunked"
    assert headers["content-type"] == "audio/wav"
    assert headers["x-weights"] == "random"
    assert sizes[0] == 44 + 2 * FRAME
    assert sizes[1:4] == [2 * FRAME * frames for frames in (2, 4, 8)]


def test_streamed_and_whole_answers_agree(live, voice):
    content = {"text": "Hello there.", "seed": 3} | voice
    whole, streamed, raw = (
        live.post("/clone", json=content | more).content
        for more in ({}, {"stream": True}, {"stream": True, "response_format": "pcm"})
    )
    first, second = (soundfile.read(io.BytesIO(data), dtype="int16")[0].astype(int) for data in (whole, streamed))
    assert first.shape == second.shape
    assert np.abs(first - second).max() <= 4  # steps of 16 bits, of 65,536
    np.testing.assert_array_equal(np.frombuffer(raw, "<i2"), second)


def test_the_first_sound_is_there_long_before_the_last_is_made(live, voice):
    before = engine_of(live).frames
    with live.stream("POST", "/clone", json={"text": LONG, "stream": True} | voice) as answer:
        parts = answer.iter_raw()
        assert next(parts)
        early = engine_of(live).frames - before
        assert sum(map(len, parts)) > 20 * 2 * FRAME
    assert early < (engine_of(live).frames - before) / 2


def test_the_engine_stops_when_a_stream_is_left(live, voice):
    with live.stream("POST", "/clone", json={"text": LONG, "stream": True} | voice) as answer:
        next(answer.iter_raw())
    assert_stops(live, voice)


def test_the_engine_stops_when_nobody_waits_for_an_answer(live, voice):
    with pytest.raises(httpx.ReadTimeout):
        live.post("/clone-batch", json={"items": [{"text": LONG}] * 8} | voice, timeout=httpx.Timeout(60, read=0.3))
    assert_stops(live, voice)


def assert_stops(live, voice):
    scheduler = live.service.running.scheduler
    wait_until(lambda: live.service.pending == 0 and not scheduler.busy)
    assert scheduler.waiting == 0
    stopped = engine_of(live).frames
    time.sleep(0.2)
    assert engine_of(live).frames == stopped
    assert live.post("/clone", json={"text": "Still well."} | voice).status_code == 200


def test_an_error_before_the_first_sound_has_its_status(live, voice):
    answer = live.post("/clone", json={"text": "Hello.", "language": "klingon", "stream": True} | voice)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "language")


def test_an_error_after_the_first_sound_cuts_the_connection(tiny, voice, caplog):
    with (
        serving(tiny) as own,
        own.stream("POST", "/clone", json={"text": LONG, "stream": True, "seed": 1} | voice) as answer,
    ):
        assert answer.status_code == 200
        parts = answer.iter_raw()
        next(parts)
        own.service.cut_off()
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
    assert "is cut off: draining" in caplog.text
    assert "Traceback" not in caplog.text


def request(body, version="1.1"):
    content = json.dumps(body).encode()
    head = [
        f"POST /clone HTTP/{version}",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


def test_who_takes_nothing_is_given_up(tiny, voice, caplog):
    # Long enough for a slow machine to make it all: what is made too late is cut off for that reason.
    with serving(tiny, DEADLINE_S="10") as own, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", own.base_url.port))
        connection.sendall(request({"text": LONG, "stream": True} | voice))
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert own.service.pending == 1
        wait_until(lambda: own.service.pending == 0)
        assert own.get("/live").status_code == 200
    assert "is cut off: the caller did not take it" in caplog.text


def test_http_1_0_cannot_say_that_an_answer_broke_off_so_it_gets_a_whole_one(live, voice):
    with socket.create_connection(("127.0.0.1", live.base_url.port)) as connection:
        connection.sendall(request({"text": "Hello.", "stream": True} | voice, "1.0"))
        answer = connection.makefile("rb").read()
    head, _, content = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(content)}".encode() in head
    assert soundfile.info(io.BytesIO(content)).frames * 2 + 44 == len(content)


def test_a_body_that_never_comes_is_not_waited_for_for_ever(tiny):
    with serving(tiny, DEADLINE_S="0.3") as own, socket.create_connection(("127.0.0.1", own.base_url.port)) as slow:
        slow.sendall(request({"text": "Hello."})[:-5])
        answer = slow.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"body_too_slow"' in answer
        assert b"connection: close" in answer.lower()


def test_bodies_that_come_in_at_once_share_the_memory_of_eight(tiny):
    body = b"x" * 9000  # of 10,485 that one may have
    head = b"POST /clone HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
    with serving(tiny, MAX_BODY_MIB="0.01") as own, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", own.base_url.port)
        callers = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(10)]
        for caller in callers[:9]:  # 81,000 of 83,886 bytes
            caller.sendall(head + body)
        time.sleep(0.5)
        callers[9].sendall(head + body)
        answer = callers[9].makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after:" in answer.lower()
        assert b'"code":"busy"' in answer
        callers[0].sendall(b"x" * 1000)  # its last bytes make room, for it is no JSON and is gone
        assert callers[0].recv(12) == b"HTTP/1.1 422"
        callers[1].close()
        kind = {"Content-Type": "application/json"}
        wait_until(lambda: own.post("/clone", content=b"x" * 9000, headers=kind).status_code == 422)


def test_a_request_that_is_read_when_the_service_ends_is_answered(make_client, ready, voice):
    with make_client() as client:
        ready(client)
        service = client.app_state["service"]
        reader = clone.Reader(service)

        def read():
            service.state.drain()  # SIGTERM, while the reference is decoded
            return reader.utterance(clone.CloneFields(text="Hello.", ref_text="x"), voice["ref_audio_base64"])

        async def heard():
            return [part async for part in service.stream(read, client="a")]

        assert client.portal.call(heard)
        assert service.pending == 0


@pytest.mark.parametrize("kind", ["wav", "mp3"])
def test_an_answer_is_encoded_outside_of_the_event_loop(live, voice, kind, monkeypatch):
    encode, threads = sounding.encode, []
    monkeypatch.setattr(
        sounding, "encode", lambda *what: threads.append(threading.current_thread().name) or encode(*what)
    )
    assert live.post("/clone", json={"text": "Hello.", "response_format": kind} | voice).status_code == 200
    assert live.post("/clone-batch", json={"items": [{"text": "Hello."}]} | voice).status_code == 200
    assert len(threads) == 2
    assert all(name.startswith("asyncio_") for name in threads)  # the default executor's


def test_likeness_alone_needs_no_transcript(live, voice):
    audio = {"ref_audio_base64": voice["ref_audio_base64"], "x_vector_only": True}
    assert live.post("/clone", json={"text": "Hello."} | audio).status_code == 200
    answer = live.post("/clone", json={"text": "Hello.", "ref_text": "More."} | audio)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "useless_ref_text")


def test_a_voice_is_encoded_once(live, voice, monkeypatch):
    engine, encoded = engine_of(live), []
    encode = engine.prompt
    monkeypatch.setattr(engine, "prompt", lambda sound, text: encoded.append(text) or encode(sound, text))
    other = voice | {"ref_text": "Said nowhere else in these tests."}
    for _ in range(3):
        assert live.post("/clone", json={"text": "Hello."} | other).status_code == 200
    assert encoded == [other["ref_text"]]


def test_an_engine_that_hangs_is_noticed(live, monkeypatch):
    monkeypatch.setattr(service_module, "WATCH_S", 0.01)

    closed = []

    async def main():
        hung = Service(live.service.settings.model_copy(update={"hang_s": 0.1}), None)
        hung.running = live.service.running
        monkeypatch.setattr(type(hung.running.scheduler), "busy", True)
        monkeypatch.setattr(type(hung.running.scheduler), "close", lambda _scheduler, error: closed.append(error))
        await asyncio.wait_for(hung._watch_engine(), 10)
        return hung.state

    state = asyncio.run(main())
    assert state.status == "failed"
    assert "no frame for 0.1 s" in str(state.failure)
    assert [(error.status, error.code) for error in closed] == [(503, "engine_lost")]
