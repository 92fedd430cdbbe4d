"""Request ids and log lines."""

from __future__ import annotations

import base64
import json
import logging
import re

import numpy as np
import pytest

from serve.api.requests import choose_id
from serve.logs import FIELDS, JsonLine, OneLine, line_format, working_for

SAID = "A text that nobody else is to read."


@pytest.fixture
def json_lines(caplog):
    """What the records so far are as JSON lines (their request's id was in the context when they were made)."""
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(JsonLine())
    return lambda: [json.loads(line) for line in caplog.text.splitlines() if line.startswith("{")]


def access_lines(lines):
    return [line for line in lines if line["logger"] == "serve.api.requests"]


@pytest.mark.parametrize("sent", ["a", "A-1._z", "x" * 64])
def test_a_callers_id_is_kept(client, sent):
    assert client.get("/live", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "a\tb", "a/b", "é", '"}{"', "a;b", "%0a"])
def test_an_id_that_could_break_a_log_is_replaced(client, sent):
    headers = {"X-Request-ID": sent.encode("latin-1")}
    assert re.fullmatch("[0-9a-f]{32}", client.get("/live", headers=headers).headers["x-request-id"])


def test_a_new_line_is_no_part_of_an_id():
    assert choose_id("a\n") != "a\n"
    assert choose_id(None) != choose_id(None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/no", 404), ("GET", "/clone", 405), ("POST", "/clone", 415), ("POST", "/clone-batch", 415)],
)
def test_errors_carry_the_id(client, method, path, status):
    answer = client.request(method, path, headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine")


def test_an_access_line(client, voice, json_lines):
    answer = client.post("/clone", json={"text": SAID} | voice, headers={"X-Request-ID": "abc.1"})
    assert answer.status_code == 200
    (line,) = access_lines(json_lines())
    assert line["level"] == "info"
    assert line["request_id"] == "abc.1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["method"], line["route"], line["status"], line["caller"]) == ("POST", "/clone", 200, "anonymous")
    assert line["ms"] >= 0
    assert line["bytes_in"] > len(voice["ref_audio_base64"])
    assert line["bytes_out"] == len(answer.content)
    assert line["message"].startswith("POST '/clone' 200 in ")


def test_an_error_is_named_in_the_line(client, voice, json_lines):
    client.post("/clone", json={"text": SAID, "language": "xx"} | voice)
    (line,) = access_lines(json_lines())
    assert (line["status"], line["error"]) == (422, "unknown_language")


def test_probes_and_scrapes_are_quiet(client, json_lines):
    for path in ("/live", "/ready", "/health", "/metrics"):
        client.get(path)
    assert [line["level"] for line in access_lines(json_lines())] == ["debug"] * 4


def test_a_path_that_is_no_route_stays_out_of_the_log(client, caplog):
    caplog.set_level(logging.INFO, "serve")
    client.get("/my-secret-path?and=query")
    assert "'(none)' 404" in caplog.text
    assert "secret" not in caplog.text


def test_neither_text_nor_audio_is_logged(client, voice, json_lines):
    reference = {"ref_text": "A transcript that is private.", "ref_audio_base64": voice["ref_audio_base64"]}
    bad = {"ref_audio_base64": base64.b64encode(b"private sound").decode()}
    for changes in ({}, {"language": "private"}, bad, {"seed": "private"}):
        client.post("/clone", json={"text": SAID} | reference | changes)
    written = json.dumps([line for line in json_lines() if line["logger"].startswith("serve")])
    for secret in (SAID, "private", reference["ref_audio_base64"][:40], bad["ref_audio_base64"]):
        assert secret not in written


def record(message, **fields):
    made = logging.LogRecord("a.logger", logging.WARNING, "file.py", 1, message, None, None)
    made.__dict__.update(fields)
    return made


def test_a_line_of_json_is_one_line_and_keeps_its_own_fields():
    line = JsonLine().format(record("two\nlines é", **{FIELDS: {"level": "forged", "n": 1, "odd": object}}))
    assert "\n" not in line
    read = json.loads(line)
    assert (read["level"], read["message"], read["n"]) == ("warning", "two\nlines é", 1)
    assert "request_id" not in read


def test_a_traceback_stays_in_its_line():
    made = record("failed")
    with pytest.raises(ValueError, match="why") as caught:
        int("why")
    made.exc_info = caught._excinfo
    assert "ValueError: " in json.loads(JsonLine().format(made))["exception"]
    assert "\n" not in OneLine().format(made)


def test_text_lines_carry_the_id_too():
    with working_for(["abc"]):
        assert OneLine("%(message)s").format(record("done")) == "done [abc]"
        with working_for(["abc", "def", "abc"]):
            assert OneLine("%(message)s").format(record("done")) == "done [abc def]"
            assert json.loads(JsonLine().format(record("done")))["request_ids"] == ["abc", "def"]
        assert json.loads(JsonLine().format(record("done")))["request_id"] == "abc"
    assert OneLine("%(message)s").format(record("done")) == "done"


def run_crash(*_):
    raise ValueError(SAID)


def run_silent(batch, seed, deliver):
    for piece in batch:
        deliver(piece, np.zeros(1920, np.float32), "done")


@pytest.mark.parametrize(
    ("work", "fault", "status", "said"),
    [
        ("run", run_crash, 500, "the engine failed: ValueError"),
        ("prompt", run_crash, 500, "the engine failed: ValueError"),
        ("run", run_silent, 500, "piece 1 of 1 is made once more: bad_audio"),
    ],
)
def test_what_the_engine_does_for_a_request_carries_its_id(
    client, voice, json_lines, monkeypatch, work, fault, status, said
):
    monkeypatch.setattr(client.app_state["service"].running.engine, work, fault)
    reference = voice | {"ref_text": f"Encoded for this test: {work}."}
    body = {"text": "Hello."} | reference
    assert client.post("/clone", json=body, headers={"X-Request-ID": "mine"}).status_code == status
    lines = [line for line in json_lines() if line["message"].startswith(said)]
    assert lines
    assert {line.get("request_id") for line in lines} == {"mine"}
    body = {"items": [{"text": "Hello."}] * 2} | reference
    assert client.post("/clone-batch", json=body, headers={"X-Request-ID": "other"}).status_code == status
    lines = [line for line in json_lines() if line["message"].startswith(said)]
    assert {line.get("request_id") for line in lines} == {"mine", "other"}
    assert not any("request_ids" in line for line in lines)


def test_the_format_of_an_image_and_outside():
    assert line_format("auto", None) == "text"
    assert line_format("json", None) == "json"


def test_the_service_as_a_process_logs_json(launch, voice):
    process = launch(LOG_FORMAT="json")
    process.wait_ready()
    assert process.ask("POST", "/clone", {"text": SAID} | voice)[0] == 200
    assert process.end()[0] == 0
    lines = [json.loads(line) for line in process.stderr().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    ready = next(line["message"] for line in lines if line["message"].startswith("ready after"))
    seconds = r"[\d.]+ s"
    phases = ", ".join(f"{name} {seconds}" for name in ("import", "probe", "load", "warm"))
    assert re.fullmatch(rf"ready after {seconds} \({phases}\), with random weights", ready)
    (access,) = access_lines(lines)
    assert access["route"] == "/clone"
    assert re.fullmatch("[0-9a-f]{32}", access["request_id"])
    assert SAID not in process.stderr()


def test_a_failed_start_is_json_too(launch):
    process = launch(LOG_FORMAT="json", ATTENTION="flash_attention_2")
    assert process.popen.wait(timeout=60) == 4
    lines = [json.loads(line) for line in process.stderr().splitlines()]
    assert any(line["level"] == "critical" and "cannot run here" in line["message"] for line in lines)
