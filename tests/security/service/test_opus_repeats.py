"""A seeded answer is the same bytes each time, in every format: streamed and whole, in this process and the next."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from serve.speech.encoders import encode, make_encoder
from serve.speech.ogg import renumber
from tests.serve.conftest import ROOT, noise

KINDS = ("wav", "mp3", "opus", "flac", "pcm")
ELSEWHERE = """
import hashlib, numpy as np
from serve.speech.encoders import encode
samples = np.random.default_rng(5).uniform(-0.3, 0.3, 30_000).astype(np.float32)
print(hashlib.sha256(encode("opus", samples)).hexdigest())
"""


def serials(content):
    """The serial number of each page, its head read by hand."""
    found, at = [], 0
    while at < len(content):
        assert content[at : at + 4] == b"OggS"
        found.append(content[at + 14 : at + 18])
        table = content[at + 27 : at + 27 + content[at + 26]]
        at += 27 + len(table) + sum(table)
    return found


def streamed(samples, sizes):
    encoder, out, at, turn = make_encoder("opus"), b"", 0, 0
    while at < samples.size:
        size = sizes[turn % len(sizes)]
        out += encoder.write(samples[at : at + size])
        at, turn = at + size, turn + 1
    return out + encoder.close()


def asks(voice):
    for kind in KINDS:
        body = {"text": "The same each time. And once more.", "seed": 11, "response_format": kind} | voice
        yield f"{kind}, whole", body
        yield f"{kind}, streamed", body | {"stream": True}


def test_a_seeded_answer_repeats_while_others_ask(client, voice):
    over = threading.Event()

    def others():
        while not over.is_set():
            client.post("/clone", json={"text": "Somebody else.", "response_format": "opus"} | voice)

    alone = {name: client.post("/clone", json=body).content for name, body in asks(voice)}
    threads = [threading.Thread(target=others) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        again = {name: client.post("/clone", json=body).content for name, body in asks(voice)}
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert [name for name in alone if alone[name] != again[name]] == []
    heard, _ = soundfile.read(io.BytesIO(alone["opus, whole"]))
    assert heard.size > 1000
    assert heard.any()


def test_another_process_makes_the_same_bytes():
    samples = np.random.default_rng(5).uniform(-0.3, 0.3, 30_000).astype(np.float32)
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == hashlib.sha256(encode("opus", samples)).hexdigest()


@given(sizes=st.lists(st.sampled_from([1920, 3840, 7680, 20_000]), min_size=1, max_size=4))
def test_the_parts_that_a_stream_is_made_in_do_not_show(sizes):
    samples = noise(2)[:, 0]
    assert streamed(samples, sizes) == streamed(samples, [1920])


def test_a_stream_has_one_number_and_another_sound_another():
    """Files that somebody joins are a chain of streams, which are told apart by number (RFC 3533, section 4)."""
    first, second = (encode("opus", noise(1, seed=seed)[:, 0]) for seed in (1, 2))
    assert len({*serials(first)}) == len({*serials(second)}) == 1
    assert serials(first)[0] != serials(second)[0]
    chain, _ = soundfile.read(io.BytesIO(first + second))
    assert chain.size >= 24_000


def test_a_new_number_changes_no_sound():
    content = encode("opus", noise(1)[:, 0])
    other = renumber(content, 0xDEADBEEF)
    assert serials(other) == [b"\xef\xbe\xad\xde"] * len(serials(content))
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(other))[0], soundfile.read(io.BytesIO(content))[0])


@pytest.mark.parametrize("cut", [1, 20, 27, 30])
def test_what_are_no_whole_pages_is_refused(cut):
    content = encode("opus", noise(1)[:, 0])
    with pytest.raises(ValueError, match="no page of Ogg begins at byte"):
        renumber(content[:-cut], 1)
    with pytest.raises(ValueError, match="no page of Ogg begins at byte"):
        renumber(content + content[:cut], 1)
