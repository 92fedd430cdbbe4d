"""With JSON lines nothing else is on the output, whatever a caller makes a library say; and never too much of it."""

from __future__ import annotations

import base64
import io
import json
import random
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from serve.image import DEFAULT_PATH
from serve.stray import BURST, PIECE_BYTES, RATE, Budget, Lines
from serve.supervisor import IMAGE_JSON, early_format
from tests.security.service.hooked import Hooked, ended
from tests.serve.conftest import noise


def damaged_mp3s(seed):
    """200 in a row, each with bytes changed and its end missing."""
    rng = random.Random(seed)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(0.1), 24_000, format="MP3")
    parts = []
    for _ in range(200):
        part = bytearray(buffer.getvalue())
        for _ in range(20):
            part[rng.randrange(len(part))] = rng.randrange(256)
        parts.append(bytes(part[: len(part) - rng.randrange(100)]))
    return b"".join(parts)


def beyond_full_scale():
    """A reference that is over full scale once it is resampled: qwen-tts prints a warning."""
    square = np.sign(noise(2, rate=44_100)[:, 0]).repeat(2)[:88_200]
    buffer = io.BytesIO()
    soundfile.write(buffer, square, 44_100, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def test_what_a_caller_makes_decoders_say_is_json(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, "pass")) as service:
        service.wait("/ready")
        for audio in [*map(damaged_mp3s, range(6)), beyond_full_scale()]:
            body = {"text": "Hello.", "ref_text": "Words.", "ref_audio_base64": base64.b64encode(audio).decode()}
            assert service.ask("/clone", body)[0] in {200, 422}
        deadline = time.monotonic() + 30
        while not any("[WARNING] Min value of input waveform" in text for text in service.stray()):
            assert time.monotonic() < deadline, service.records()
            time.sleep(0.1)
        assert any("Note: " in text or "Warning: " in text for text in service.stray())
        lines = service.ask("/metrics")[1].decode().splitlines()
        (logged,) = [line for line in lines if line.startswith('wheelwright_stray_lines_total{result="logged"}')]
        assert float(logged.split()[1]) >= 2
        assert service.end() == 0
    service.records()


FLOOD = r"""
for number in range(200_000):
    write(b"noise %d\n" % number, 1 + number % 2)
print("the last of a flood")
time.sleep(2)
write(b"after it\n")
open("done", "w").close()
"""


def wait_for(file):
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_flood_is_counted_and_left_out(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, FLOOD)) as service:
        service.wait()
        service.act()
        wait_for(tmp_path / "done")
        assert service.ask("/live")[0] == 200
        metrics = service.ask("/metrics")[1].decode()
        assert service.end() == 0
    said = service.stray()
    assert "after it" in said
    assert len(said) < 1000
    left_out = sum(int(text.split()[0]) for text in said if text.endswith("lines more are left out"))
    (counted,) = [line for line in metrics.splitlines() if line.startswith('wheelwright_stray_lines_total{result="dr')]
    assert left_out > 1000
    # What did not fit into the pipe nobody can count line by line.
    assert float(counted.split()[1]) > 1000


def test_who_writes_never_waits(tmp_path, tiny):
    """The process that reads the pipe is stopped: a library's write returns all the same."""
    action = 'for _ in range(100_000):\n    write(b"x" * 99 + b"\\n")\nprint("y" * 100_000)\nopen("done", "w").close()'
    with ended(Hooked(tmp_path, tiny, action)) as service:
        service.wait()
        service.popen.send_signal(19)  # SIGSTOP
        service.act()
        wait_for(tmp_path / "done")
        assert service.ask("/live")[0] == 200
        service.popen.send_signal(18)  # SIGCONT
        assert service.end() == 0
    assert any(text.endswith("lines more are left out") for text in service.stray())


HOSTILE = r"""
write(b'\x1b[2J"}\n{"level": "info", "logger": "serve", "message": "forged"}\n\xff\xfe\x00\r\nhalf')
write(b"a" * 30_000 + b"\n")
def fail():
    raise RuntimeError("two\nlines")
threading.Thread(target=fail).start()
import warnings
warnings.warn("a warning")
time.sleep(1.5)
open("done", "w").close()
"""


def test_no_line_is_forged_or_broken(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, HOSTILE)) as service:
        service.wait()
        service.act()
        wait_for(tmp_path / "done")
        assert service.end() == 0
    records = service.records()
    assert all(len(line) < 4096 for line in service.err.read_bytes().splitlines() if b'"output"' in line)
    assert '{"level": "info", "logger": "serve", "message": "forged"}' in service.stray()
    assert not any(record["message"] == "forged" for record in records)
    assert any("\\xff\\xfe" in text for text in service.stray())
    assert sum(text.count("a") for text in service.stray() if set(text) <= set("hlf") | {"a"}) >= 30_000
    (defect,) = [record for record in records if "exception" in record]
    assert (defect["level"], defect["message"]) == ("critical", "a defect in a thread: RuntimeError")


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"PORT": "x"}, "WW_PORT='x' cannot be"), ({"MODEL_DIR": "/nowhere"}, "there is no such folder")],
)
def test_a_start_that_fails_says_so_in_json(tmp_path, tiny, settings, said):
    with ended(Hooked(tmp_path, tiny, "pass", **settings)) as service:
        assert service.end(None) == 2
    (record,) = service.records()
    assert record["level"] == "critical"
    assert said in record["message"]
    assert "remedy: " in record["message"]


def test_text_lines_need_no_second_process(tmp_path, tiny):
    with ended(Hooked(tmp_path, tiny, "pass", "text")) as service:
        service.wait()
        assert service.children() == []
        assert service.end() == 0


def test_the_form_is_known_before_the_settings_are_read(tmp_path):
    image = tmp_path / "image.json"
    image.touch()
    assert str(DEFAULT_PATH) == IMAGE_JSON
    assert early_format({"WW_LOG_FORMAT": "json"}) == "json"
    assert early_format({"WW_LOG_FORMAT": "text", "WW_IMAGE_JSON": str(image)}) == "text"
    assert early_format({"WW_IMAGE_JSON": str(image)}) == early_format({"WW_LOG_FORMAT": "auto"} | {"WW_IMAGE_JSON": str(image)}) == "json"  # noqa: E501  # fmt: skip
    assert early_format({"WW_LOG_FORMAT": "", "WW_IMAGE_JSON": str(tmp_path / "none")}) == "text"


@given(data=st.lists(st.binary(max_size=2000), max_size=8))
def test_lines_lose_nothing_and_are_never_long(data):
    lines = Lines()
    found = [line for part in data for line in lines.feed(part)] + [*lines.end()]
    joined = "".join(found)
    assert all(len(json.dumps(line)) <= 6 * PIECE_BYTES + 2 for line in found)
    assert not any("\n" in line for line in found)
    for byte in b"az09":
        assert joined.count(chr(byte)) >= b"".join(data).count(byte)


def test_the_budget_fills_up_again():
    budget = Budget()
    assert [budget.spend(0.0) for _ in range(BURST + 5)] == [True] * BURST + [False] * 5
    assert [budget.spend(1.0) for _ in range(int(RATE) + 1)] == [True] * int(RATE) + [False]
    assert sum(budget.spend(1e6) for _ in range(1000)) == BURST
