"""Backups: made while voices come and go, restored while a service runs, and read as if a stranger had written them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from serve.errors import SettingsError
from serve.voices.archive import MANIFEST, Kept, manifest, reading
from serve.voices.backup import make_backup, restore
from serve.voices.folder import DATABASE
from serve.voices.opening import open_as_it_is, open_shelf
from serve.voices.records import VoiceInfo
from serve.voices.samples import pack
from tests.security.service.stores import audio, busy, files, names, opened, run_verb, sound_of, voice_of

PATH = "/v1/audio/voices"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def backup(tmp_path):
    return tmp_path / "backup.zip"


def tree(folder):
    """Every file of a folder, with its content."""
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_backup_restored_elsewhere_is_the_same_store(folder, backup, tmp_path):
    store = opened(folder)
    for number, (name, owner) in enumerate([("a", "anna"), ("a", "ben"), ("Zoë", "anna"), ("gone", "anna")]):
        store.add(voice_of(name, number, transcript=None if name == "Zoë" else "Said."), owner)
    gone = store.delete("gone", "anna")
    before = tree(folder)
    done = run_verb(folder, "backup", backup, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"schema": 1, "voices": 3, "deleted": 1, "damaged": []}
    assert tree(folder) == before
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.glob("backup*")] == ["backup.zip"]
    done = run_verb(tmp_path / "other", "restore", backup, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["added"]) == 3
    other = opened(tmp_path / "other")
    for owner in ("anna", "ben"):
        assert other.owned_by(owner) == store.owned_by(owner)
        names(other, owner)
    assert gone.id in files(tmp_path / "other", "deleted")
    # Once more: nothing is left to do, and nothing is harmed.
    before = tree(tmp_path / "other" / "voices")
    assert run_verb(tmp_path / "other", "restore", backup).stdout.startswith("0 added, 0 mended, 3 there")
    assert tree(tmp_path / "other" / "voices") == before
    assert run_verb(folder, "backup", backup).returncode == 2


def test_while_the_service_serves(launch, sound, tmp_path, backup):
    """A backup, two deletions, a loss, a new voice, and a restore: each seen by the process that runs all the time."""
    folder = tmp_path / "data"
    body = {"consent": "Yes.", "ref_text": "Said.", "ref_audio_base64": base64.b64encode(sound(1)).decode()}
    process = launch(DATA_DIR=str(folder))
    process.wait_open()
    for name in "abcd":
        assert process.ask("POST", PATH, body | {"name": name})[0] == 201
    listed = json.loads(process.ask("GET", PATH)[2])["data"]
    assert run_verb(folder, "backup", backup).returncode == 0
    assert process.ask("DELETE", f"{PATH}/b")[0] == 200
    assert process.ask("POST", PATH, body | {"name": "e"})[0] == 201
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("DELETE FROM voices WHERE name = 'c'")  # lost, and not deleted by its owner
    (folder / "voices" / f"{listed[3]['id']}.safetensors").write_bytes(b"damaged")
    done = run_verb(folder, "restore", backup, "--json")
    assert done.returncode == 0, done.stderr
    restored = json.loads(done.stdout)
    assert (restored["added"], restored["mended"]) == ([listed[2]["id"]], [listed[3]["id"]])
    assert (restored["there"], restored["kept_deleted"]) == ([listed[0]["id"]], [listed[1]["id"]])
    now = json.loads(process.ask("GET", PATH)[2])["data"]
    assert {voice["name"] for voice in now} == {*"acde"}
    assert process.ask("GET", f"{PATH}/c")[2] == json.dumps(listed[2], separators=(",", ":")).encode()
    assert process.ask("DELETE", f"{PATH}/d")[0] == 200
    assert len(names(opened(folder), "anonymous")) == 3


def test_backups_while_voices_come_and_go(folder, tmp_path):
    """Each holds every voice that stays, each with its audio, and none twice."""
    store = opened(folder)
    stay = {store.add(voice_of(f"stay-{number}", number), "anna").id for number in range(5)}
    with busy(lambda name: store.delete(store.add(voice_of(f"x-{name}"), "ben").id, "ben")):
        for number in range(8):
            made = make_backup(open_as_it_is(folder, 30), tmp_path / f"{number}.zip")
            assert made.damaged == ()
            with reading(tmp_path / f"{number}.zip") as read:
                ids = [kept.info.id for kept in read.voices]
            assert stay <= {*ids}
            assert len({*ids}) == len(ids) == made.voices
    assert len({*names(opened(folder))}) == 5


def test_the_right_backup_after_the_wrong_database(folder, backup):
    store = opened(folder)
    infos = [store.add(voice_of(f"v{number}", number), "anna") for number in range(3)]
    make_backup(open_as_it_is(folder, 30), backup)
    for file in folder.glob(f"{DATABASE}*"):
        file.unlink()
    # Without any database the service does not start; a restore begins a new one, and keeps what is there.
    done = run_verb(folder, "restore", backup)
    assert done.returncode == 0, done.stderr
    assert opened(folder).owned_by("anna") == infos
    assert names(opened(folder)) == ["v0", "v1", "v2"]
    assert files(folder, "quarantine") == set()


def test_a_voice_that_the_backup_knows_as_deleted_is_not_brought_back_by_an_older_folder(folder, backup, tmp_path):
    store = opened(folder)
    infos = [store.add(voice_of(name), "anna") for name in ("a", "b")]
    shutil.copytree(folder, tmp_path / "older")
    store.delete("a", "anna")
    make_backup(open_as_it_is(folder, 30), backup)
    done = restore(open_shelf(tmp_path / "older", 30), backup)
    assert (done.deleted, done.there) == ([infos[0].id], [infos[1].id])
    assert names(opened(tmp_path / "older")) == ["b"]
    assert files(tmp_path / "older", "voices") == audio(infos[1])


def test_a_name_that_is_taken_is_told_and_nothing_is_overwritten(folder, backup, tmp_path):
    opened(folder).add(voice_of("a", 1), "anna")
    opened(folder).add(voice_of("b", 2), "anna")
    make_backup(open_as_it_is(folder, 30), backup)
    other = opened(tmp_path / "other")
    own = other.add(voice_of("a", 3), "anna")
    done = run_verb(tmp_path / "other", "restore", backup)
    assert done.returncode == 1
    assert "another voice of its name" in done.stderr
    assert other.reference("a", "anna").info == own
    assert names(other) == ["a", "b"]


def test_damaged_audio_is_told_and_the_rest_is_in_the_backup(folder, backup, tmp_path):
    store = opened(folder)
    infos = [store.add(voice_of(name), "anna") for name in "abc"]
    (folder / "voices" / f"{infos[0].id}.safetensors").unlink()
    file = folder / "voices" / f"{infos[1].id}.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    done = run_verb(folder, "backup", backup)
    assert done.returncode == 1
    for info in infos[:2]:
        assert info.id in done.stderr
    restore(open_shelf(tmp_path / "other", 30), backup)
    assert names(opened(tmp_path / "other")) == ["c"]


def row(number=0, **changes):
    """A voice, and the content of its file."""
    samples = sound_of(number).samples
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    info = VoiceInfo(
        f"voice_{number:024x}", "anna", f"v{number}", "english", "Said.", "Yes.", 1_700_000_000, "d", 24_000,
        samples.size / 24_000, samples.nbytes, digest,
    )  # fmt: skip
    content = pack(info, samples)
    return replace(info, **changes), content


def forge(path, voices, members=None, text=None, compression=zipfile.ZIP_STORED):
    """A backup that says and holds what it is told to."""
    kept = [Kept(info, len(content), hashlib.sha256(content).hexdigest()) for info, content in voices]
    with zipfile.ZipFile(path, "w", compression) as archive:
        if members is None:
            members = {f"voices/{info.id}.safetensors": content for info, content in voices}
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(MANIFEST, manifest(1, kept, []) if text is None else text)


def head(**more):
    return json.dumps({"format": "wheelwright voices", "schema": 1, "created": 1} | more) + "\n"


FORGED = {
    "no zip": lambda path: path.write_bytes(b"PK" + os.urandom(500)),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "no manifest": lambda path: forge(path, [], {}, text=None) or strip(path),
    "an id that is a path": lambda path: forge(path, [row(id="../../voice_" + "0" * 24)]),
    "a path beside": lambda path: forge(path, [row()], {f"voices/{row()[0].id}.safetensors": row()[1], "../x": b"x"}),
    "an absolute path": lambda path: forge(path, [row()], {f"voices/{row()[0].id}.safetensors": row()[1], "/x": b"x"}),
    "audio that is missing": lambda path: forge(path, [row()], {}),
    "other audio": lambda path: forge(path, [row()], {f"voices/{row()[0].id}.safetensors": row(1)[1]}),
    "no audio at all": lambda path: forge(path, [(row()[0], b"#!/bin/sh")]),
    "another checksum": lambda path: forge(path, [row(checksum="0" * 64)]),
    "a name that is none": lambda path: forge(path, [row(name="../a")]),
    "a name that is an id": lambda path: forge(path, [row(name="voice_1")]),
    "a rate of nothing": lambda path: forge(path, [row(rate=0)]),
    "an owner of nothing": lambda path: forge(path, [row(owner="")]),
    "one voice twice": lambda path: forge(path, [row(), row()], {f"voices/{row()[0].id}.safetensors": row()[1]}),
    "compressed": lambda path: forge(path, [row()], compression=zipfile.ZIP_DEFLATED),
    "a bomb": lambda path: forge(path, [], {"x": bytes(1 << 22)}, compression=zipfile.ZIP_DEFLATED),
    "no lines": lambda path: forge(path, [], text=""),
    "a cut manifest": lambda path: forge(path, [], text=head()),
    "another format": lambda path: forge(path, [], text=head(format="x") + '{"voices": 0, "gone": 0}\n'),
    "a later schema": lambda path: forge(path, [], text=head(schema=2) + '{"voices": 0, "gone": 0}\n'),
    "more than it says": lambda path: forge(path, [], text=head() + '{"voices": 1, "gone": 0}\n'),
    "after the end": lambda path: forge(path, [], text=head() + '{"voices": 0, "gone": 0}\n' + head()),
    "brackets": lambda path: forge(path, [], text="[" * 100_000),
    "a long line": lambda path: forge(path, [], text='"' + "x" * 1_000_000),
    "a deletion that is a path": lambda path: forge(path, [], text=head() + '{"deleted": "../voices.sqlite"}\n'),
}


def strip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"")


def test_what_is_forged_is_otherwise_right(tmp_path, backup):
    forge(backup, [row(0), row(1)])
    assert len(restore(open_shelf(tmp_path / "data", 30), backup).added) == 2


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_backup_is_refused_and_changes_nothing(folder, backup, what):
    store = opened(folder)
    store.add(voice_of("mine"), "anna")
    FORGED[what](backup)
    before = tree(folder.parent)
    with pytest.raises(SettingsError) as caught:
        restore(open_shelf(folder, 30), backup)
    assert "is no backup of voices that can be used" in str(caught.value)
    assert caught.value.remedy
    assert tree(folder.parent) == before


def test_cut_anywhere_and_any_byte_changed_it_is_refused(folder, backup):
    """Or it says the same: a few bytes of a zip mean nothing."""
    shelf = open_shelf(folder, 30)
    forge(backup, [row(0), row(1)])
    content = backup.read_bytes()
    for place in range(0, len(content), 97):
        backup.write_bytes(content[:place])
        with pytest.raises(SettingsError):
            restore(shelf, backup)
    assert names(opened(folder)) == []
    for place in range(0, len(content), 53):
        changed = bytearray(content)
        changed[place] ^= 0x41
        backup.write_bytes(changed)
        try:
            with reading(backup) as read:
                assert [kept.info for kept in read.voices] == [row(0)[0], row(1)[0]]
        except SettingsError:
            pass


def test_a_backup_that_says_to_hold_more_than_there_is_is_refused(backup, folder):
    """As one does whose members share their bytes: a small file that would fill the disk."""
    forge(backup, [row()])
    content = backup.read_bytes()
    with zipfile.ZipFile(backup) as archive:
        start, size = archive.start_dir, archive.infolist()[0].file_size
    directory = content[start:].replace(size.to_bytes(4, "little"), (1 << 30).to_bytes(4, "little"))
    assert directory != content[start:]
    backup.write_bytes(content[:start] + directory)
    with pytest.raises(SettingsError, match="more than there is"):
        restore(open_shelf(folder, 30), backup)
    assert names(opened(folder)) == []


def test_a_backup_that_cannot_be_written_leaves_nothing(folder, tmp_path):
    opened(folder).add(voice_of("a"), "anna")
    for target in (tmp_path / "missing" / "x.zip", folder / DATABASE / "x.zip"):
        done = run_verb(folder, "backup", target)
        assert done.returncode == 2
        assert "remedy" in done.stderr
        assert "Traceback" not in done.stderr
    assert run_verb(tmp_path / "nothing", "backup", tmp_path / "x.zip").returncode == 2
    assert not (tmp_path / "nothing").exists()
    assert not [*Path(tmp_path).glob("x.zip*")]


def test_a_full_disk_in_the_middle_of_a_restore(folder, backup, tmp_path, monkeypatch):
    """What came before stays, and the same command goes on."""
    store = opened(folder)
    for number in range(4):
        store.add(voice_of(f"v{number}", number), "anna")
    make_backup(open_as_it_is(folder, 30), backup)
    shelf = open_shelf(tmp_path / "other", 30)
    put, left = type(shelf).put, iter(range(2))

    def full(self, *arguments):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        put(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(shelf), "put", full)
        with pytest.raises(OSError, match="No space"):
            restore(shelf, backup)
    assert names(opened(tmp_path / "other")) == ["v0", "v1"]
    assert len(restore(shelf, backup).added) == 2
    assert names(opened(tmp_path / "other")) == ["v0", "v1", "v2", "v3"]
