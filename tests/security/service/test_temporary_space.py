"""No room for temporary files: told as that, and needed by no upload."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile

import pytest

from serve.errors import SettingsError
from serve.shortage import check_temporary_space, of_the_host
from tests.serve.refused import error_of


def test_without_a_usable_folder_the_start_says_so(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/self/nowhere"])
    monkeypatch.setenv("TMPDIR", "/proc/self/nowhere")
    with pytest.raises(SettingsError) as refused:
        check_temporary_space()
    assert refused.value.exit_code == 2
    assert "/proc/self/nowhere: No such file or directory" in refused.value.what
    assert "--tmpfs /tmp" in refused.value.remedy


@pytest.fixture
def tiny_disk(tmp_path, monkeypatch):
    """A folder for temporary files with 64 KiB, almost full."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_temporary_folder_breaks_no_upload(make_client, ready, sound, tiny_disk):
    with make_client() as client:
        ready(client)
        audio = sound(30, 96_000)
        assert len(audio) > 5_000_000
        answer = client.post("/clone", data={"text": "Hi.", "ref_text": "x"}, files={"ref_audio": ("a.wav", audio)})
        assert answer.status_code == 200, answer.text
        assert not [*tiny_disk.iterdir()]


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        (errno.ENOSPC, 507, "disk_full"),
        (errno.EDQUOT, 507, "disk_full"),
        (errno.EMFILE, 503, "no_descriptors"),
        (errno.ENFILE, 503, "no_descriptors"),
    ],
)
def test_what_the_host_has_no_more_of_is_no_defect(
    make_client, ready, voice, monkeypatch, caplog, number, status, code
):
    with make_client() as client:
        ready(client)

        def fail(*_args, **_kwargs):
            raise OSError(number, os.strerror(number), "/some/place")

        monkeypatch.setattr("serve.api.clone.Reader.utterance", fail)
        error_of(client.post("/clone", json={"text": "Hi."} | voice), status, code)
    assert "a defect" not in caplog.text
    assert "remedy" in caplog.text


def test_other_errors_stay_defects():
    assert of_the_host(OSError(errno.EIO, "broken")) is None
    assert of_the_host(ValueError()) is None
    assert of_the_host(MemoryError()).status == 503
