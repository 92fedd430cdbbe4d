"""What ``export`` prints installs: with the real pip and the real uv, in hash mode, from a server on the loopback."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from images.uv import uv_executable
from matrix.cli import run
from matrix.seal import sealed
from tests.packing import NAME, members, pack
from wheel_resolver import cli, lock
from wheel_resolver.fetching.fetch import fetch, file_sha256

PIP = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-index"]
UV = [uv_executable(), "pip", "install", "--no-cache", "--offline", "--python", sys.executable]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    return pack(tmp_path / "served" / NAME, members({"flash_attn_2_cuda.py": b""}))


@pytest.fixture
def locked(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project's lock with the test's wheel in place of the real one."""
    old = lock.read().targets["a10g"].wheel
    assert old is not None
    with serving(wheel.parent) as url:
        text = lock.dumps(lock.read()).replace(old.url, f"{url}/{quote(NAME)}").replace(old.name, NAME)
        path = tmp_path / "lock.yaml"
        path.write_text(sealed(text.replace(old.sha256, file_sha256(wheel))))
        monkeypatch.setenv("WHEELWRIGHT_TRUST_ORIGINS", url)
        yield path


def install(tool: list[str], requirements: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Install in hash mode; no index, no network but the loopback, no settings of this host."""
    tool = [part for part in tool if part != "--offline"] if "http:" in requirements.read_text() else tool
    return subprocess.run(
        [*tool, "--require-hashes", "--no-deps", "--target", str(target), "-r", str(requirements)],
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        | {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def exported(arguments: list[str], capsys: pytest.CaptureFixture[str], path: Path) -> Path:
    assert run(lambda: cli.main(["export", "--format", "requirements", *arguments])) == 0
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize("tool", [PIP, UV], ids=["pip", "uv"])
def test_it_installs_from_the_url_with_an_escaped_plus(
    locked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: list[str]
) -> None:
    requirements = exported(["a10g", "--lock", str(locked)], capsys, tmp_path / "flash-attn.txt")
    assert "flash_attn-2.8.3%2Bcu12torch2.9cxx11abiTRUE" in requirements.read_text()
    done = install(tool, requirements, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "flash_attn_2_cuda.py").exists()
    (info,) = (tmp_path / "site").glob("*.dist-info")
    assert info.name == "flash_attn-2.8.3.dist-info"


@pytest.mark.parametrize("tool", [PIP, UV], ids=["pip", "uv"])
def test_another_file_is_refused(
    locked: Path, wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: list[str]
) -> None:
    requirements = exported(["--lock", str(locked)], capsys, tmp_path / "flash-attn.txt")
    pack(wheel, members({"flash_attn_2_cuda.py": b"another"}))
    done = install(tool, requirements, tmp_path / "site")
    assert done.returncode != 0
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in done.stderr + done.stdout
    assert not (tmp_path / "site" / "flash_attn").exists()


@pytest.mark.parametrize("tool", [PIP, UV], ids=["pip", "uv"])
def test_a_file_of_the_cache_keeps_its_plus(
    locked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tool: list[str],
) -> None:
    monkeypatch.setenv("WHEELWRIGHT_CACHE", str(tmp_path / "my cache"))
    verb = ["--local", "--lock", str(locked)]
    assert run(lambda: cli.main(["export", *verb])) == 1
    assert "python -m wheel_resolver fetch" in capsys.readouterr().err
    pin = lock.read(locked).targets["a10g"].wheel
    assert pin is not None
    fetch(pin.url, pin.sha256, pin.name)
    requirements = exported(verb, capsys, tmp_path / "flash-attn.txt")
    assert "+cu12torch2.9" in requirements.read_text()
    assert "my%20cache" in requirements.read_text()
    done = install(tool, requirements, tmp_path / "site")
    assert done.returncode == 0, done.stderr


def test_a_file_saved_under_its_escaped_name_is_refused(wheel: Path, tmp_path: Path) -> None:
    """Why ``--local`` keeps the ``+``. pip 23.2 takes such a file, uv does not."""
    escaped = wheel.with_name(wheel.name.replace("+", "%2B"))
    escaped.write_bytes(wheel.read_bytes())
    direct = [*UV, "--no-deps", "--target", str(tmp_path / "site")]
    assert subprocess.run([*direct, str(escaped)], capture_output=True, check=False, timeout=60).returncode != 0
    assert subprocess.run([*direct, str(wheel)], capture_output=True, check=False, timeout=60).returncode == 0


def test_why_there_is_nothing_to_export(locked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main(["export", "t4", "--json", "--lock", str(locked)])) == 1
    out, err = capsys.readouterr()
    assert "t4: sdpa, no wheel: flash-attn 2 has no code for Turing" in err
    assert json.loads(out)["requirements"] == []
    assert json.loads(out)["targets"]["t4"]["wheel"] is None


def test_two_wheels_make_no_one_file(locked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, middle, tail = locked.read_text().rpartition("sha256: ")  # the source build's
    head, key, rest = head.rpartition("sha256: ")  # h100's
    locked.write_text(sealed(f"{head}{key}{'ab' * 32}{rest[64:]}{middle}{tail}"))
    assert run(lambda: cli.main(["export", "--lock", str(locked)])) == 2
    assert "the targets have different wheels: a10g: flash_attn" in capsys.readouterr().err
    assert run(lambda: cli.main(["export", "h100", "--lock", str(locked)])) == 0
    assert "ab" * 32 in capsys.readouterr().out
