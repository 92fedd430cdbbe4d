"""Every route, as /openapi.json describes it: what is made from the description is answered as described."""

from __future__ import annotations

import base64
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance

EXAMPLES = 20
# Two examples of each answer are enough of what makes audio: on a CPU each takes a while.
SPOKEN = 4


def lend(body, voice):
    """Put what can be spoken where the description can only say "a string": else nothing would get past the checks."""
    known = {"text": "Hello.", "language": "en", "x_vector_only": False, "seed": 1} | voice
    if not isinstance(body, dict):
        return
    for field in body.keys() & {"ref_audio", "audio_sample"}:  # the file of a form
        body[field] = base64.b64decode(voice["ref_audio_base64"])
        body["ref_text"] = voice["ref_text"]
    if body.keys() & {"items", "ref_audio_base64"}:  # a reference is wanted: all of it
        body.update(voice)
    for name in body.keys() & known.keys():
        body[name] = known[name]
    for item in body["items"] if isinstance(body.get("items"), list) else ():
        lend(item, voice)


def test_no_answer_is_a_5xx_or_not_as_described(launch, voice, tmp_path):
    process = launch(DATA_DIR=str(tmp_path))
    process.wait_ready()
    described = schemathesis.openapi.from_url(f"http://127.0.0.1:{process.port}/openapi.json")
    answers: Counter[tuple[str, int]] = Counter()
    for result in described.get_all_operations():
        drive(result.ok(), voice, answers)
    routes = {label for label, _ in answers}
    assert {"POST /clone", "POST /clone-batch", "GET /metrics", "GET /info", "GET /ready"} <= routes
    for label in ("POST /clone", "POST /clone-batch"):  # not only refusals were tried
        assert answers[label, 200], answers
    assert answers["POST /clone", 422], answers
    assert "Traceback" not in process.stderr()
    assert process.end()[0] == 0


def drive(operation, voice, answers):
    """Ask one route, with data that its description allows and with data that it does not."""
    for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
        if mode == GenerationMode.POSITIVE or operation.body:
            ask_in(mode, operation, voice, answers)


def ask_in(mode, operation, voice, answers):
    @seed(1)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        # A wrong one is left as it is: what is lent could make it right.
        if mode == GenerationMode.POSITIVE and answers[operation.label, 200] < SPOKEN:
            lend(case.body, voice)
        # A text may be one that no schema can rule out (nothing but spaces): a 422 is a good answer to that.
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        answers[operation.label, answer.status_code] += 1

    ask()


@pytest.mark.parametrize(
    "path", ["/clone", "/clone-batch", "/languages", "/live", "/ready", "/health", "/metrics", "/info"]
)
def test_every_route_is_described(client, path):
    (described,) = client.get("/openapi.json").json()["paths"][path].values()
    assert described["summary"]
    assert described["description"]


def documented(client, headers=None):
    """``(method, path, operation)`` of each."""
    paths = client.get("/openapi.json", headers=headers).json()["paths"]
    return [(method, path, operation) for path, methods in paths.items() for method, operation in methods.items()]


def test_every_example_can_be_sent_as_it_stands(make_client, ready, tmp_path):
    with make_client(DATA_DIR=str(tmp_path)) as client:
        ready(client)
        examples = {
            path: operation["requestBody"]["content"]["application/json"]["example"]
            for method, path, operation in documented(client)
            if method == "post"
        }
        answers = {path: client.post(path, json=body) for path, body in sorted(examples.items(), reverse=True)}
    # In that order: a voice is made before it is spoken with.
    assert [(path, answer.status_code) for path, answer in answers.items()] == [
        ("/v1/audio/voices", 201),
        ("/v1/audio/speech", 200),
        ("/clone-batch", 200),
        ("/clone", 200),
    ]
    assert [item["status"] for item in answers["/clone-batch"].json()["items"]] == [200, 200]


def test_operations_have_names_that_a_generated_client_can_use(client):
    names = [operation["operationId"] for _, _, operation in documented(client)]
    assert all(name.isidentifier() and name.islower() and "_v1_" not in name for name in names), names
    assert len(set(names)) == len(names)
    assert {"clone", "clone_batch", "speech", "make_voice", "ready"} <= set(names)


def test_every_refusal_is_described(make_client):
    client = make_client(API_KEYS="a-key-of-sixteen-characters")  # not entered: it never becomes ready
    key = {"Authorization": "Bearer a-key-of-sixteen-characters"}
    for method, path, operation in documented(client, key):
        example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        asked = {"method": method, "url": path.replace("{voice}", "x").replace("{name}", "x")}
        for answer in (
            client.request(**asked, headers=key, json=example),
            client.request(**asked),
            client.request(**asked, headers=key | {"Content-Encoding": "gzip"}),
            client.request(**asked, headers=key | {"Content-Length": str(1 << 30)}),
        ):
            assert str(answer.status_code) in operation["responses"], (method, path, answer.status_code)
