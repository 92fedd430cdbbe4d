"""The folder of the voices under other users: any of its group where it is the group's, and a word where it is not."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from serve.ownership import PRIVATE, SHARED, make_folder, modes_below, refusal
from serve.voices.folder import DATABASE
from tests.security.service.stores import ROOT, opened, voice_of
from tests.serve.test_download import hub  # noqa: F401 - pytest finds the fixture by this name

IMAGE_USER, OTHERS = 10_001, (1_234_567, 7_654_321)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")

# Opens the store as the user that it is told, does what it is told, and says how that went.
DOES = """
import json, os, sys

sys.path.insert(0, sys.argv[1])
from pathlib import Path
from serve.errors import ServiceError, StartError
from serve.settings import read_settings
from serve.voices import store as store_module
from serve.voices.store import open_store, why_no_folder
from tests.security.service.stores import names, opened, voice_of

# Only now: the interpreter may lie where nobody else may look.
uid, gid = map(int, sys.argv[3].split(":"))
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
assert os.geteuid() == uid and not os.access("/etc/shadow", os.R_OK)
os.umask(0o022)
said = {}
try:
    if sys.argv[4:] == ["why"]:
        store_module.DEFAULT_FOLDER = Path(sys.argv[2])
        assert open_store(read_settings()) is None
        said["why"] = why_no_folder()
        sys.argv[4:] = []
    else:
        store = opened(sys.argv[2])
    for step in sys.argv[4:]:
        what, _, name = step.partition(":")
        try:
            if what == "add":
                store.add(voice_of(name), "anna")
            elif what == "delete":
                store.delete(name, "anna")
            said[step] = names(store)
        except ServiceError as error:
            said[step] = [error.code, error.message, error.remedy]
except StartError as error:
    said["start"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture
def shared():
    """A folder as an image has it at /data: its user's and group 0's; where every user may look."""
    top = Path(tempfile.mkdtemp(prefix="wheelwright-"))
    top.chmod(0o755)
    folder = top / "data"
    folder.mkdir()
    os.chown(folder, IMAGE_USER, 0)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(top)


def run_as(uid, folder, *steps, gid=0):
    done = subprocess.run(
        [sys.executable, "-c", DOES, str(ROOT), str(folder), f"{uid}:{gid}", *steps], env={"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modes(folder):
    return {(stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) for path in folder.rglob("*")}


@needs_root
def test_any_user_of_group_0_may_write_and_read_what_another_one_wrote(shared):
    assert run_as(OTHERS[0], shared, "add:a", "add:b", "add:c") == {
        "add:a": ["a"],
        "add:b": ["a", "b"],
        "add:c": ["a", "b", "c"],
    }
    assert modes(shared) == {(0o2770, 0), (0o660, 0)}
    assert run_as(OTHERS[1], shared, "delete:a", "add:d") == {"delete:a": ["b", "c"], "add:d": ["b", "c", "d"]}
    assert run_as(OTHERS[0], shared, "delete:d", "delete:b") == {"delete:d": ["b", "c"], "delete:b": ["c"]}
    assert modes(shared) == {(0o2770, 0), (0o660, 0)}
    # The image's own user with its own group is not of group 0.
    assert f"was written by uid {OTHERS[0]}" in run_as(IMAGE_USER, shared, "list", gid=IMAGE_USER)["start"]
    assert run_as(IMAGE_USER, shared, "list") == {"list": ["c"]}


@needs_root
def test_the_images_own_user_begins_and_another_goes_on(shared):
    assert run_as(IMAGE_USER, shared, "add:a", gid=IMAGE_USER) == {"add:a": ["a"]}
    assert modes(shared) == {(0o2770, 0), (0o660, 0)}
    assert run_as(OTHERS[0], shared, "add:b", "delete:a") == {"add:b": ["a", "b"], "delete:a": ["b"]}


@needs_root
def test_a_user_of_another_group_may_not_and_is_told(shared):
    run_as(IMAGE_USER, shared, "add:a", gid=IMAGE_USER)
    said = run_as(OTHERS[0], shared, "add:b", gid=OTHERS[0])["start"]
    assert f"was written by uid {IMAGE_USER} (group 0, mode 2770), and this process is uid {OTHERS[0]}" in said
    assert "remedy: " in said


@needs_root
def test_a_default_folder_that_another_user_owns_is_told_where_voices_are_asked_for(shared):
    assert f"was written by uid {IMAGE_USER}" in run_as(OTHERS[0], shared, "why", gid=OTHERS[0])["why"]


@needs_root
@pytest.mark.parametrize("what", [DATABASE, f"{DATABASE}-journal", "voices", "deleted"])
def test_a_file_that_another_user_wrote_for_himself_is_told(shared, what):
    """As a store is that was made before its folder was the group's."""
    run_as(IMAGE_USER, shared, "add:a", gid=IMAGE_USER)
    (shared / what).chmod(0o700 if (shared / what).is_dir() else 0o600)
    said = run_as(OTHERS[0], shared, "add:b")["start"]
    assert f"{shared / what} was written by uid {IMAGE_USER}" in said
    assert f"chmod -R g+rwX {shared}" in said
    # And that is the remedy.
    shared.chmod(0o770)
    subprocess.run(["sh", "-ec", said.partition("or root: ")[2].partition("; and run")[0]], check=True)
    assert run_as(OTHERS[0], shared, "add:b") == {"add:b": ["a", "b"]}


@needs_root
def test_the_audio_of_one_voice_that_another_user_wrote_is_told(shared):
    run_as(IMAGE_USER, shared, "add:a", gid=IMAGE_USER)
    (file,) = (shared / "voices").iterdir()
    file.chmod(0o600)
    code, message, remedy = run_as(OTHERS[0], shared, "list")["list"]
    assert code == "voice_unreadable"
    assert "another user wrote it" in message
    assert "chmod" in remedy
    assert run_as(IMAGE_USER, shared, "list", gid=IMAGE_USER) == {"list": ["a"]}


@needs_root
def test_what_root_puts_there_is_the_services(shared):
    """An operator's shell in a container is often root's: what it restores must be readable."""
    opened(shared).add(voice_of("a"), "anna")
    assert {path.stat().st_uid for path in shared.rglob("*")} == {IMAGE_USER}
    assert run_as(IMAGE_USER, shared, "add:b", "delete:a", gid=IMAGE_USER)["delete:a"] == ["b"]


@needs_root
def test_a_folder_of_one_user_stays_that_users(shared):
    shared.chmod(0o700)
    run_as(IMAGE_USER, shared, "add:a", gid=IMAGE_USER)
    assert {mode for mode, _ in modes(shared)} == {0o700, 0o600}
    assert "was written by uid" in run_as(OTHERS[0], shared, "list")["start"]


# As root it fetches once, so that all that is imported late is; then as another user.
FETCHES = """
import os, sys

sys.path.insert(0, sys.argv[1])
from pathlib import Path
from serve.errors import SettingsError
from serve.fetching import fetch

fetch("test/tiny", None, Path(sys.argv[2]) / "roots")
os.setgroups([])
os.setgid(0)
os.setuid(int(sys.argv[3]))
try:
    fetch("test/tiny", None, Path(sys.argv[2]) / "images")
except SettingsError as error:
    print(error)
"""


@needs_root
def test_a_models_folder_that_another_user_wrote_is_told(shared, hub):  # noqa: F811 - the fixture
    folder = shared / "images"
    folder.mkdir()
    folder.chmod(0o2755)
    os.chown(folder, IMAGE_USER, 0)
    done = subprocess.run(
        [sys.executable, "-c", FETCHES, str(ROOT), str(shared), str(OTHERS[0])],
        env={"HF_ENDPOINT": hub.address, "HF_HOME": str(shared / "hub"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert f"{folder} was written by uid {IMAGE_USER} (group 0, mode 2755)" in done.stdout, done.stderr
    assert "chmod -R g+rwX" in done.stdout


def test_a_folder_is_the_groups_only_with_both_bits(tmp_path):
    for mode, expected in ((0o700, PRIVATE), (0o777, PRIVATE), (0o2750, PRIVATE), (0o2770, SHARED), (0o2775, SHARED)):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        assert modes_below(folder) == expected
        make_folder(folder / "x", expected)
        make_folder(folder / "x", expected)
        assert stat.S_IMODE((folder / "x").stat().st_mode) & 0o777 == expected.folder & 0o777
    assert refusal(tmp_path) is None
    assert refusal(tmp_path / "missing") is None


def test_the_stacks_of_the_images_give_their_volumes_to_group_0(pytestconfig):
    rendered = [*(pytestconfig.rootpath / "dockerfiles" / "rendered").glob("*.Dockerfile")]
    stacks = [text for file in rendered if "FROM os AS python" in (text := file.read_text())]
    assert stacks
    for text in stacks:
        assert "install --directory --owner 10001 --group 0 --mode 2770 /models /data" in text
