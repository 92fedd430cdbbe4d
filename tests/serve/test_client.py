"""The client, against the real app over real sockets; and against a scripted server for what the app rarely does."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import os
import subprocess
import sys
from contextlib import aclosing, closing
from pathlib import Path
from typing import get_args

import pytest
import soundfile
from scripted import Script, answer, broken, endless, error

import serve
from serve import wire
from serve.async_client import AsyncVoices
from serve.client import AsyncClient, Client, Item, Language, ServiceError, Unreachable, Voices
from serve.speech import encoders

ROOT = Path(__file__).parents[2]
SAID = "What the reference says."


@pytest.fixture
def service(url):
    with Client(url) as client:
        yield client


def test_it_imports_without_torch_and_numpy():
    script = """
import runpy, sys
class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "soundfile", "fastapi", "pydantic", "transformers", "qwen_tts"}:
            raise ImportError(name + " is barred")
sys.meta_path.insert(0, Barred())
import serve
assert "httpx" not in sys.modules
serve.Client("http://127.0.0.1:1").close()
serve.AsyncClient("http://127.0.0.1:1")
sys.argv = ["serve", "client", "--help"]
runpy.run_module("serve", run_name="__main__")
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


def methods(kind):
    """Those that a caller sees, by name; what closes the one closes the other."""
    found = {name: method for name, method in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"}
    return {name.replace("aclose", "close"): method for name, method in found.items()}


@pytest.mark.parametrize(("plain", "awaited"), [(Client, AsyncClient), (Voices, AsyncVoices)])
def test_the_two_clients_are_one(plain, awaited):
    ours, theirs = methods(plain), methods(awaited)
    assert ours.keys() == theirs.keys()
    for name, method in ours.items():
        signature, other = inspect.signature(method), inspect.signature(theirs[name])
        assert signature.parameters == other.parameters, name
        streams = name.endswith("_stream")
        assert inspect.iscoroutinefunction(theirs[name]) is not streams, name
        if streams:
            assert signature.return_annotation == "Generator[bytes, None, None]"
            assert other.return_annotation == "AsyncGenerator[bytes, None]"
        else:
            assert signature.return_annotation == other.return_annotation, name


def test_the_two_clients_begin_as_one():
    assert inspect.signature(Client).parameters == inspect.signature(AsyncClient).parameters
    with Client() as plain:
        awaited = AsyncClient()
        assert vars(plain).keys() == vars(awaited).keys()
        asyncio.run(awaited.aclose())


def test_the_package_offers_the_client_and_nothing_by_accident():
    assert serve.Client is Client
    assert serve.AsyncClient is AsyncClient
    with pytest.raises(AttributeError, match="no attribute 'Cliemt'"):
        _ = serve.Cliemt


def test_the_formats_are_the_encoders_own():
    assert set(get_args(wire.Format)) == set(get_args(encoders.Format))


def test_languages_and_ready(service):
    assert service.ready()
    assert Language("english", "en") in service.languages()


def test_clone(service, reference, samples, tmp_path):
    made = service.clone("Hello there.", reference, SAID, language="en", seed=1)
    assert samples(made).size > 1000
    file = tmp_path / "voice.wav"
    file.write_bytes(reference)
    assert service.clone("Hello there.", file, SAID, language="en", seed=1) == made


def test_the_likeness_alone(service, reference, samples):
    options = {"x_vector_only": True, "seed": 1}
    made = service.clone("Hello there.", reference, **options)
    assert samples(made).size > 1000
    assert made != service.clone("Hello there.", reference, SAID, seed=1)
    with closing(service.clone_stream("Hello there.", reference, **options)) as parts:
        assert samples(b"".join(parts)).size > 1000
    own = Item("Hello.", reference=reference, x_vector_only=True)
    batch = service.clone_batch([own, Item("Bye.")], reference=reference, x_vector_only=True)
    assert all(samples(audio).size for audio in batch)
    voice = service.voices.create("likeness", reference, x_vector_only=True, consent="Anna, by mail")
    assert voice.ref_text is None
    assert samples(service.speech("Hello.", voice.id, format="wav")).size
    service.voices.delete(voice.id)


def test_no_transcript_is_no_accident(service, reference):
    for options, code in ({}, "half_a_reference"), ({"ref_text": SAID, "x_vector_only": True}, "useless_ref_text"):
        for call in (
            lambda: service.clone("Hello.", reference, **options),  # noqa: B023 - called at once
            lambda: next(service.clone_stream("Hello.", reference, **options)),  # noqa: B023
            lambda: service.voices.create("nobody", reference, consent="Yes.", **options),  # noqa: B023
        ):
            with pytest.raises(ServiceError) as caught:
                call()
            assert (caught.value.code, caught.value.field) == (code, "ref_text")
        (error,) = service.clone_batch([Item("Hello.", reference=reference, **options)])
        assert error.code == code


def test_the_weights_are_told(service, reference):
    service.languages()
    assert service.weights is None
    service.clone("Hello.", reference, SAID)
    assert service.weights == "random"
    service.languages()
    assert service.weights == "random"


def test_an_error_has_all_its_parts(service, reference):
    with pytest.raises(ServiceError, match="names no language") as caught:
        service.clone("Hello.", reference, SAID, language="xx")
    error = caught.value
    assert (error.status, error.code, error.field) == (422, "unknown_language", "language")
    assert "english (en)" in error.remedy


@pytest.mark.parametrize("wrong", ["voice.wav", 5])
def test_a_reference_is_a_path_or_bytes(service, wrong):
    with pytest.raises(TypeError, match="must be a Path or bytes"):
        service.clone("Hello.", wrong, SAID)


def test_a_batch_with_an_error_in_it(service, reference, samples):
    made = service.clone_batch([Item("Hello."), Item(" "), Item("Bye.", "de")], reference=reference, ref_text=SAID)
    assert isinstance(made[1], ServiceError)
    assert (made[1].status, made[1].code, made[1].field) == (422, "no_text", "items.1.text")
    assert samples(made[0]).size
    assert samples(made[2]).size


def test_a_batch_of_errors_is_still_a_list(service, reference):
    made = service.clone_batch([Item(" "), Item("x", "xx")], reference=reference, ref_text=SAID)
    assert [error.code for error in made] == ["no_text", "unknown_language"]


def test_a_batch_that_is_refused_as_a_whole(service, reference):
    with pytest.raises(ServiceError, match="at least 1 item"):
        service.clone_batch([], reference=reference, ref_text=SAID)


def test_the_same_for_asyncio(url, reference, service, samples):
    async def ask():
        async with AsyncClient(url) as client:
            assert await client.ready(1)
            assert await client.languages() == service.languages()
            made = await asyncio.gather(*(client.clone("Hello.", reference, SAID, seed=seed) for seed in (1, 2)))
            batch = await client.clone_batch([Item("Hello."), Item(" ")], reference=reference, ref_text=SAID)
            with pytest.raises(ServiceError, match="names no language"):
                await client.clone("Hello.", reference, SAID, language="xx")
            likeness = await client.clone("Hello.", reference, x_vector_only=True, seed=1)
            assert likeness == service.clone("Hello.", reference, x_vector_only=True, seed=1)
            own = [Item("Hello.", reference=reference, x_vector_only=True)]
            assert isinstance((await client.clone_batch(own, reference=reference, x_vector_only=True))[0], bytes)
            assert client.weights == "random"
            return made, batch

    made, batch = asyncio.run(ask())
    assert made[0] == service.clone("Hello.", reference, SAID, seed=1)
    assert made[0] != made[1]
    assert samples(batch[0]).size
    assert batch[1].code == "no_text"


def test_clone_stream(service, reference, samples):
    with closing(service.clone_stream("Hello there.", reference, SAID, language="en", seed=1)) as parts:
        made = b"".join(parts)
    assert samples(made).size > 1000


def test_clone_stream_asyncio(url, reference, samples):

    async def ask():
        async with AsyncClient(url) as client, aclosing(client.clone_stream("Hi.", reference, SAID)) as parts:
            return b"".join([part async for part in parts])

    assert samples(asyncio.run(ask())).size > 1000


def test_voices(service, reference):
    made = service.voices.create("anna", reference, SAID, consent="Anna, by mail, 2025-03-01", language="en")
    assert (made.name, made.ref_text, made.consent) == ("anna", SAID, "Anna, by mail, 2025-03-01")
    assert made in service.voices.list()
    assert service.voices.get("anna") == service.voices.get(made.id) == made
    service.voices.delete("anna")
    assert made not in service.voices.list()
    with pytest.raises(ServiceError) as caught:
        service.voices.get("anna")
    assert caught.value.status == 404


@pytest.mark.parametrize("kind", get_args(wire.Format))
def test_speech(service, reference, kind):
    voice = service.voices.create(f"for-{kind}", reference, SAID, consent="Anna, by mail", language="en")
    made = service.speech("Hello there.", voice.name, format=kind, seed=1)
    assert len(made) > 1000
    if kind not in {"pcm", "flac"}:  # a streamed flac tells no length
        assert soundfile.info(io.BytesIO(made)).samplerate == 24_000
    assert b"".join(service.speech_stream("Hello there.", voice.id, format=kind, language="de"))


def test_speech_asyncio(url, reference):

    async def ask():
        async with AsyncClient(url) as client:
            voice = await client.voices.create("for-async", reference, SAID, consent="Anna, by mail", language="en")
            assert (voice.ref_text, voice.consent, voice.language) == (SAID, "Anna, by mail", "english")
            assert voice in await client.voices.list()
            assert await client.voices.get(voice.id) == voice
            likeness = await client.voices.create("likeness", reference, x_vector_only=True, consent="Anna, by mail")
            await client.voices.delete(likeness.name)
            whole = await client.speech("Hello.", voice.name, format="wav")
            async with aclosing(client.speech_stream("Hello.", voice.name, format="wav")) as parts:
                first = await anext(parts)
            await client.voices.delete(voice.name)
            return whole, first

    whole, first = asyncio.run(ask())
    assert whole[:4] == first[:4] == b"RIFF"


def test_it_comes_back_when_it_is_told_to():
    script = Script(error(429, "busy", Retry_After="0"), error(503, "loading", Retry_After="0"), answer(200, b"sound"))
    with script.serve() as url, Client(url) as client:
        assert client.clone("Hello.", b"x", SAID) == b"sound"
    assert len(script.asked) == 3
    assert len({body for *_, body in script.asked}) == 1


def test_it_gives_up_after_its_retries():
    script = Script(*[error(429, "busy", Retry_After="0")] * 4)
    with script.serve() as url, Client(url, retries=2) as client, pytest.raises(ServiceError) as caught:
        client.clone("Hello.", b"x", SAID)
    assert (caught.value.status, caught.value.code, caught.value.remedy) == (429, "busy", "wait")
    assert len(script.asked) == 3


def test_the_same_retries_for_asyncio():
    script = Script(error(429, "busy", Retry_After="0"), answer(200, b"sound"), error(503, "loading", Retry_After="99"))

    async def ask(url):
        async with AsyncClient(url) as client:
            assert await client.clone("Hello.", b"x", SAID) == b"sound"
            with pytest.raises(ServiceError, match="no"):
                await client.clone("Hello.", b"x", SAID)

    with script.serve() as url:
        asyncio.run(ask(url))
    assert len(script.asked) == 3


@pytest.mark.parametrize(
    ("status", "retry_after", "attempt", "wait"),
    [
        *((429, "2", 0, 2), (503, "0", 2, 0), (429, None, 0, 0.5), (429, None, 2, 2), (503, "Wed, 21 Oct", 1, 1)),
        *((429, "31", 0, None), (429, "2", 3, None), (500, "2", 0, None), (422, None, 0, None), (200, "1", 0, None)),
        (503, "-1", 0, 0.5),
    ],
)
def test_waits(status, retry_after, attempt, wait):
    assert wire.wait_before_retry(status, retry_after, attempt, 3) == wait


@pytest.mark.parametrize("content", [b"<html>bad gateway</html>", b"[]", b'{"error": "text"}', b'"x"', b"\xff"])
def test_an_answer_that_is_not_the_services(content):
    script = Script(answer(502, content), answer(200, content))
    with script.serve() as url, Client(url) as client:
        with pytest.raises(ServiceError, match="none of the service's own") as caught:
            client.clone("Hello.", b"x", SAID)
        assert (caught.value.status, caught.value.code) == (502, "http_error")
        if content != b'{"error": "text"}':
            with pytest.raises(ServiceError, match="none of the service's own"):
                client.languages()


def test_one_connection_serves_many_requests():
    script = Script(*[answer(200, b"sound")] * 5)
    with script.serve() as url, Client(url) as client:
        for _ in range(5):
            client.clone("Hello.", b"x", SAID)
    assert len(script.connections) == 1


@pytest.mark.parametrize("early", ["break", "close"])
def test_a_stream_that_is_left_hangs_up(early):
    script = Script(endless)
    with script.serve() as url, Client(url) as client:
        with closing(client.clone_stream("Hello.", b"x", SAID)) as parts:
            assert next(parts)[:1] == b"x"
            if early == "break":
                for _ in parts:
                    break
        assert script.hung_up.wait(30)
    assert json.loads(script.asked[0][3])["stream"] is True


def test_a_stream_that_is_left_hangs_up_asyncio():
    script = Script(endless)

    async def ask(url):
        async with AsyncClient(url) as client, aclosing(client.clone_stream("Hello.", b"x", SAID)) as parts:
            async for part in parts:
                assert part[:1] == b"x"
                break

    with script.serve() as url:
        asyncio.run(ask(url))
        assert script.hung_up.wait(30)


def test_a_stream_that_breaks_is_no_success():
    script = Script(broken, broken)
    with script.serve() as url, Client(url) as client:
        parts = client.clone_stream("Hello.", b"x", SAID)
        assert next(parts) == b"RIFF"
        with pytest.raises(Unreachable):
            next(parts)

        async def ask():
            async with AsyncClient(url) as other:
                return [part async for part in other.clone_stream("Hello.", b"x", SAID)]

        with pytest.raises(Unreachable):
            asyncio.run(ask())


def test_a_stream_begins_with_its_error():
    script = Script(error(422, "no_text"))
    with script.serve() as url, Client(url) as client, pytest.raises(ServiceError, match="no"):
        next(client.clone_stream(" ", b"x", SAID))


def test_nobody_there(free_port):
    client = Client(f"http://127.0.0.1:{free_port}")
    with pytest.raises(Unreachable, match=str(free_port)):
        client.languages()
    assert not client.ready()
    client.close()


def test_ready_waits_and_tells_a_failed_start():
    failed = json.dumps({"status": "failed", "error": {"code": "failed", "message": "no weights"}}).encode()
    loading = json.dumps({"status": "loading"}).encode()
    script = Script(answer(503, loading), answer(200, b"{}"), answer(503, loading), answer(503, failed), answer(502))
    with script.serve() as url, Client(url) as client:
        assert client.ready(10)
        assert not client.ready()
        with pytest.raises(ServiceError, match="no weights"):
            client.ready(10)
        assert not client.ready()


@pytest.mark.parametrize("given", ["argument", "environment", "none"])
def test_the_key(given, monkeypatch):
    if given != "argument":
        monkeypatch.setenv("WW_API_KEY", "from the environment" if given == "environment" else "")
    script = Script(answer(200, b"sound"))
    with script.serve() as url, Client(url, api_key="given" if given == "argument" else None) as client:
        client.clone("Hello.", b"x", SAID)
        assert "given" not in repr(client)
    expected = {"argument": "Bearer given", "environment": "Bearer from the environment", "none": None}
    assert script.asked[0][2].get("authorization") == expected[given]


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "file:///etc/passwd", "http://"])
def test_a_url_that_is_none(url):
    with pytest.raises(ValueError, match="must be http"):
        Client(url)


def test_names_in_paths_are_quoted():
    assert wire.voice("GET", "a/../b?c#d é").path == "/v1/audio/voices/a%2F..%2Fb%3Fc%23d%20%C3%A9"
