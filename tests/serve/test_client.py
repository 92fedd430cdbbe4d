"""The client, against the real app over real sockets; and against a scripted server for what the app rarely does."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from contextlib import aclosing, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
import uvicorn

import serve
from serve import wire
from serve.client import AsyncClient, Client, Item, Language, ServiceError, Unreachable
from serve.settings import Settings
from serve.speech import encoders
from serve.verbs.client import main

ROOT = Path(__file__).parents[2]
SAID = "What the reference says."


@pytest.fixture(scope="module")
def app(make_client, tmp_path_factory):
    data = {"DATA_DIR": str(tmp_path_factory.mktemp("data"))} if "data_dir" in Settings.model_fields else {}
    return make_client(**data).app


@pytest.fixture(scope="module")
def url(app):
    """Where the app listens, ready."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with Client(address) as client:
            assert client.ready(60)
        yield address
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def reference(sound):
    return sound()


@pytest.fixture
def service(url):
    with Client(url) as client:
        yield client


def test_it_imports_without_torch_and_numpy():
    script = """
import sys
class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "soundfile", "fastapi", "pydantic", "transformers", "qwen_tts"}:
            raise ImportError(name + " is barred")
sys.meta_path.insert(0, Barred())
import serve
assert "httpx" not in sys.modules
serve.Client("http://127.0.0.1:1").close()
serve.AsyncClient("http://127.0.0.1:1")
import serve.verbs.client
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


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
            return made, batch

    made, batch = asyncio.run(ask())
    assert made[0] == service.clone("Hello.", reference, SAID, seed=1)
    assert made[0] != made[1]
    assert samples(batch[0]).size
    assert batch[1].code == "no_text"


# Of the routes that other parts bring: these run as soon as the app has them.


def test_contract_clone_stream(service, reference, samples):
    with closing(service.clone_stream("Hello there.", reference, SAID, language="en", seed=1)) as parts:
        made = b"".join(parts)
    assert samples(made).size > 1000


def test_contract_clone_stream_asyncio(url, reference, samples):

    async def ask():
        async with AsyncClient(url) as client, aclosing(client.clone_stream("Hi.", reference, SAID)) as parts:
            return b"".join([part async for part in parts])

    assert samples(asyncio.run(ask())).size > 1000


def test_contract_voices(service, reference):
    made = service.voices.create("anna", reference, SAID, consent="Anna, by mail, 2025-03-01", language="en")
    assert (made.name, made.ref_text) == ("anna", SAID)
    assert made in service.voices.list()
    assert service.voices.get("anna") == service.voices.get(made.id) == made
    service.voices.delete("anna")
    assert made not in service.voices.list()
    with pytest.raises(ServiceError) as caught:
        service.voices.get("anna")
    assert caught.value.status == 404


@pytest.mark.parametrize("kind", get_args(wire.Format))
def test_contract_speech(service, reference, kind):
    voice = service.voices.create(f"for-{kind}", reference, SAID, consent="Anna, by mail", language="en")
    made = service.speech("Hello there.", voice.name, format=kind, seed=1)
    assert len(made) > 1000
    if kind not in {"pcm", "flac"}:  # a streamed flac tells no length
        assert soundfile.info(io.BytesIO(made)).samplerate == 24_000
    assert b"".join(service.speech_stream("Hello there.", voice.id, format=kind, language="de"))


def test_contract_speech_asyncio(url, reference):

    async def ask():
        async with AsyncClient(url) as client:
            voice = await client.voices.create("for-async", reference, SAID, consent="Anna, by mail")
            assert voice in await client.voices.list()
            whole = await client.speech("Hello.", voice.name, format="wav")
            async with aclosing(client.speech_stream("Hello.", voice.name, format="wav")) as parts:
                first = await anext(parts)
            await client.voices.delete(voice.name)
            return whole, first

    whole, first = asyncio.run(ask())
    assert whole[:4] == first[:4] == b"RIFF"


class Script:
    """A server that gives the next answer of a list to each request, and keeps what it was asked."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections: set[tuple[str, int]] = set()
        self.hung_up = threading.Event()

    @contextmanager
    def serve(self):
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.asked.append((self.command, self.path, headers, body))
                script.connections.add(self.client_address)
                script.answers.pop(0)(self, script)

            do_POST = do_DELETE = do_GET  # noqa: N815 - http.server looks for these names

            def log_message(self, *_args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def answer(status, content=b"", **headers):
    def give(handler, _script):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return give


def error(status, code, **headers):
    told = {"code": code, "message": "no", "field": None, "remedy": "wait"}
    return answer(status, json.dumps({"error": told}).encode(), **headers)


def endless(handler, script):
    """Chunks until the other side hangs up."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
    except OSError:
        script.hung_up.set()


def broken(handler, _script):
    """A chunk, and then the connection is cut."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"4\r\nRIFF\r\n")
    handler.close_connection = True


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


# The verb.


@pytest.fixture
def shell(url, reference, tmp_path):
    file = tmp_path / "voice.wav"
    file.write_bytes(reference)
    return ["--url", url, "--reference", str(file), "--ref-text", SAID, "--language", "en", "--seed", "1"]


def test_from_the_shell_to_a_file(shell, service, reference, tmp_path, capsys):
    out = tmp_path / "clone.wav"
    out.write_bytes(b"older")
    assert main([*shell, "--text", "Hello there.", "--out", str(out), "--wait", "5"]) == 0
    assert out.read_bytes() == service.clone("Hello there.", reference, SAID, language="en", seed=1)
    ordinary = tmp_path / "voice.wav"
    assert out.stat().st_mode == ordinary.stat().st_mode
    told = capsys.readouterr()
    assert told.out == ""
    assert "first audio after" in told.err
    assert {path.name for path in tmp_path.iterdir()} == {"clone.wav", "voice.wav"}


def test_text_from_standard_input_and_audio_to_standard_output(shell, tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "serve.verbs.client", *shell, "--text", "-", "--out", "-"],
        input=b"Hello there.",
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert soundfile.info(io.BytesIO(made.stdout)).samplerate == 24_000


def test_a_refusal_leaves_the_file_as_it_was(shell, tmp_path, capsys):
    out = tmp_path / "clone.wav"
    out.write_bytes(b"older")
    assert main([*shell, "--text", " ", "--out", str(out)]) == 1
    assert out.read_bytes() == b"older"
    told = capsys.readouterr().err
    assert "(text) [422 no_text]" in told
    assert "remedy: " in told
    assert {path.name for path in tmp_path.iterdir()} == {"clone.wav", "voice.wav"}


def test_exit_statuses(shell, tmp_path, free_port, capsys):
    asked = ["--text", "Hello.", "--out", str(tmp_path / "x.wav")]
    away = ["--url", f"http://127.0.0.1:{free_port}"]
    assert main([*shell, *asked, *away]) == 3
    assert main([*shell, *asked, *away, "--wait", "0.01"]) == 3
    assert main([*shell, *asked, "--reference", str(tmp_path / "none.wav")]) == 2
    assert main([*shell, *asked, "--url", "nonsense"]) == 2
    assert main([*shell, "--text", "x", "--out", str(tmp_path / "none" / "x.wav")]) == 2
    assert not (tmp_path / "x.wav").exists()
    for usage in ([], asked, [*asked, "--voice", "anna", "--ref-text", "x"], [*shell, *asked, "--format", "aiff"]):
        with pytest.raises(SystemExit) as caught:
            main(usage)
        assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_stream_to_a_file_has_its_length_or_is_no_file(tmp_path, reference):
    encoder = encoders.make_encoder("wav")
    content = encoder.write(np.zeros(2400, np.float32)) + encoder.close()
    script = Script(answer(200, content), broken)
    file = tmp_path / "voice.wav"
    file.write_bytes(reference)
    out = tmp_path / "clone.wav"
    with script.serve() as url:
        asked = ["--url", url, "--reference", str(file), "--ref-text", SAID, "--text", "x", "--stream", "--out"]
        assert main([*asked, str(out)]) == 0
        made = out.read_bytes()
        assert int.from_bytes(made[4:8], "little") == len(made) - 8
        assert int.from_bytes(made[40:44], "little") == len(made) - 44 == 4800
        assert main([*asked, str(out)]) == 3
    assert out.read_bytes() == made


@pytest.mark.parametrize(
    ("out", "options", "kind"),
    [("a.mp3", [], "mp3"), ("a.OGG", [], "opus"), ("a", [], "wav"), ("a.wav", ["--format", "flac"], "flac")],
)
def test_the_ending_tells_the_format(out, options, kind, tmp_path):
    models = json.dumps({"data": [{"id": "qwen3"}]}).encode()
    script = Script(answer(200, models), answer(200, b"sound"))
    with script.serve() as url:
        asked = ["--url", url, "--voice", "anna", "--text", "Hello.", "--out", str(tmp_path / out)]
        assert main([*asked, *options]) == 0
    expected = {"model": "qwen3", "input": "Hello.", "voice": "anna", "response_format": kind}
    assert json.loads(script.asked[1][3]) == expected


# docs/client.md.

PAGE = (ROOT / "docs/client.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path, reference, monkeypatch):
    (tmp_path / "voice.wav").write_bytes(reference)
    (tmp_path / "story.txt").write_text("A story.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{number}" for number in range(len(BLOCKS))])
def test_the_pages_examples(url, folder, block):
    assert "http://127.0.0.1:8000" in block
    exec(compile(block.replace("http://127.0.0.1:8000", url), "docs/client.md", "exec"), {"__name__": "example"})
    assert all(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize("line", LINES)
def test_the_pages_commands(url, service, reference, folder, line, monkeypatch):
    program, _, fed = line.partition(" < ")
    words = shlex.split(program)
    assert words[:4] == ["python", "-m", "serve", "client"]
    if fed:
        monkeypatch.setattr("sys.stdin", io.StringIO((folder / fed).read_text()))
    kept = [service.voices.create("anna", reference, SAID, consent="Anna, by mail")] if "--voice" in words else []
    assert main([*words[4:], "--url", url]) == 0
    for voice in kept:
        service.voices.delete(voice.id)
    assert (folder / words[words.index("--out") + 1]).stat().st_size > 100


def test_the_page_has_examples():
    assert (len(BLOCKS), len(LINES)) == (4, 3)
