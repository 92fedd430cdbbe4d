"""Databases of another day, crashes at every step, clocks, full disks: no voice is lost, no deleted one comes back."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from safetensors.numpy import save_file

from serve.errors import ServiceError, StartError
from serve.voices import quarantine as quarantine_module
from serve.voices.database import Database, Rows
from serve.voices.folder import DATABASE, UNFINISHED
from serve.voices.quotas import Quota
from serve.voices.tombstones import Tombstones
from tests.security.service.stores import ROOT, audio, busy, files, names, opened, run_verb, sound_of, voice_of

PATH = "/v1/audio/voices"
DAY_S = 86_400


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def put_back(copy, folder):
    """A copy of the database replaces it, as an operator does it."""
    for file in folder.glob(f"{DATABASE}*"):
        file.unlink()
    shutil.copy(copy, folder / DATABASE)


def empty_database(folder):
    """A valid database without any voice."""
    for file in folder.glob(f"{DATABASE}*"):
        file.unlink()
    Database(folder / DATABASE).open()


def test_an_older_database_loses_nothing_and_is_told(folder, tmp_path, caplog):
    store = opened(folder)
    old = [store.add(voice_of(f"old-{number}", number), "anna") for number in range(2)]
    shutil.copy(folder / DATABASE, tmp_path / "copy")
    new = [store.add(voice_of(f"new-{number}", number), "anna") for number in range(2)]
    for info in new:  # made a while after, as copies of a database are hours old
        os.utime(folder / "voices" / f"{info.id}.safetensors", (time.time() + 60,) * 2)
    shutil.copy(folder / DATABASE, tmp_path / "right")
    put_back(tmp_path / "copy", folder)
    with caplog.at_level(logging.INFO):
        again = opened(folder)
    assert names(again) == ["old-0", "old-1"]
    assert files(folder, "voices") == audio(*old)
    assert files(folder, "quarantine") >= audio(*new)
    assert again.quarantined()[0] == 2
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    for word in (
        "the audio of 2 voices",
        str(folder / "quarantine"),
        "database is older",
        "30 days",
        "adopt",
        "restore",
    ):
        assert word in told[0].message
    # Whoever notices puts the right one back, and has lost nothing.
    put_back(tmp_path / "right", folder)
    assert names(opened(folder)) == ["old-0", "old-1", "new-0", "new-1"]
    assert files(folder, "quarantine") == set()


def test_an_empty_database_loses_nothing(folder, caplog):
    store = opened(folder)
    made = [store.add(voice_of(f"v{number}", number), "anna") for number in range(3)]
    empty_database(folder)
    again = opened(folder)
    assert names(again) == []
    assert files(folder, "quarantine") >= audio(*made)
    assert "it holds no voice at all" in caplog.text
    # And each start after it keeps them.
    assert opened(folder).quarantined()[0] == 3


def test_the_whole_service_with_an_older_database(launch, sound, tmp_path):
    """Through the real process: two voices, a copy, two more, the copy put back, a start, and all of them back."""
    folder = tmp_path / "data"
    body = {"consent": "Yes.", "ref_text": "Said.", "ref_audio_base64": base64.b64encode(sound(1)).decode()}
    process = launch(DATA_DIR=str(folder))
    process.wait_open()

    def make(name):
        status, _, content = process.ask("POST", PATH, body | {"name": name})
        assert status == 201, content
        return json.loads(content)["id"]

    made = [make("a"), make("b")]
    shutil.copy(folder / DATABASE, tmp_path / "copy")
    made += [make("c"), make("d")]
    assert process.end()[0] == 0
    put_back(tmp_path / "copy", folder)
    process = launch(DATA_DIR=str(folder))
    process.wait_open()
    assert [voice["name"] for voice in json.loads(process.ask("GET", PATH)[2])["data"]] == ["a", "b"]
    assert f"{folder / 'quarantine'}" in process.stderr()
    metrics = process.ask("GET", "/metrics")[2].decode()
    assert "wheelwright_voices_quarantined 2.0" in metrics
    # Adopted while the service runs, with the names that they had.
    done = run_verb(folder, "adopt", "--all", "--owner", "anonymous")
    assert done.returncode == 0, done.stderr
    listed = json.loads(process.ask("GET", PATH)[2])["data"]
    assert {voice["name"]: voice["id"] for voice in listed} == dict(zip("abcd", made, strict=True))
    assert {(voice["consent"], voice["ref_text"]) for voice in listed} == {("Yes.", "Said.")}
    assert "wheelwright_voices_quarantined 0.0" in process.ask("GET", "/metrics")[2].decode()


def test_what_was_deleted_stays_deleted_whatever_is_put_back(folder, tmp_path, caplog):
    store = opened(folder)
    kept, gone = (store.add(voice_of(name), "anna") for name in ("kept", "gone"))
    shutil.copy(folder / DATABASE, tmp_path / "copy")
    content = (folder / "voices" / f"{gone.id}.safetensors").read_bytes()
    store.delete("gone", "anna")
    put_back(tmp_path / "copy", folder)
    assert names(opened(folder)) == ["kept"]
    assert "they stay deleted" in caplog.text
    # Its audio from a copy of the folder, with and without the row, finished and not, and in quarantine.
    for place in (f"voices/{gone.id}.safetensors", f"voices/{gone.id}.safetensors{UNFINISHED}"):
        for database in (None, tmp_path / "copy"):
            (folder / place).write_bytes(content)
            if database:
                put_back(database, folder)
            assert names(opened(folder)) == ["kept"]
            assert files(folder, "voices") == audio(kept)
            assert files(folder, "quarantine") == set()
    (folder / "quarantine" / f"{gone.id}.safetensors").write_bytes(content)
    assert opened(folder).quarantined() == (0, 0)
    assert files(folder, "deleted") == {gone.id, "spare"}


def test_a_partial_file_is_removed_and_never_quarantined(folder):
    store = opened(folder)
    info = store.add(voice_of("anna"), "anna")
    content = (folder / "voices" / f"{info.id}.safetensors").read_bytes()
    for number, part in enumerate((b"", content[:5], content[:60], content[:-1])):
        (folder / "voices" / f"voice_{number:024x}.safetensors").write_bytes(part)
    (folder / "voices" / f"voice_{9:024x}.safetensors{UNFINISHED}").write_bytes(content)
    # Whole, but damaged: nobody knows whether it can be mended.
    (folder / "voices" / f"voice_{8:024x}.safetensors").write_bytes(content[:8] + b"?" + content[9:])
    again = opened(folder)
    assert files(folder, "voices") == audio(info)
    assert again.quarantined()[0] == 1
    assert files(folder, "quarantine") >= {f"voice_{8:024x}.safetensors"}


def age(folder, days, ending=".since"):
    """What is in quarantine came so many days ago."""
    for file in (folder / "quarantine").glob(f"*{ending}"):
        when = file.stat().st_mtime - days * DAY_S
        os.utime(file, (when, when))


def test_the_quarantine_ends_after_its_days_and_a_day_of_notice(folder, caplog):
    store = opened(folder)
    store.add(voice_of("anna"), "anna")
    empty_database(folder)
    opened(folder, days=10)
    age(folder, 9)
    assert opened(folder, days=10).quarantined()[0] == 1
    age(folder, 2)
    caplog.clear()
    assert opened(folder, days=10).quarantined()[0] == 1
    assert "are removed in a day" in caplog.text
    assert opened(folder, days=10).quarantined()[0] == 1
    age(folder, 1, ".due")
    assert opened(folder, days=10).quarantined()[0] == 0
    assert files(folder, "quarantine") == set()


@pytest.mark.parametrize("wrong", [4_000_000_000, 1_000])
def test_a_clock_that_is_wrong_once_costs_nothing(folder, wrong, monkeypatch):
    store = opened(folder)
    store.add(voice_of("a"), "anna")
    empty_database(folder)
    opened(folder)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: wrong)
        opened(folder)
    for _ in range(2):
        assert opened(folder).quarantined()[0] == 1
    (mark,) = files(folder, "quarantine") - {*(f.name for f in (folder / "quarantine").glob("*.safetensors"))}
    assert mark.endswith(".since")


def test_audio_put_aside_under_a_wrong_clock_gets_its_time(folder, monkeypatch):
    store = opened(folder)
    store.add(voice_of("a"), "anna")
    empty_database(folder)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 1_000)
        opened(folder)
    assert opened(folder).quarantined()[0] == 1
    assert not [*(folder / "quarantine").glob("*.due")]


def test_a_running_service_looks_again(folder, monkeypatch):
    store = opened(folder)
    store.add(voice_of("a"), "anna")
    empty_database(folder)
    store = opened(folder)
    age(folder, 31)
    monkeypatch.setattr(quarantine_module, "LOOK_S", 0)
    store.add(voice_of("b"), "anna")
    age(folder, 1, ".due")
    store.add(voice_of("c"), "anna")
    assert store.quarantined()[0] == 0
    assert names(store) == ["b", "c"]


def test_the_quarantine_counts_against_the_limit_of_the_disk(folder):
    quota = Quota(1000, 1 << 30, disk=13_000)
    store = opened(folder, quota=quota)
    store.add(voice_of("a"), "anna")
    store.add(voice_of("b"), "ben")
    empty_database(folder)
    store = opened(folder, quota=quota)
    assert 8000 < store.quarantined()[1] < 9000
    store.add(voice_of("c"), "anna")
    with pytest.raises(ServiceError) as caught:
        store.add(voice_of("d"), "ben")
    assert (caught.value.status, caught.value.code) == (507, "disk_full")
    assert "WW_MAX_DATA_MIB" in (caught.value.remedy or "")
    (first, *_) = sorted(file.stem for file in (folder / "quarantine").glob("*.safetensors"))
    assert run_verb(folder, "discard", first).returncode == 0
    store.add(voice_of("d"), "ben")


# Processes that die without a word, the n-th at the n-th moment before or after a call of what changes the disk.
DIES = """
import os, sys

sys.path.insert(0, sys.argv[3])
from serve.voices.database import Rows
from tests.security.service.stores import opened, voice_of

folder, what = sys.argv[1:3]
left = 0

def count(function):
    def counted(*arguments, **named):
        pass_by()
        result = function(*arguments, **named)
        pass_by()
        return result
    return counted

def pass_by():
    global left
    left -= 1
    if left == 0:
        os._exit(77)

for step in range(1, 100):
    child = os.fork()
    if child == 0:
        store = opened(f"{folder}/{step}")
        for name in ("open", "fsync", "rename", "replace", "unlink"):
            setattr(os, name, count(getattr(os, name)))
        for name in ("insert", "delete", "commit"):
            setattr(Rows, name, count(getattr(Rows, name)))
        left = step
        store.add(voice_of("new", 7), "anna") if what == "add" else store.delete("old", "anna")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    if status != 77:
        break
"""


@pytest.mark.parametrize("what", ["add", "delete"])
def test_a_crash_at_every_step_leaves_a_whole_voice_or_none(tmp_path, what):
    """Also with the database of before the step: what was deleted is not back, and nobody's audio is gone."""
    before = opened(tmp_path / "before")
    old = before.add(voice_of("old"), "anna")
    for step in range(1, 100):
        shutil.copytree(tmp_path / "before", tmp_path / str(step))
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(tmp_path), what, str(ROOT)],
        env={"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    statuses = done.stdout.split()
    assert statuses[-1] == "0", done.stderr
    assert len(statuses) > 16
    seen = set()
    for step in range(1, len(statuses) + 1):
        folder = tmp_path / str(step)
        marked = (folder / "deleted" / old.id).exists()
        again = opened(folder)
        found = names(again)
        expected = (["old"], ["old", "new"]) if what == "add" else ([[], ["old"]][not marked],)
        assert found in expected
        assert files(folder, "voices") == audio(*again.owned_by("anna"))
        assert files(folder, "quarantine") == set()
        seen.add(tuple(found))
        put_back(tmp_path / "before" / DATABASE, folder)
        assert names(opened(folder)) == ([] if marked else ["old"])
    assert len(seen) == 2
    assert found == (["old", "new"] if what == "add" else [])


def test_a_deletion_whose_commit_fails_leaves_the_voice_and_no_tombstone(folder, monkeypatch):
    store = opened(folder)
    store.add(voice_of("a"), "anna")

    def fail(_rows):
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "commit", fail)
        with pytest.raises(ServiceError):
            store.delete("a", "anna")
    assert names(opened(folder)) == ["a"]
    assert files(folder, "deleted") == {"spare"}


def test_a_voice_whose_audio_has_not_its_name_yet_can_be_spoken_with_and_deleted(folder):
    """A process died between the row and the name; another one runs on, and has not started again."""
    store = opened(folder)
    info = store.add(voice_of("a"), "anna")
    file = folder / "voices" / f"{info.id}.safetensors"
    file.rename(file.with_name(file.name + UNFINISHED))
    assert names(store) == ["a"]
    store.delete("a", "anna")
    assert files(folder, "voices") == set()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB with 24 files on it at most; the real thing, so that what a full disk says is what it says."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=24", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let its user mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_on_a_disk_without_room_for_one_more_file_a_voice_is_deleted_for_good(small_disk, tmp_path):
    store = opened(small_disk)
    infos = [store.add(voice_of(name), "anna") for name in ("a", "b")]
    copy = tmp_path / "copy"
    shutil.copy(small_disk / DATABASE, copy)
    for number in range(100):
        try:
            (small_disk / f"file-{number}").touch()
        except OSError:
            break
    with pytest.raises(ServiceError) as caught:
        store.add(voice_of("c"), "anna")
    assert caught.value.status == 507
    store.delete("a", "anna")
    assert files(small_disk, "voices") == audio(infos[1])
    assert files(small_disk, "deleted") == {infos[0].id, "spare"}
    (small_disk / DATABASE).write_bytes(copy.read_bytes())
    assert names(opened(small_disk)) == ["b"]


def test_a_tombstone_is_there_before_anything_goes(folder, monkeypatch):
    store = opened(folder)
    info = store.add(voice_of("a"), "anna")

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Tombstones, "mark", fail)
        with pytest.raises(ServiceError):
            store.delete("a", "anna")
    assert names(opened(folder)) == ["a"]
    assert files(folder, "voices") == audio(info)


def adopted(folder, *arguments):
    done = run_verb(folder, "adopt", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_adopting_what_an_earlier_version_wrote_and_what_anybody_wrote(folder, caplog):
    """The file says nothing, or what no caller may say: the operator is asked, and nothing reaches a terminal raw."""
    opened(folder)
    old, odd, huge = (f"voice_{number:024x}" for number in (1, 2, 3))
    samples = {"samples": sound_of().samples}
    save_file(samples, folder / "voices" / f"{old}.safetensors", {"rate": "24000"})
    label = {"rate": "24000", "name": "\x1b]0;x\x07../../etc", "consent": "yes", "language": "klingon"}
    save_file(samples, folder / "voices" / f"{odd}.safetensors", label)
    save_file({"samples": np.full(9, np.nan, np.float32)}, folder / "voices" / f"{huge}.safetensors", label)
    opened(folder)
    status, out, _ = adopted(folder)
    assert status == 0
    assert {line.split()[0] for line in out.splitlines()} == {old, odd, huge}
    assert "\x1b" not in out
    status, _, err = adopted(folder, old, "--owner", "anonymous", "--name", "anna")
    assert status == 1
    assert "--consent" in err
    assert adopted(folder, old, "--owner", "anonymous", "--name", "anna", "--consent", "Anna, by mail")[0] == 0
    for voice, remedy in ((odd, "short name"), (huge, "adopt")):
        status, _, err = adopted(folder, voice, "--owner", "anonymous")
        assert status == 1
        assert remedy in err
        assert "\x1b" not in err
        assert "Traceback" not in err
    assert (
        adopted(folder, odd, "--owner", "anonymous", "--name", "anna", "--language", "en")[0] == 1
    )  # the name is taken
    assert adopted(folder, odd, "--owner", "anonymous", "--name", "ben", "--language", "en")[0] == 0
    assert adopted(folder, old, "--owner", "anonymous")[0] == 1
    for arguments in ((), ("--owner", "")):
        assert adopted(folder, "--all", *arguments)[0] == 2
    assert names(opened(folder), "anonymous") == ["anna", "ben"]


def test_a_link_in_quarantine_is_not_followed(folder, tmp_path):
    store = opened(folder)
    info = store.add(voice_of("secret"), "anna")
    secret = tmp_path / "elsewhere.safetensors"
    shutil.copy(folder / "voices" / f"{info.id}.safetensors", secret)
    link = folder / "quarantine" / f"voice_{5:024x}.safetensors"
    link.symlink_to(secret)
    status, _, err = adopted(folder, link.stem, "--owner", "anonymous")
    assert status == 1
    assert "cannot be adopted" in err
    assert adopted(folder)[1].strip() == "nothing is in quarantine"


def test_two_files_of_one_voice_are_both_kept(folder, caplog):
    store = opened(folder)
    info = store.add(voice_of("a"), "anna")
    file = folder / "voices" / f"{info.id}.safetensors"
    content = file.read_bytes()
    empty_database(folder)
    opened(folder)
    file.write_bytes(content)  # the same once more
    opened(folder)
    assert not file.exists()
    file.write_bytes(content[:-4] + b"\0\0\0\0")
    opened(folder)
    assert "are not the same" in caplog.text
    assert (folder / "quarantine" / file.name).read_bytes() == content
    status, _, err = adopted(folder, info.id, "--owner", "anonymous")
    assert status == 1
    assert "File exists" in err
    file.unlink()
    assert adopted(folder, info.id, "--owner", "anonymous")[0] == 0
    assert names(opened(folder), "anonymous") == ["a"]


def test_what_is_discarded_does_not_come_back(folder):
    store = opened(folder)
    info = store.add(voice_of("a"), "anna")
    content = (folder / "voices" / f"{info.id}.safetensors").read_bytes()
    empty_database(folder)
    opened(folder)
    assert run_verb(folder, "discard", info.id).returncode == 0
    (folder / "voices" / f"{info.id}.safetensors").write_bytes(content)
    assert opened(folder).quarantined() == (0, 0)
    assert run_verb(folder, "discard", info.id).returncode == 2


def test_starts_while_others_write_take_nothing_from_them(folder):
    """A start looks at files that a running process is just naming and removing."""
    store = opened(folder)
    made = []

    def add_and_delete(name):
        made.append(store.add(voice_of(name), "anna"))
        store.delete(store.add(voice_of(f"x-{name}"), "anna").id, "anna")

    with busy(add_and_delete):
        for _ in range(15):
            assert opened(folder).quarantined() == (0, 0)
    again = opened(folder)
    assert {*names(again)} == {info.name for info in made}
    assert files(folder, "voices") == audio(*made)


def test_a_lost_database_stops_the_start_and_changes_nothing(folder):
    store = opened(folder)
    infos = [store.add(voice_of(f"v{number}"), "anna") for number in range(3)]
    (folder / DATABASE).unlink()
    with pytest.raises(StartError) as caught:
        opened(folder)
    assert "voices restore" in str(caught.value)
    assert files(folder, "voices") == audio(*infos)
    assert files(folder, "quarantine") == set()


def test_the_database_is_asked_for_each_voice_once(folder):
    """What another process of the host made and deleted is known at once."""
    one, two = opened(folder), opened(folder)
    one.add(voice_of("a"), "anna")
    assert names(two) == ["a"]
    two.delete("a", "anna")
    assert names(one) == []
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        assert database.execute("SELECT count(*) FROM voices").fetchone() == (0,)
