"""Bodies that are made to hurt: each is refused, with the contract's error, and costs little."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest

from serve.errors import ServiceError
from serve.speech.audio import decode_base64
from tests.serve.refused import error_of

JSON = {"Content-Type": "application/json"}
WITH_JSON = ["/clone", "/clone-batch", "/v1/audio/speech", "/v1/audio/voices"]
ONLY_JSON = ["/clone-batch", "/v1/audio/speech"]
MANY = 300_000
# What memory a body may cost, times its size: pydantic took three hundred times.
DEAR = 40


@pytest.fixture(scope="module")
def keeping(make_client, ready, tmp_path_factory):
    """The app, with a folder for voices."""
    with make_client(DATA_DIR=str(tmp_path_factory.mktemp("voices"))) as client:
        ready(client)
        yield client


def most_memory(work):
    """What ``work`` returns, and the most bytes that it took."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", WITH_JSON)
@pytest.mark.parametrize(
    "content",
    [
        b'{"items": [' + b"[]," * MANY + b"[]]}",
        b'{"items": [' + b"{}," * MANY + b"{}]}",
        b'{"items": [' + b"1," * MANY + b"1]}",
        b'{"other": [' + b"[[[[]]]]," * (MANY // 4) + b"[]]}",
        b'{"items": [{' + b",".join(b'"%d": 1' % number for number in range(MANY)) + b"}]}",
        b"{" + b",".join(b'"%d": 1' % number for number in range(MANY)) + b"}",
    ],
    ids=["lists", "objects", "numbers", "nested", "names of an item", "names"],
)
def test_a_body_of_many_values_is_refused_before_it_is_read(keeping, path, content):
    answer, memory = most_memory(lambda: keeping.post(path, content=content, headers=JSON))
    error_of(answer, 422, "too_many_values")
    assert memory < DEAR * len(content)


@pytest.mark.parametrize("path", ["/clone", *ONLY_JSON])
@pytest.mark.parametrize(
    "content",
    [
        b"{" + b",".join(b'"%d": 1' % number for number in range(10_000)) + b"}",
        b'{"items": [{' + b",".join(b'"%d": 1' % number for number in range(10_000)) + b"}]}",
        b'{"items": [' + b"1," * 10_000 + b"1]}",
    ],
    ids=["names", "names of an item", "numbers"],
)
def test_many_mistakes_cost_no_more_than_one(keeping, path, content):
    answer, memory = most_memory(lambda: keeping.post(path, content=content, headers=JSON))
    assert answer.status_code == 422
    assert len(answer.content) < 500
    assert memory < 2 * DEAR * len(content)


def test_texts_of_nothing_but_commas_are_no_bomb(client, voice):
    text = "a" + "," * 4999
    assert client.post("/clone", json={"text": text, "seed": 1} | voice).status_code == 200
    items = [{"text": text}] * 31 + [{"text": "a" + "," * 5000}]
    answer = client.post("/clone-batch", json={"items": items})
    assert answer.json()["error"]["code"] == "all_failed"


@pytest.mark.parametrize("path", WITH_JSON)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 5000,
        b'{"a":' * 5000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"text": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"text": "\xe9"}',
        '{"text": 1}'.encode("utf-16"),
        b"{}{}",
    ],
)
def test_what_is_no_json_is_the_same_for_every_route(keeping, path, content):
    error_of(keeping.post(path, content=content, headers=JSON), 422, "not_json")


@pytest.mark.parametrize("path", WITH_JSON)
@pytest.mark.parametrize("content", [b"null", b"1", b'""', b"[]"])
def test_json_that_is_no_object(keeping, path, content):
    error_of(keeping.post(path, content=content, headers=JSON), 422, "invalid_request")


def test_a_byte_order_mark_is_passed_over(client, voice):
    content = b"\xef\xbb\xbf" + json.dumps({"text": "Hello."} | voice).encode()
    assert client.post("/clone", content=content, headers=JSON).status_code == 200


@pytest.mark.parametrize("path", ONLY_JSON)
@pytest.mark.parametrize(
    "kind", ["text/plain", "", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
)
def test_another_content_type_is_a_415(keeping, path, kind):
    error_of(keeping.post(path, content=b"{}", headers={"Content-Type": kind}), 415, "unsupported_media_type")


@pytest.mark.parametrize("path", WITH_JSON)
def test_a_compressed_body_is_a_415(keeping, path):
    headers = JSON | {"Content-Encoding": "gzip"}
    answer = keeping.post(path, content=gzip.compress(b'{"text": "Hello."}'), headers=headers)
    error_of(answer, 415, "unsupported_encoding")


def test_identity_is_no_compression(client, voice):
    content = json.dumps({"text": "Hello."} | voice).encode()
    answer = client.post("/clone", content=content, headers=JSON | {"Content-Encoding": "identity"})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", WITH_JSON)
def test_a_fields_name_is_not_sent_back_at_length(keeping, path):
    answer = keeping.post(path, json={"text": "a", "items": [{"text": "a"}], "x" * 100_000: 1})
    assert answer.status_code == 422
    assert len(answer.content) < 500


@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "utf-16", "no-such"])
def test_a_form_of_any_charset_is_read_or_refused(client, voice, charset):
    boundary, fields = "x", {"text": "a-\xff", "ref_text": "b"}
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()]
    content = "".join([*parts, "--x--\r\n"]).encode()
    kind = f"multipart/form-data; boundary={boundary}; charset={charset}"
    answer = client.post("/clone", content=content, headers={"Content-Type": kind})
    assert answer.status_code in {400, 422}, answer.text


def test_a_forms_field_that_is_too_long_is_told_its_limit(client):
    answer = client.post("/clone", files={"text": (None, "x" * 20_001)})
    assert "20000 bytes" in error_of(answer, 400, "bad_form")["remedy"]


@pytest.mark.parametrize("token", ["aa ", "a\n", "\u00a0", "ab\u2003"])
def test_base64_with_many_blanks_costs_little(token):
    text = token * 300_000

    def decode():
        with pytest.raises(ServiceError):
            decode_base64(text, 100, "field")

    _, memory = most_memory(decode)
    assert memory < 4 * len(text.encode())
