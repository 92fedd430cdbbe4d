"""The store of voices, in this process and killed in others; then its routes."""

from __future__ import annotations

import base64
import json
import logging
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from serve.errors import ServiceError, SettingsError, StartError
from serve.settings import read_settings
from serve.speech.audio import Sound
from serve.voices import shelf as shelf_module
from serve.voices import store as store_module
from serve.voices.database import APPLICATION, Rows
from serve.voices.folder import DATABASE, UNFINISHED
from serve.voices.quotas import Quota
from serve.voices.records import NewVoice, check_name
from serve.voices.store import VoiceStore, data_folder
from tests.serve.refused import error_of

PATH = "/v1/audio/voices"
FORM = "multipart/form-data; boundary=y"
PATH_FOR_AUDIO = b'{"name": "a", "consent": "x", "ref_text": "x", "ref_audio_base64": "file:///etc/passwd"}'
ANNA, BEN = "anna-0123456789abcdef", "ben-0123456789abcdef"


def sound_of(seed=0, count=1000):
    return Sound(np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32), 24_000, f"digest {seed}")


def voice_of(name="anna", seed=0, count=1000, transcript="What is said."):
    return NewVoice(name, "english", transcript, "Anna said yes.", sound_of(seed, count))


@pytest.fixture
def store(tmp_path):
    return VoiceStore(tmp_path / "data", Quota(100, 1 << 20))


def reopen(store):
    return VoiceStore(store.folder, store.quota)


def refused(status, code, call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.remedy
    return caught.value


def test_what_is_kept_comes_back(store):
    before = int(time.time())
    info = store.add(voice_of("Zoë", seed=3), "anna")
    assert before <= info.created <= time.time()
    assert info.duration_s == pytest.approx(1000 / 24_000)
    again = reopen(store)
    for wanted in (info.id, "Zoë", unicodedata.normalize("NFD", "Zoë")):
        voice = again.reference(wanted, "anna")
        assert voice.info == info == again.find(wanted, "anna")
        assert np.array_equal(voice.sound.samples, sound_of(3).samples)
        assert (voice.sound.rate, voice.sound.digest) == (24_000, "digest 3")
    assert again.owned_by("anna") == [info]


def test_a_voice_without_a_transcript(store):
    store.add(voice_of(transcript=None), "anna")
    assert store.reference("anna", "anna").info.transcript is None


def test_what_is_anothers_is_not_there(store):
    info = store.add(voice_of(), "anna")
    for wanted in (info.id, info.name):
        for call in (store.find, store.reference, store.delete):
            refused(404, "voice_not_found", call, wanted, "ben")
    assert store.owned_by("ben") == []
    store.add(voice_of(), "ben")
    store.delete("anna", "ben")
    assert store.owned_by("anna") == [info]


def test_deleted_is_gone_from_the_disk(store):
    info = store.add(voice_of(), "anna")
    assert len([*(store.folder / "voices").iterdir()]) == 1
    assert store.delete(info.id, "anna") == info
    refused(404, "voice_not_found", store.reference, info.id, "anna")
    refused(404, "voice_not_found", store.delete, info.id, "anna")
    assert [*(store.folder / "voices").iterdir()] == []
    store.add(voice_of(), "anna")


@pytest.mark.parametrize("wanted", ["", "/", "../voices.sqlite", "x" * 10_000, "\ud800", "\0", "' OR 1=1 --", "%"])
def test_what_no_voice_is_called(store, wanted):
    store.add(voice_of(), "anna")
    refused(404, "voice_not_found", store.reference, wanted, "anna")


def test_limits_are_each_owners(tmp_path):
    store = VoiceStore(tmp_path, Quota(2, 10_000))
    store.add(voice_of("a"), "anna")
    assert refused(409, "name_taken", store.add, voice_of("a"), "anna").field == "name"
    assert "10000 bytes" in refused(409, "too_many_voices", store.add, voice_of("b", count=1501), "anna").message
    store.add(voice_of("b", count=1500), "anna")
    assert "2 voices" in refused(409, "too_many_voices", store.add, voice_of("c", count=0), "anna").message
    store.add(voice_of("a"), "ben")
    store.delete("a", "anna")
    store.add(voice_of("c"), "anna")
    assert len([*(tmp_path / "voices").iterdir()]) == 3


def test_many_at_once(store):
    """Threads of two stores in one folder: each voice is there once, and limits hold."""
    other = reopen(store)
    names = [f"voice-{number}" for number in range(20)]

    def add(number):
        try:
            return (store if number % 2 else other).add(voice_of(names[number % 20], seed=number % 20), "anna").id
        except ServiceError as error:
            return error.code

    def churn(number):
        info = (other if number % 2 else store).add(voice_of(f"x-{number}"), "ben")
        store.reference(info.id, "ben")
        other.delete(info.id, "ben")

    with ThreadPoolExecutor(8) as pool:
        churned = [pool.submit(churn, number) for number in range(20)]
        made = [*pool.map(add, range(40))]
        for task in churned:
            task.result()
    assert sorted(made)[:20] == ["name_taken"] * 20
    again = reopen(store)
    assert {info.id for info in again.owned_by("anna")} == {*made} - {"name_taken"}
    for number, name in enumerate(names):
        assert np.array_equal(again.reference(name, "anna").sound.samples, sound_of(number).samples)
    assert len([*(store.folder / "voices").iterdir()]) == 20


KILLED = """
import sys
from pathlib import Path
import numpy as np
from serve.speech.audio import Sound
from serve.voices.quotas import Quota
from serve.voices.records import NewVoice
from serve.voices.store import VoiceStore

store = VoiceStore(Path(sys.argv[1]), Quota(10_000, 1 << 40))
print("ready", flush=True)
number = len(store.owned_by("anna"))
while True:
    samples = np.random.default_rng(number).uniform(-1, 1, 50_000).astype(np.float32)
    name = f"{sys.argv[2]}-{number}"
    store.add(NewVoice(name, "auto", "Said.", "Yes.", Sound(samples, 24_000, str(number))), "anna")
    print("added", name, flush=True)
    if number % 3 == 0:
        store.delete(name, "anna")
        print("deleted", name, flush=True)
    number += 1
"""


def test_killed_in_the_middle_of_writes(tmp_path, pytestconfig):
    """Whatever was answered for is there after kill -9, whole; and nothing else is."""
    rng = random.Random(5)
    expected = set()
    for turn in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), f"turn{turn}"],
            env={"PYTHONPATH": str(pytestconfig.rootpath), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        lines = []
        stop = threading.Event()
        with writer.stdout as out:
            for line in out:
                lines.append(line.split())
                if len(lines) > 12 and not stop.is_set():
                    stop.set()
                    time.sleep(rng.uniform(0, 0.02))
                    writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        expected |= {line[1] for line in lines if line[0] == "added"}
        expected -= {line[1] for line in lines if line[0] == "deleted"}
        store = VoiceStore(tmp_path, Quota(10_000, 1 << 40))
        voices = {info.name: info for info in store.owned_by("anna")}
        # The last step may have been done and not said: one more, or one that is deleted already.
        assert len(expected ^ voices.keys()) <= 1
        expected = set(voices)
        for info in voices.values():
            assert store.reference(info.id, "anna").sound.samples.size == 50_000
        assert {file.name for file in (tmp_path / "voices").iterdir()} == {
            f"{info.id}.safetensors" for info in voices.values()
        }
    assert len(expected) > 10


def test_what_a_dead_writer_left_is_swept_and_nothing_else(store, caplog):
    info = store.add(voice_of(), "anna")
    folder = store.folder / "voices"
    orphan = folder / f"voice_{'0' * 24}.safetensors"
    orphan.write_bytes(b"half")
    part = folder / f"{info.id}.safetensors{UNFINISHED}"
    part.write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    with caplog.at_level(logging.INFO):
        again = reopen(store)
    assert "2 files of voices" in caplog.text
    assert {file.name for file in folder.iterdir()} == {f"{info.id}.safetensors", "notes.txt"}
    again.reference(info.id, "anna")


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "empty"])
def test_damaged_audio_is_said_and_not_spoken(store, damage, caplog):
    info = store.add(voice_of(), "anna")
    other = store.add(voice_of("ben"), "anna")
    file = store.folder / "voices" / f"{info.id}.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[-1] ^= 1
        file.write_bytes({"cut": content[:-10], "flipped": content, "empty": b""}[damage])
    again = reopen(store)
    assert (f"the audio of {info.id} is missing" in caplog.text) is (damage == "missing")
    refused(500, "voice_damaged", again.reference, "anna", "anna")
    assert info.id in caplog.text
    again.reference(other.id, "anna")
    again.delete("anna", "anna")


def tree(folder):
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("garbage", "is damaged: voices.sqlite: file is not a database"),
        ("cut", "is damaged: voices.sqlite: database disk image is malformed"),
        ("gone", "which says whose it is, is gone"),
        ("emptied", "which says whose it is, is gone"),
        ("foreign", "is a database, and not one of this service's"),
        ("newer", "has version 2, and this service knows version 1"),
    ],
)
def test_a_damaged_store_stops_the_start_and_is_left_alone(store, damage, said):
    for number in range(40):
        store.add(voice_of(f"v{number}", count=10, transcript="What is said. " * 100), "anna")
    file = store.folder / DATABASE
    if damage == "garbage":
        file.write_bytes(b"x" * 5000)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-20_000])
    elif damage == "emptied":
        file.write_bytes(b"")
    else:
        file.unlink()
    if damage in {"foreign", "newer"}:
        with closing(sqlite3.connect(file)) as database:
            database.execute("CREATE TABLE x (y)")
            if damage == "newer":
                database.execute(f"PRAGMA application_id = {APPLICATION}")
            database.execute("PRAGMA user_version = 2")
    before = tree(store.folder / "voices")
    with pytest.raises(StartError) as caught:
        reopen(store)
    assert said in str(caught.value)
    assert caught.value.remedy
    assert tree(store.folder / "voices") == before
    assert len(before) == 40


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"WW_DATA_DIR=.* cannot be") as caught:
        VoiceStore(tmp_path / "file" / "data", Quota(1, 1))
    assert caught.value.remedy


def test_a_disk_that_fails_later(store, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf_module, "write_samples", full)
    refused(507, "disk_full", store.add, voice_of(), "anna")
    assert store.owned_by("anna") == []
    (store.folder / DATABASE).write_bytes(b"x" * 5000)
    refused(503, "store_failed", store.owned_by, "anna")
    assert "file is not a database" in caplog.text


FULL = """
import json, resource, sys
from pathlib import Path
import numpy as np
from serve.errors import ServiceError
from serve.speech.audio import Sound
from serve.voices.quotas import Quota
from serve.voices.records import NewVoice
from serve.voices.store import VoiceStore

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
store = VoiceStore(Path(sys.argv[1]), Quota(100, 1 << 20))
found = {"listed": len(store.owned_by("anna")), "spoken": store.reference("a", "anna").sound.samples.size}
try:
    # A row that needs more room than its file.
    voice = NewVoice("c", "auto", "Said.", "Yes.", Sound(np.zeros(1000, np.float32), 24_000, "c"))
    store.add(voice, "anna" * 7500)
except ServiceError as error:
    found["add"] = error.status
try:
    store.delete("a", "anna")
except ServiceError as error:
    found["delete"] = error.status
print(json.dumps(found))
"""


@pytest.mark.parametrize("room", ["none", "what is used", "a file of audio"])
def test_on_a_full_disk_what_is_kept_can_be_used_and_deleted(store, pytestconfig, room):
    """No file can grow beyond a limit: a process starts, lists and speaks, and what cannot be kept leaves nothing."""
    for name in ("a", "b"):
        store.add(voice_of(name, transcript="Said. " * 300), "anna")
    used = max(file.stat().st_size for file in store.folder.glob("voices.sqlite*"))
    limit = {"none": 0, "what is used": used, "a file of audio": 5000}[room]
    assert 4000 + 100 < 5000 < used
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(store.folder), str(limit)],
        env={"PYTHONPATH": str(pytestconfig.rootpath), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["listed"], found["spoken"]) == (2, 1000)
    assert found["add"] == (507 if room == "none" else 503)
    assert found.get("delete") == (None if room == "what is used" else 503)
    kept = {info.name: info.id for info in store.owned_by("anna")}
    assert [*kept] == (["b"] if room == "what is used" else ["a", "b"])
    assert {file.name for file in (store.folder / "voices").iterdir()} == {
        f"{voice_id}.safetensors" for voice_id in kept.values()
    }
    for name in kept:
        reopen(store).reference(name, "anna")


def test_a_commit_that_failed_and_is_found_done_keeps_its_audio(store, monkeypatch):
    commit = Rows.commit

    def fail(rows):
        commit(rows)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "commit", fail)
        refused(503, "store_failed", store.add, voice_of(), "anna")
    assert store.reference("anna", "anna").sound.samples.size == 1000


def test_a_store_with_a_write_ahead_log_is_opened(store):
    """As earlier versions kept it, and left it when they were killed."""
    info = store.add(voice_of(), "anna")
    with closing(sqlite3.connect(store.folder / DATABASE, isolation_level=None)) as database:
        assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        database.execute("UPDATE voices SET consent = 'Anna wrote yes.'")
        copy = store.folder.with_name("copy")
        shutil.copytree(store.folder, copy)
    assert (copy / f"{DATABASE}-wal").stat().st_size
    assert VoiceStore(copy, store.quota).reference("anna", "anna").info == replace(info, consent="Anna wrote yes.")
    assert not (copy / f"{DATABASE}-wal").exists()


def test_the_oldest_is_first_whatever_the_clock_does(store, monkeypatch):
    for now, name in ((2_000_000_000, "a"), (1_000_000_000, "b"), (1_500_000_000, "c")):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        store.add(voice_of(name), "anna")
    assert [info.name for info in store.owned_by("anna")] == ["a", "b", "c"]


def test_a_name_that_goes_on_is_another(store):
    store.add(voice_of("x" * 64), "anna")
    refused(404, "voice_not_found", store.delete, "x" * 65, "anna")
    assert store.delete("x" * 64, "anna").name == "x" * 64


def test_only_its_user_reads_it(store):
    store.add(voice_of(), "anna")
    for file in store.folder.glob("voices.sqlite*"):
        assert file.stat().st_mode & 0o77 == 0
    assert (store.folder / "voices").stat().st_mode & 0o77 == 0


def test_where_voices_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "DEFAULT_FOLDER", tmp_path / "data")
    assert data_folder(read_settings()) is None
    (tmp_path / "data").mkdir()
    assert data_folder(read_settings()) == tmp_path / "data"
    monkeypatch.setenv("WW_DATA_DIR", str(tmp_path / "other"))
    assert data_folder(read_settings()) == tmp_path / "other"


@pytest.mark.parametrize("name", ["anna", "Zoë", "张伟", "अनीता", "a", "7.b_c-d", "x" * 64])
def test_names(name):
    assert check_name(name, "name") == name
    assert check_name(unicodedata.normalize("NFD", name), "name") == name


NO_NAMES = [
    "", " ", ".", "..", "a..b", "../a", "a/b", "a\\b", "a b", "a\u2028b", "-a", "_a", "a\0", "a\n", "a\u202eb", "C:",
    "~a", "x" * 65, "x" * 100_000, "\ufb2c" * 60, "voice_1", "\ud800", "😀", "a%2fb", "\u0301a",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name(name):
    error = refused(422, "bad_name", check_name, name, "name")
    assert error.field == "name"


@pytest.fixture
def voices(make_client, tmp_path):
    """The app with two keys and a folder, not loading: keeping voices does not need the model."""
    return make_client(DATA_DIR=str(tmp_path / "data"), API_KEYS=f"anna:{ANNA},ben:{BEN}", MAX_AUDIO_MIB="0.2")


def head(key=ANNA):
    return {"Authorization": f"Bearer {key}"}


def post(client, sound, key=ANNA, **fields):
    """A form; a field that is None is left out."""
    form = {"name": "anna", "ref_text": "What is said.", "consent": "Anna said yes.", "language": "en"} | fields
    audio = form.pop("audio_sample", sound())
    files = {} if audio is None else {"audio_sample": ("a.wav", audio, "audio/wav")}
    data = {name: value for name, value in form.items() if value is not None}
    return client.post(PATH, data=data, files=files or {"": ("", b"")}, headers=head(key))


def test_a_voice_by_form_and_by_json(voices, sound):
    answer = post(voices, sound)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"{PATH}/{made['id']}"
    assert made | {"id": "", "created_at": 0, "audio_sha256": ""} == {
        "id": "",
        "object": "audio.voice",
        "type": "audio_sample",
        "name": "anna",
        "created_at": 0,
        "language": "english",
        "ref_text": "What is said.",
        "x_vector_only": False,
        "consent": "Anna said yes.",
        "duration_s": 2.0,
        "audio_sha256": "",
    }
    body = {"name": "zoë", "consent": "Yes.", "x_vector_only": True}
    body["ref_audio_base64"] = base64.b64encode(sound(3, 16_000, 1, "FLAC")).decode()
    answer = voices.post(PATH, json=body, headers=head())
    assert answer.status_code == 201, answer.text
    other = answer.json()
    assert (other["ref_text"], other["x_vector_only"], other["language"], other["duration_s"]) == (
        None,
        True,
        "auto",
        3,
    )
    assert voices.get(PATH, headers=head()).json() == {"object": "list", "data": [made, other], "has_more": False}
    for wanted in (made["id"], "anna"):
        assert voices.get(f"{PATH}/{wanted}", headers=head()).json() == made
    assert voices.get(f"{PATH}/zoë", headers=head()).json() == other
    # Of another key nothing is seen.
    assert voices.get(PATH, headers=head(BEN)).json()["data"] == []
    error_of(voices.get(f"{PATH}/{made['id']}", headers=head(BEN)), 404, "voice_not_found")
    error_of(voices.delete(f"{PATH}/{made['id']}", headers=head(BEN)), 404, "voice_not_found")
    gone = voices.delete(f"{PATH}/anna", headers=head())
    assert gone.json() == {"id": made["id"], "object": "audio.voice.deleted", "deleted": True}
    error_of(voices.get(f"{PATH}/anna", headers=head()), 404, "voice_not_found")


@pytest.mark.parametrize(
    ("fields", "status", "code", "field"),
    [
        ({"name": None}, 422, "invalid_request", "name"),
        ({"name": "../etc"}, 422, "bad_name", "name"),
        ({"consent": None}, 422, "invalid_request", "consent"),
        ({"consent": "  "}, 422, "no_text", "consent"),
        ({"consent": "x" * 2001}, 422, "text_too_long", "consent"),
        ({"ref_text": None}, 422, "half_a_reference", "ref_text"),
        ({"ref_text": "..."}, 422, "no_text", "ref_text"),
        ({"x_vector_only": "true"}, 422, "useless_ref_text", "ref_text"),
        ({"x_vector_only": "maybe"}, 422, "invalid_request", "x_vector_only"),
        ({"language": "klingon"}, 422, "unknown_language", "language"),
        ({"type": "prompt"}, 422, "invalid_request", "type"),
        ({"prompt": "A deep voice."}, 422, "invalid_request", "prompt"),
        ({"consent": "x" * 9000}, 400, "bad_form", None),
        ({"audio_sample": None}, 422, "invalid_request", None),
        ({"audio_sample": b""}, 422, "no_audio", "audio_sample"),
        ({"audio_sample": b"RIFF"}, 422, "not_audio", "audio_sample"),
        ({"audio_sample": b"x" * 300_000}, 413, "audio_too_large", "audio_sample"),
    ],
)
def test_what_is_not_kept(voices, sound, fields, status, code, field):
    answer = post(voices, sound, **fields)
    if fields == {"audio_sample": None}:
        assert answer.status_code in {400, 422}
    else:
        error_of(answer, status, code, field)
    assert voices.get(PATH, headers=head()).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "application/json", 422, "not_json"),
        (b"[]", "application/json", 422, "invalid_request"),
        (b"[" * 100_000, "application/json", 422, None),
        (b'{"name": "\xff"}', "application/json", 422, None),
        (b'{"name": "\\ud800", "consent": "x", "ref_audio_base64": ""}', "application/json", 422, None),
        (PATH_FOR_AUDIO, "application/json", 422, "not_audio"),
        (b"name=anna", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"RIFF", "audio/wav", 415, "unsupported_media_type"),
        (b"x", "", 415, "unsupported_media_type"),
        (b"x", "multipart/form-data", 400, "bad_form"),
        (b"x", "multipart/form-data; boundary=y", 400, "bad_form"),
        (b"--y\r\nContent-Disposition: form-data\r\n\r\nx\r\n--y--", FORM, 400, "bad_form"),
        (2 * b"--y\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n" + b"--y--", FORM, 422, "invalid_request"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_voice(voices, body, kind, status, code):
    answer = voices.post(PATH, content=body, headers=head() | ({"Content-Type": kind} if kind else {}))
    assert answer.status_code == status, answer.text
    assert code is None or answer.json()["error"]["code"] == code
    assert set(answer.json()["error"]) == {"code", "message", "field", "remedy"}


def test_without_a_folder_it_says_so(make_client, sound, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "DEFAULT_FOLDER", tmp_path / "data")
    client = make_client()
    for answer in (post(client, sound), client.get(PATH), client.get(f"{PATH}/x"), client.delete(f"{PATH}/x")):
        assert "WW_DATA_DIR" in error_of(answer, 409, "no_data_dir")["remedy"]


def test_the_document_shows_both_bodies(voices):
    document = voices.get("/openapi.json", headers=head()).json()
    content = document["paths"][PATH]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    assert all(kind["example"]["consent"] for kind in content.values())
    assert content["multipart/form-data"]["schema"]["required"][0] == "audio_sample"


def test_neither_words_nor_names_are_logged(voices, sound, caplog):
    with caplog.at_level(logging.DEBUG):
        post(voices, sound, name="topsecret", ref_text="topsecret")
        answer = post(voices, sound, name="topsecret")
    error_of(answer, 409, "name_taken", "name")
    assert "topsecret" not in caplog.text + answer.text


def test_the_service_killed_while_voices_are_made(launch, sound, tmp_path):
    audio = base64.b64encode(sound(1)).decode()
    body = {"consent": "Yes.", "ref_text": "Said.", "ref_audio_base64": audio}
    process = launch(DATA_DIR=str(tmp_path / "data"))
    process.wait_open()
    made = []

    def make(number):
        for count in range(1000):
            try:
                status, _, content = process.ask("POST", PATH, body | {"name": f"v{number}-{count}"})
            except OSError:
                return
            assert status in {201, 409}
            made.extend([json.loads(content)["id"]] if status == 201 else [])

    threads = [threading.Thread(target=make, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    while len(made) < 8:
        time.sleep(0.01)
    process.popen.kill()
    for thread in threads:
        thread.join()
    process.popen.wait()
    store = VoiceStore(tmp_path / "data", Quota(100, 1 << 30))
    kept = {info.id for info in store.owned_by("anonymous")}
    assert kept >= {*made}
    assert {file.name for file in (tmp_path / "data" / "voices").iterdir()} == {f"{name}.safetensors" for name in kept}
    for name in kept:
        assert store.reference(name, "anonymous").sound.samples.size == 24_000


def test_a_damaged_store_ends_the_process(launch, tmp_path):
    (tmp_path / DATABASE).write_bytes(b"x" * 5000)
    process = launch(DATA_DIR=str(tmp_path))
    assert process.popen.wait(timeout=30) == 1
    assert "is damaged: voices.sqlite: file is not a database; nothing was changed" in process.stderr()
    assert "remedy: " in process.stderr()
    assert "Traceback" not in process.stderr()
