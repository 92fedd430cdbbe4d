"""API keys: which are accepted, when they are asked for, and what each may use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import socket
import time

import httpx
import pytest
from starlette.requests import Request

from serve.api import keys as keys_module
from serve.api.callers import caller_of
from serve.api.gate import KeyGate, presented_key
from serve.api.keys import Key, Keyring, find_key, read_keys, warn_if_open
from serve.errors import SettingsError
from serve.settings import read_settings
from tests.serve.refused import error_of

ANNA, BEN = "anna-0123456789abcdef", "ben-0123456789abcdef"


def keys_of(monkeypatch, **settings):
    for name, value in settings.items():
        monkeypatch.setenv(f"WW_{name}", str(value))
    return read_keys(read_settings())


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_none_set_none_asked(monkeypatch):
    assert keys_of(monkeypatch) == ()
    assert keys_of(monkeypatch, API_KEYS="") == ()


def test_names_and_hashes_are_ids_that_stay(monkeypatch, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the team\n\nben:{BEN}\n  anna:{ANNA}-new  \n")
    keys = keys_of(monkeypatch, API_KEYS=f"anna:{ANNA}, {ANNA}-unnamed", API_KEYS_FILE=file)
    assert [key.id for key in keys if not key.id.startswith("key-")] == ["anna", "ben", "anna"]
    assert [key.id for key in keys] == [key.id for key in read_keys(read_settings())]
    assert find_key(keys, ANNA.encode()) == find_key(keys, f"{ANNA}-new".encode()) == "anna"
    assert find_key(keys, BEN.encode()) == "ben"
    assert find_key(keys, f"{ANNA}-unnamed".encode()) == keys[1].id
    for wrong in (b"", b"anna", ANNA[:-1].encode(), ANNA.encode() + b"x", f"anna:{ANNA}".encode(), b"\xff" * 9):
        assert find_key(keys, wrong) is None


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("anna:short", "entry 1 has a key of 5 characters"),
        (f"{ANNA},hunter of a room", "entry 2 holds a blank"),
        ("hünter-0123456789abcdef", "entry 1 holds a blank, or a character that is not ASCII"),
        (f"an na:{ANNA}", "entry 1 has a name"),
        (f":{ANNA}", "entry 1 has a name"),
        (f"key-0123:{ANNA}", "entry 1 has a name"),
        (f"a:b:{ANNA}", "entry 1 has a name"),
        (f"anna:{ANNA},ben:{ANNA}", "a key is there twice"),
        (" , ,", "holds no key"),
    ],
)
def test_what_is_no_key_stops_the_start_and_is_not_quoted(entries, said, monkeypatch, tmp_path):
    for settings in ({"API_KEYS": entries}, {"API_KEYS_FILE": tmp_path / "keys"}):
        (tmp_path / "keys").write_text(entries.replace(",", "\n"))
        with monkeypatch.context() as patch, pytest.raises(SettingsError) as caught:
            keys_of(patch, **settings)
        assert said.replace("entry", "line" if "API_KEYS_FILE" in settings else "entry") in str(caught.value)
        assert caught.value.remedy
        for secret in ("0123456789abcdef", "nter", "short"):
            assert secret not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfesecret\x00", b"# nothing\n"])
def test_a_file_without_keys_does_not_open_the_service(content, monkeypatch, tmp_path):
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingsError, match="WW_API_KEYS_FILE=") as caught:
        keys_of(monkeypatch, API_KEYS_FILE=tmp_path / "keys")
    assert "secret" not in repr(caught.value.__cause__ and str(caught.value))


def test_limits_without_keys_are_a_mistake(monkeypatch):
    with pytest.raises(SettingsError, match="WW_KEY_CONCURRENT is set"):
        keys_of(monkeypatch, KEY_CONCURRENT=1)


def test_settings_and_keys_do_not_show_them(monkeypatch):
    keys = keys_of(monkeypatch, API_KEYS=f"anna:{ANNA}")
    settings = read_settings()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(keys), str(keys[0])):
        assert ANNA not in shown
        assert repr(keys[0].digest) not in shown


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("example.org", "", True),
        ("127.0.0.2", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("0.0.0.0", ANNA, False),
    ],
)
def test_an_open_service_is_warned_of(host, keys, warned, monkeypatch, caplog):
    found = keys_of(monkeypatch, HOST=host, API_KEYS=keys)
    with caplog.at_level(logging.WARNING):
        warn_if_open(read_settings(), found)
    assert len(caplog.records) == warned
    assert ("set WW_API_KEYS" in caplog.text) is warned


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({}, None),
        ({"authorization": "Bearer abc"}, b"abc"),
        ({"authorization": "  bEARER   abc "}, b"abc"),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Basic abc"}, None),
        ({"x-api-key": " abc "}, b"abc"),
        ({"x-api-key": ""}, None),
        ({"authorization": "Basic xyz", "x-api-key": "abc"}, b"abc"),
        ({"authorization": "Bearer abc", "x-api-key": "xyz"}, b"abc"),
    ],
)
def test_where_a_key_is_looked_for(headers, shown):
    assert presented_key({"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}) == shown


@pytest.fixture
def guarded(make_client):
    """An app that is not loading: what it refuses, it refuses before."""
    return make_client(API_KEYS=f"anna:{ANNA},ben:{BEN}")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/clone"), ("POST", "/v1/audio/speech"), ("GET", "/v1/audio/voices"), ("GET", "/v1/models")]
    + [("GET", path) for path in ("/languages", "/openapi.json", "/metrics", "/info", "/nowhere", "/live/", "//live")],
)
def test_everything_but_the_probes_asks_for_a_key(guarded, method, path):
    answer = guarded.request(method, path)
    error_of(answer, 401, "no_key")
    assert answer.headers["www-authenticate"] == 'Bearer realm="wheelwright"'
    answer = guarded.request(method, path, headers=bearer(ANNA + "x"))
    error_of(answer, 401, "wrong_key")
    assert answer.headers["www-authenticate"] == 'Bearer realm="wheelwright", error="invalid_token"'
    assert ANNA not in answer.text
    for headers in (bearer(ANNA), {"X-API-Key": BEN}):
        assert guarded.request(method, path, headers=headers).status_code != 401


def test_probes_are_open(guarded):
    assert guarded.get("/live").status_code == 200
    assert guarded.get("/ready").json()["error"]["code"] == "loading"
    assert guarded.get("/health").json()["error"]["code"] == "loading"


def test_the_document_says_how(guarded, make_client):
    document = guarded.get("/openapi.json", headers=bearer(ANNA)).json()
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert document["paths"]["/live"]["get"]["security"] == []
    assert "security" not in make_client().get("/openapi.json").json()


def test_no_key_is_logged(guarded, caplog):
    with caplog.at_level(logging.DEBUG):
        guarded.get("/languages", headers=bearer(ANNA))
        guarded.get("/languages", headers=bearer("wrong-0123456789"))
    assert "GET '/languages' 401" in caplog.text
    assert "0123456789" not in caplog.text


def ask(gate, key, wait=None):
    """One request through the gate, whose app says who asked; its status, headers and body."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("the body is read")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-api-key", key.encode())]}

    async def run():
        await gate(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, json.loads(sent[1]["body"])

    return run()


def make_gate(wait=None, **limits):
    now = [0.0]

    async def app(scope, receive, send):
        if wait is not None:
            await wait.wait()
        caller = caller_of(Request(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps([caller.id, caller.client]).encode()})

    keys = [Key(name, hashlib.sha256(name.encode()).digest()) for name in ("anna", "ben")]
    return KeyGate(app, lambda: keys, clock=lambda: now[0], **limits), now


def test_the_caller_is_the_key():
    gate, _ = make_gate()
    assert asyncio.run(ask(gate, "anna")) == (200, {}, ["anna", "anna"])
    assert asyncio.run(ask(gate, "carl"))[0] == 401


def test_requests_a_minute_are_each_keys_own():
    gate, now = make_gate(requests_per_min=3)

    async def run():
        assert [(await ask(gate, "anna"))[0] for _ in range(4)] == [200, 200, 200, 429]
        status, headers, body = await ask(gate, "anna")
        assert (status, headers["retry-after"], body["error"]["code"]) == (429, "20", "too_many_requests")
        assert (await ask(gate, "ben"))[0] == 200
        now[0] += 19.5
        assert (await ask(gate, "anna"))[1]["retry-after"] == "1"
        now[0] += 0.6
        assert [(await ask(gate, "anna"))[0] for _ in range(2)] == [200, 429]
        now[0] += 1e6
        assert [(await ask(gate, "anna"))[0] for _ in range(4)] == [200, 200, 200, 429]

    asyncio.run(run())


def test_running_requests_are_counted_until_they_end():
    async def run():
        wait = asyncio.Event()
        gate, _ = make_gate(wait, concurrent=2)
        running = [asyncio.ensure_future(ask(gate, "anna")) for _ in range(2)]
        await asyncio.sleep(0)
        status, headers, body = await ask(gate, "anna")
        assert (status, headers["retry-after"], body["error"]["code"]) == (429, "1", "too_many_at_once")
        running[0].cancel()
        await asyncio.wait({running[0]})
        wait.set()
        assert (await ask(gate, "anna"))[0] == 200
        assert (await ask(gate, "ben"))[0] == 200
        assert (await running[1])[0] == 200

    asyncio.run(run())


@pytest.fixture
def keyfile(tmp_path, monkeypatch):
    """A function that puts keys into the file, as `mv` does; each request looks at it."""
    monkeypatch.setattr(keys_module, "LOOK_S", 0.0)

    def put(*lines):
        new = tmp_path / "new"
        new.write_text("".join(f"{line}\n" for line in lines))
        return new.replace(tmp_path / "keys")

    return put


@pytest.fixture
def rotating(keyfile, make_client, tmp_path):
    return make_client(API_KEYS_FILE=str(keyfile(f"anna:{ANNA}")), DATA_DIR=str(tmp_path / "data"))


def status(client, key, path="/languages"):
    return client.get(path, headers=bearer(key)).status_code


def test_a_key_is_changed_while_the_service_runs_and_its_voices_stay(rotating, keyfile, sound, caplog):
    caplog.set_level(logging.INFO)
    form = {"name": "anna", "ref_text": "What is said.", "consent": "Yes."}
    files = {"audio_sample": ("a.wav", sound(), "audio/wav")}
    made = rotating.post("/v1/audio/voices", data=form, files=files, headers=bearer(ANNA))
    assert made.status_code == 201
    assert status(rotating, f"{ANNA}-new") == 401
    keyfile(f"anna:{ANNA}", f"anna:{ANNA}-new", f"ben:{BEN}")
    assert [status(rotating, key) for key in (ANNA, f"{ANNA}-new", BEN)] == [200, 200, 200]
    keyfile(f"anna:{ANNA}-new", f"ben:{BEN}")
    assert [status(rotating, key) for key in (ANNA, f"{ANNA}-new", BEN)] == [401, 200, 200]
    listed = rotating.get("/v1/audio/voices", headers=bearer(f"{ANNA}-new")).json()["data"]
    assert listed == [made.json()]
    assert status(rotating, BEN, "/v1/audio/voices/anna") == 404
    assert "3 keys of 2 callers are in force" in caplog.text
    assert "2 keys of 2 callers are in force" in caplog.text
    assert "0123456789" not in caplog.text


@pytest.mark.parametrize("content", [b"", b"anna:short-secret\n", b"# nothing\n", b"\xff\xfesecret", None])
def test_a_broken_file_leaves_the_keys_as_they_were(rotating, keyfile, tmp_path, content, caplog):
    file = tmp_path / "keys"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert [status(rotating, key) for key in (ANNA, BEN, ANNA)] == [200, 401, 200]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith(f"WW_API_KEYS_FILE={file}")
    assert errors[0].endswith("; the keys from before stay in force")
    assert "secret" not in caplog.text
    keyfile(f"ben:{BEN}")
    assert [status(rotating, key) for key in (ANNA, BEN)] == [401, 200]


def test_a_secret_of_kubernetes_is_replaced_by_a_link(make_client, tmp_path, monkeypatch):
    monkeypatch.setattr(keys_module, "LOOK_S", 0.0)
    other = ANNA[::-1]
    for version, key in (("1", ANNA), ("2", other)):  # of one size and age
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(f"anna:{key}")
        os.utime(tmp_path / version / "keys", (1, 1))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "keys").symlink_to("..data/keys")
    client = make_client(API_KEYS_FILE=str(tmp_path / "keys"))
    assert [status(client, key) for key in (ANNA, other)] == [200, 401]
    (tmp_path / "..data_tmp").symlink_to("2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert [status(client, key) for key in (ANNA, other)] == [401, 200]


def test_requests_of_a_removed_key_go_on_and_its_name_keeps_its_share(keyfile, make_client):
    client = make_client(API_KEYS_FILE=str(keyfile(f"anna:{ANNA}")), KEY_CONCURRENT="1")

    async def main():
        begun, end = asyncio.Event(), asyncio.Event()

        async def body():
            begun.set()
            await end.wait()
            yield b"{}"

        async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url="http://x") as asking:
            headers = bearer(ANNA) | {"Content-Type": "application/json"}
            first = asyncio.ensure_future(asking.post("/clone", content=body(), headers=headers))
            await begun.wait()
            keyfile(f"anna:{ANNA}-new")
            codes = [(await asking.get("/languages", headers=bearer(key))).status_code for key in (ANNA, f"{ANNA}-new")]
            end.set()
            codes.append((await first).status_code)
            return [*codes, (await asking.get("/languages", headers=bearer(f"{ANNA}-new"))).status_code]

    assert asyncio.run(main()) == [401, 429, 422, 200]


def test_the_file_is_looked_at_once_a_second(keyfile, tmp_path, monkeypatch):
    monkeypatch.setattr(keys_module, "LOOK_S", 1.0)
    monkeypatch.setenv("WW_API_KEYS_FILE", str(keyfile(f"anna:{ANNA}")))
    monkeypatch.setenv("WW_API_KEYS", f"ben:{BEN}")
    now = [0.0]
    keyring = Keyring(read_settings(), clock=lambda: now[0])
    keyfile(f"carl:{ANNA}")
    now[0] += 0.9
    assert [key.id for key in keyring.current()] == ["ben", "anna"]
    now[0] += 0.1
    assert [key.id for key in keyring.current()] == ["ben", "carl"]
    (tmp_path / "keys").unlink()
    keyfile(f"dora:{BEN}")  # there twice, with WW_API_KEYS
    now[0] += 1
    assert [key.id for key in keyring.current()] == ["ben", "carl"]


def test_a_process_takes_a_new_key(launch, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"anna:{ANNA}\n")
    process = launch(API_KEYS_FILE=str(file))
    process.wait_open()
    url = f"http://127.0.0.1:{process.port}/languages"
    assert httpx.get(url, headers=bearer(ANNA)).status_code == 200
    (tmp_path / "new").write_text(f"anna:{BEN}\n")
    (tmp_path / "new").replace(file)
    deadline = time.monotonic() + 30
    while httpx.get(url, headers=bearer(BEN)).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert httpx.get(url, headers=bearer(ANNA)).status_code == 401
    process.end()
    assert "1 keys of 1 callers are in force" in process.stderr()


def test_a_process_asks_before_the_body_and_never_says_a_key(launch):
    process = launch(API_KEYS=f"anna:{ANNA}", LOG_LEVEL="debug")
    process.wait_open()
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        # Nothing of the body is sent: the answer cannot have waited for it.
        head = f"POST /clone HTTP/1.1\r\nHost: x\r\nX-API-Key: {ANNA}x\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")
    assert process.ask("GET", "/live")[0] == 200
    assert process.ask("GET", "/languages")[0] == 401
    process.end()
    assert ANNA not in process.stderr()
    assert "is served: set" not in process.stderr()


def test_a_process_with_a_bad_key_does_not_start(launch):
    process = launch(API_KEYS="anna:short")
    assert process.popen.wait(timeout=30) == 2
    assert "error: WW_API_KEYS: entry 1 has a key of 5 characters" in process.stderr()
    assert "short" not in process.stderr().replace("characters", "")
    assert "Traceback" not in process.stderr()
