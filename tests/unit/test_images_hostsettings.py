"""The host's package settings: read from where pip and uv keep them, handed on without a leak."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.hostsettings import HostSettings, read_host_settings
from images.requirement_files import Pin, parse_pins
from images.staging import MAX_SECRET, place, stage_local_files, stage_secrets
from matrix.errors import DataError
from matrix.masking import mask

PIP = """:env:.find-links='/env/wheels'
global.extra-index-url='file:///srv/one/simple https://two.example/simple'
global.find-links='/global/wheels'
global.index-url='https://user:p%40ss@index.example/simple'
global.proxy='http://proxy.example:3128'
install.index-url='https://install.example/simple'
freeze.timeout='10'
not a setting
"""


def read(env: dict[str, str], pip: str = "", files: tuple[Path, ...] = ()) -> HostSettings:
    return read_host_settings(env, pip_config=lambda _: pip, uv_files=files)


def test_pips_settings_are_read_with_its_precedence() -> None:
    found = read({}, PIP)
    assert found.index == "https://install.example/simple"
    assert found.find_links == ("/env/wheels",)
    assert found.local_indexes() == (Path("/srv/one/simple"),)
    assert found.remote_indexes() == ("https://two.example/simple",)
    assert dict(found.proxies) == dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://proxy.example:3128")


def test_uvs_settings_win_setting_by_setting(tmp_path: Path) -> None:
    config = tmp_path / "uv.toml"
    config.write_text(
        'find-links = ["/uv/wheels"]\n[[index]]\nname = "a"\nurl = "https://a.example/simple"\n'
        '[[index]]\nurl = "https://b.example/simple"\ndefault = true\n'
    )
    found = read({}, PIP, (config,))
    assert found.index == "https://b.example/simple"
    assert found.extra_indexes == ("https://a.example/simple",)
    assert found.find_links == ("/uv/wheels",)
    found = read({"UV_DEFAULT_INDEX": "https://env.example", "UV_INDEX": "x=https://y.example/s"}, PIP, (config,))
    assert (found.index, found.extra_indexes) == ("https://env.example", ("https://y.example/s",))


def test_a_broken_uv_toml_is_named(tmp_path: Path) -> None:
    config = tmp_path / "uv.toml"
    config.write_text("index-url = [")
    with pytest.raises(DataError, match=r"uv\.toml: not valid TOML"):
        read({}, "", (config,))


def test_a_ca_bundle_and_proxies_come_from_the_usual_variables(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("pem")
    found = read({"REQUESTS_CA_BUNDLE": str(bundle), "https_proxy": "http://p:1", "NO_PROXY": "x"})
    assert found.ca_bundle == bundle
    assert dict(found.proxies) == {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x"}


@given(
    st.from_regex(r"[a-z0-9._%-]{1,12}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9._%!$&-]{1,20}", fullmatch=True),
    st.text(alphabet="abc \n", max_size=10),
)
def test_credentials_are_masked_wherever_they_stand(user: str, password: str, before: str) -> None:
    line = f"{before}https://{user}:{password}@index.example/simple?x=1 and http://{password}@other.example"
    assert f"{password}@" not in mask(line)
    assert "https://***@index.example/simple?***" in mask(line)


def test_describe_hides_credentials() -> None:
    assert "p%40ss" not in read({}, PIP.replace("install.index", "freeze.index")).describe()


def test_secrets_hold_the_settings_for_the_owner_only(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("pem")
    settings = HostSettings(
        index="https://u:p@i.example/simple",
        extra_indexes=("file:///srv/simple", "https://e.example/simple"),
        find_links=("/srv/wheels", "https://l.example/page"),
        ca_bundle=bundle,
        proxies=(("HTTP_PROXY", "http://o'brien:$x`y`@p.example"),),
    )
    folder = tmp_path / "secrets"
    assert stage_secrets(settings, ["https://torch.example/cpu"], folder) == ["host-env", "uv-config", "ca"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    toml = tomllib.loads((folder / "uv-config").read_text())
    assert toml == {
        "index-url": "https://u:p@i.example/simple",
        "extra-index-url": ["https://e.example/simple", "https://torch.example/cpu"],
        "index-strategy": "unsafe-best-match",
        "find-links": ["https://l.example/page"],
    }
    exports = (folder / "host-env").read_text()
    assert """export HTTP_PROXY='http://o'"'"'brien:$x`y`@p.example'\n""" in exports
    assert "export SSL_CERT_FILE=/run/secrets/ca\n" in exports


def test_a_bundle_that_no_secret_can_hold_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(b"x" * (MAX_SECRET + 1))
    with pytest.raises(DataError, match="a build secret holds"):
        stage_secrets(HostSettings(ca_bundle=bundle), [], tmp_path / "secrets")


def test_local_wheels_are_staged_when_the_lock_names_their_bytes(tmp_path: Path) -> None:
    wheels, index = tmp_path / "wheels", tmp_path / "index"
    wheels.mkdir()
    (index / "simple" / "b-pkg").mkdir(parents=True)
    (index / "files").mkdir()
    good = wheels / "a_pkg-1.0+cpu-py3-none-any.whl"
    good.write_bytes(b"good")
    (wheels / "a_pkg-2.0-py3-none-any.whl").write_bytes(b"other version")
    (wheels / "not-a-wheel.whl").write_bytes(b"x")
    (index / "files" / "b_pkg-1.0-py3-none-any.whl").write_bytes(b"indexed")
    (index / "simple" / "b-pkg" / "index.html").write_text(
        '<a href="../../files/b_pkg-1.0-py3-none-any.whl#sha256=00">b</a><a href="../../files/gone.whl">c</a>'
    )

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    settings = HostSettings(find_links=(str(wheels),), extra_indexes=(f"file://{index}/simple",))
    pins = [Pin("a-pkg", "1.0+cpu", (digest(b"good"),)), Pin("b-pkg", "1.0", (digest(b"indexed"),))]
    folder = tmp_path / "staged"
    place(wheels / "a_pkg-2.0-py3-none-any.whl", folder)  # left from another lock
    staged = stage_local_files(settings, pins, folder)
    assert staged == ["a_pkg-1.0+cpu-py3-none-any.whl", "b_pkg-1.0-py3-none-any.whl"]
    assert sorted(path.name for path in folder.iterdir()) == staged
    assert stage_local_files(settings, [Pin("a-pkg", "1.0+cpu", ("0" * 64,))], folder) == []


def test_locked_requirements_are_read_strictly() -> None:
    a, b, c = ("a" * 64, "b" * 64, "c" * 64)
    first = f"# head\na-pkg==1.0+cpu \\\n    --hash=sha256:{a} \\\n    --hash=sha256:{b}\n    # via x\n"
    text = first + f"b-pkg==2 \\\n    --hash=sha256:{c}\n"
    assert parse_pins(text) == [Pin("a-pkg", "1.0+cpu", (a, b)), Pin("b-pkg", "2", (c,))]
    for wrong in ("a-pkg==1.0\n", f"a-pkg>=1 --hash=sha256:{a}\n", f"a pkg==1 --hash=sha256:{a}\n"):
        with pytest.raises(DataError, match="locked requirements"):
            parse_pins(wrong)
