"""The routes, on the real engine and the tiny checkpoint, in this process."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.errors import ServiceError, StartError
from tests.serve.refused import error_of


def clone(client, voice, **changes):
    return client.post("/clone", json={"text": "Hello there.", "language": "en"} | voice | changes)


def test_clone(client, voice, samples):
    answer = clone(client, voice)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-weights"] == "random"
    read = samples(answer.content)
    assert 0.1 < read.size / 24_000 < 3
    assert 0.01 < np.sqrt(np.mean(read**2)) < 0.5


def test_a_seed_repeats_and_another_does_not(client, voice):
    first, again, other = (clone(client, voice, seed=seed).content for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_without_a_seed_it_differs(client, voice):
    assert clone(client, voice).content != clone(client, voice).content


@pytest.mark.parametrize("language", ["auto", "German", "de", "zh-CN"])
def test_languages_are_accepted(client, voice, language):
    assert clone(client, voice, language=language).status_code == 200


def test_a_language_makes_a_difference(client, voice):
    assert clone(client, voice, language="de", seed=1).content != clone(client, voice, language="en", seed=1).content


def test_a_long_text_is_split_and_joined(client, voice, samples):
    # Four pieces, each up to the tiny checkpoint's 2.6 s: no single piece can be this long.
    text = "Ten words make this one a sentence of some length. " * 35
    lengths = [samples(clone(client, voice, text=text, seed=seed).content).size for seed in range(3)]
    assert max(lengths) > 34 * 1920


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"text": " "}, "no_text", "text"),
        ({"text": "x" * 5001}, "text_too_long", "text"),
        ({"ref_text": ""}, "no_text", "ref_text"),
        ({"ref_text": "x" * 2001}, "text_too_long", "ref_text"),
        ({"language": "xx"}, "unknown_language", "language"),
        ({"ref_audio_base64": "AAAA"}, "not_audio", "ref_audio_base64"),
        ({"ref_audio_base64": "/etc/passwd"}, "not_base64", "ref_audio_base64"),
        ({"ref_audio_base64": "http://127.0.0.1/a.wav"}, "not_audio", "ref_audio_base64"),
        ({"ref_audio_base64": "file:///etc/passwd"}, "not_audio", "ref_audio_base64"),
        ({"seed": -1}, "invalid_request", "seed"),
        ({"seed": 2**63}, "invalid_request", "seed"),
        ({"seed": "1"}, "invalid_request", "seed"),
        ({"text": 5}, "invalid_request", "text"),
        ({"text": None}, "invalid_request", "text"),
        ({"txt": "typo"}, "invalid_request", "txt"),
    ],
)
def test_what_cannot_be_cloned(client, voice, changes, code, field):
    error_of(clone(client, voice, **changes), 422, code, field)


@pytest.mark.parametrize("field", ["text", "ref_audio_base64", "ref_text"])
def test_what_must_be_given(client, voice, field):
    body = {"text": "Hello."} | voice
    del body[field]
    code = "half_a_reference" if field == "ref_text" else "invalid_request"
    error_of(client.post("/clone", json=body), 422, code, field)


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"", "application/json", "not_json"),
        (b"{", "application/json", "not_json"),
        (b"[]", "application/json", "invalid_request"),
        (b'"x"', "application/json", "invalid_request"),
        (b"\xff\xfe", "application/json", None),
        (b"[" * 100_000, "application/json", None),
        (b'{"seed": ' + b"9" * 5000 + b"}", "application/json", None),
    ],
)
@pytest.mark.parametrize("path", ["/clone", "/clone-batch"])
def test_bodies_that_are_no_request(client, path, content, kind, code):
    answer = client.post(path, content=content, headers={"Content-Type": kind})
    error_of(answer, 422, code)


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"text=hello", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"RIFF", "audio/wav", 415, "unsupported_media_type"),
        (b"", "", 415, "unsupported_media_type"),
        (b"--x--", "multipart/form-data", 400, "bad_form"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422, "invalid_request"),
    ],
)
def test_bodies_that_are_neither_json_nor_a_form(client, content, kind, status, code):
    answer = client.post("/clone", content=content, headers={"Content-Type": kind})
    error_of(answer, status, code, "text" if status == 422 else None)


def test_a_reference_as_the_file_of_a_form(client, voice, samples):
    audio = base64.b64decode(voice["ref_audio_base64"])
    fields = {"text": "Hello there.", "ref_text": voice["ref_text"], "seed": "5", "stream": "false"}
    answer = client.post("/clone", data=fields, files={"ref_audio": ("voice.wav", audio)})
    assert answer.status_code == 200, answer.text
    assert answer.content == client.post("/clone", json={"text": "Hello there.", "seed": 5} | voice).content
    assert samples(answer.content).size
    for name in ("../voice.wav", "/etc/passwd", "a\\b.wav"):
        error_of(client.post("/clone", data=fields, files={"ref_audio": (name, audio)}), 422, "bad_name", "ref_audio")
    error_of(client.post("/clone", data=fields | {"ref_audio": "/etc/passwd"}), 415)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1.5"])
def test_a_seed_that_is_no_integer(client, voice, number):
    body = json.dumps({"text": "Hi.", "seed": 0} | voice).replace('"seed": 0', f'"seed": {number}')
    answer = client.post("/clone", content=body, headers={"Content-Type": "application/json"})
    error_of(answer, 422, "invalid_request", "seed")


def test_a_lone_surrogate_is_refused(client, voice):
    body = json.dumps({"text": "@"} | voice).replace("@", "\\ud800")
    error_of(client.post("/clone", content=body, headers={"Content-Type": "application/json"}), 422)


def test_an_error_never_holds_the_text(client, voice):
    for changes in ({"language": "secret"}, {"seed": "secret"}, {"ref_audio_base64": "secret"}, {"text": ["secret"]}):
        assert "secret" not in clone(client, voice, **changes).text


def test_the_frameworks_own_errors(client):
    error_of(client.get("/nowhere"), 404, "not_found")
    answer = client.get("/clone")
    error_of(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    error_of(client.post("/live"), 405, "method_not_allowed")
    # Of all routes with that path, not of the first.
    assert client.put("/v1/audio/voices").headers["allow"] == "GET, POST"
    assert client.patch("/v1/audio/voices/anna").headers["allow"] == "DELETE, GET"
    answer = client.post("/clone/", follow_redirects=False)
    error_of(answer, 404, "not_found")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(client):
    sent = 0

    def endless():
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65_536

    declared = client.post("/clone", content=endless(), headers={"Content-Length": str(5 << 20), "Content-Type": "a/b"})
    error_of(declared, 413, "body_too_large")
    assert sent <= 1


def test_a_body_of_unknown_length_is_cut_off(client):
    sent = 0

    def large():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 65_536

    error_of(
        client.post("/clone", content=large(), headers={"Content-Type": "application/json"}), 413, "body_too_large"
    )


def test_audio_that_is_too_large(make_client, ready, voice, sound):
    with make_client(MAX_AUDIO_MIB="0.05") as client:
        ready(client)
        error_of(clone(client, voice), 413, "audio_too_large", "ref_audio_base64")
        small = base64.b64encode(sound(1, 8_000)).decode()
        assert clone(client, voice, ref_audio_base64=small).status_code == 200


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_other_formats_and_data_urls(client, voice, sound, kind):
    audio = base64.b64encode(sound(2, 44_100, 2, kind)).decode()
    assert clone(client, voice, ref_audio_base64=f"data:audio/x;base64,{audio}").status_code == 200


def test_languages(client):
    answer = client.get("/languages").json()
    assert answer["source"] == "model"
    assert {"name": "english", "code": "en"} in answer["languages"]
    assert len(answer["languages"]) == 10


def test_ready_and_health(client):
    ready = client.get("/ready").json()
    assert ready["status"] == "ready"
    assert [phase["name"] for phase in ready["phases"]] == ["import", "probe", "load", "warm"]
    assert ready["phase"] is None
    health = client.get("/health").json()
    assert health["weights"] == "random"
    assert health["attention"]["running"] == "sdpa"
    assert health["attention"]["because"]
    rungs = {rung["name"]: rung for rung in health["attention"]["rungs"]}
    assert [rungs[name]["available"] for name in ("flash_attention_2", "sdpa", "eager")] == [False, True, True]
    assert rungs["flash_attention_2"]["because"] == "flash-attn is not installed"
    assert health["dtype"]["talker"] == "float32"
    assert health["device"]["torch"] == "cpu"
    assert health["image"] is None
    assert client.get("/live").json() == {"status": "live"}


def test_openapi_describes_the_routes(client):
    described = client.get("/openapi.json").json()
    assert {"/clone", "/clone-batch", "/languages", "/live", "/ready", "/health"} <= set(described["paths"])
    assert "audio/wav" in described["paths"]["/clone"]["post"]["responses"]["200"]["content"]
    assert client.get("/docs").status_code == 404


def batch(client, items, **shared):
    return client.post("/clone-batch", json={"items": items} | shared)


def test_a_batch_succeeds_in_part(client, voice, samples, sound):
    other = base64.b64encode(sound(1.5, 16_000, seed=9)).decode()
    items = [
        {"text": "One.", "language": "en"},
        {"text": ""},
        {"text": "Two.", "ref_audio_base64": other, "ref_text": "another voice"},
        {"text": "Three.", "language": "xx"},
        {"text": "Four.", "ref_audio_base64": "AAAA", "ref_text": "x"},
        {"text": "Five.", "ref_text": "x"},
    ]
    answer = batch(client, items, **voice, seed=3)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-weights"] == "random"
    results = answer.json()["items"]
    assert [result["status"] for result in results] == [200, 422, 200, 422, 422, 422]
    assert [result.get("error", {}).get("field") for result in results] == [
        None, "items.1.text", None, "items.3.language", "items.4.ref_audio_base64", "items.5.ref_audio_base64",
    ]  # fmt: skip
    for result in results:
        assert set(result) == ({"status", "audio_base64"} if result["status"] == 200 else {"status", "error"})
        if result["status"] == 200:
            assert samples(base64.b64decode(result["audio_base64"])).size > 1000
    assert batch(client, items, **voice, seed=3).json() == answer.json()


def test_a_batch_of_failures_fails(client):
    answer = batch(client, [{"text": "No voice."}, {"text": ""}])
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "all_failed"
    assert [item["error"]["code"] for item in answer.json()["items"]] == ["no_reference", "no_text"]


@pytest.mark.parametrize(
    ("items", "shared", "code", "field"),
    [
        ([], {}, "invalid_request", "items"),
        ([{"text": "x"}] * 33, {}, "too_many_items", "items"),
        ([{"text": 1}], {}, "invalid_request", "items.0.text"),
        ([{"text": "x", "seed": 1}], {}, "invalid_request", "items.0.seed"),
        ([{"text": "x"}], {"ref_text": "half"}, "half_a_reference", "ref_audio_base64"),
        ([{"text": "x"}], {"ref_audio_base64": "AAAA"}, "half_a_reference", "ref_text"),
        ([{"text": "x"}], {"ref_audio_base64": "AAAA", "ref_text": "x"}, "not_audio", "ref_audio_base64"),
    ],
)
def test_batches_that_are_wrong_as_a_whole(client, items, shared, code, field):
    error_of(batch(client, items, **shared), 422, code, field)


def test_half_a_reference_names_the_half_that_is_there(client):
    for shared, beside in ({"ref_text": "half"}, "ref_text"), ({"x_vector_only": True}, "x_vector_only"):
        message = batch(client, [{"text": "x"}], **shared).json()["error"]["message"]
        assert message == f"ref_audio_base64 is missing beside {beside}"


def test_live_answers_while_audio_is_made(client, voice):
    done = threading.Event()
    answers = []

    def work():
        answers.append(batch(client, [{"text": "A sentence that is said many times. " * 100}] * 4, **voice))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    slowest, asked = 0.0, 0
    while not done.is_set():
        began = time.monotonic()
        assert client.get("/live").status_code == 200
        slowest, asked = max(slowest, time.monotonic() - began), asked + 1
    thread.join()
    assert answers[0].status_code == 200
    assert asked > 10
    assert slowest < 2


def test_too_many_at_once_are_told_to_come_back(make_client, ready, voice):
    with make_client(MAX_WAITING="1") as client:
        ready(client)
        results = []
        items = [{"text": "A sentence that is said many times. " * 100}] * 4
        thread = threading.Thread(target=lambda: results.append(batch(client, items, **voice)))
        thread.start()
        while client.app_state["service"].pending == 0 and not results:
            time.sleep(0.005)
        answer = clone(client, voice)
        thread.join()
        error_of(answer, 429, "busy")
        assert answer.headers["retry-after"]
        assert results[0].status_code == 200
        assert clone(client, voice).status_code == 200


def test_the_last_places_are_for_those_who_have_none(make_client, ready):
    with make_client(MAX_WAITING="8") as client, contextlib.ExitStack() as places:
        ready(client)
        service = client.app_state["service"]
        for _ in range(7):
            places.enter_context(service.admit("a"))
        with pytest.raises(ServiceError, match="7 of them yours, and the last places are for others") as refused:
            places.enter_context(service.admit("a"))
        assert refused.value.status == 429
        places.enter_context(service.admit("b"))
        with pytest.raises(ServiceError, match="8 requests are running or waiting, which is the most"):
            places.enter_context(service.admit("c"))
        places.close()
        assert service.pending == 0


def test_until_ready_and_while_draining_503_says_how_far(make_client, ready, voice):
    with make_client() as client:
        service = client.app_state["service"]
        answer = client.get("/ready")
        if answer.status_code == 503:  # everything is imported here, so it may be ready at once
            assert answer.json()["error"]["code"] == "loading"
        ready(client)
        service.state.drain()
        for path in ("/ready", "/health"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert answer.json()["status"] == "draining"
            assert answer.json()["error"]["code"] == "draining"
        assert client.get("/live").status_code == 200
        answer = clone(client, voice)
        error_of(answer, 503, "draining")
        assert answer.headers["retry-after"]


def test_before_the_start(make_client, voice):
    client = make_client()  # not entered: its lifespan has not begun, so nothing loads
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() | {"seconds": 0} == {
        "status": "loading",
        "phase": None,
        "phases": [],
        "seconds": 0,
        "error": {
            "code": "loading",
            "message": "the model is loading (phase: start)",
            "field": None,
            "remedy": "wait until /ready answers 200",
        },
    }
    assert client.get("/live").status_code == 200
    assert client.get("/languages").json()["source"] == "known"
    error_of(clone(client, voice), 503, "loading")


def test_a_failed_start_is_not_live(make_client):
    client = make_client()
    client.app_state["service"].state.fail(StartError("the disk is gone"))
    for path in ("/live", "/ready", "/health"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (503, "failed")
        assert "the disk is gone" in answer.json()["error"]["message"]


def test_a_defect_is_a_500_in_the_same_shape_and_one_line(make_client, ready, voice, caplog):
    with make_client() as client:
        ready(client)
        service = client.app_state["service"]
        running = service.running

        class Crash:
            @property
            def languages(self):
                raise ZeroDivisionError("secret")

        service.running = replace(running, facts=Crash())
        answer = clone(client, voice)
    error_of(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "a defect in POST '/clone': ZeroDivisionError at " in caplog.text
    assert "secret" not in caplog.text


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60), language=st.sampled_from(["auto", "en", "zh"]), ref_text=st.text(max_size=30))
def test_any_text_is_spoken_or_refused(client, voice, text, language, ref_text):
    answer = clone(client, voice, text=text, language=language, ref_text=ref_text)
    if answer.status_code == 200:
        assert answer.content[:4] == b"RIFF"
    else:
        assert answer.status_code == 422
        assert set(answer.json()) == {"error"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["text", "language", "ref_audio_base64", "ref_text", "seed", "items"])


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/clone", "/clone-batch"]), body=JSON | st.dictionaries(FIELDS, JSON, max_size=6))
def test_any_json_is_refused_with_the_contracts_shape(client, path, body):
    answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert set(answer.json()) in ({"error"}, {"error", "items"})
