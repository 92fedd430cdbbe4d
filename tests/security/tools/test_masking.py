"""No part of a secret survives the mask, whatever it is made of and wherever it stands."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from images.hostsettings import read_host_settings
from matrix.masking import Masker, mask

#: What RFC 3986 allows in a user and password, raw.
USERINFO = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;="
#: And what people write there nevertheless.
SLOPPY = USERINFO + '/?#[]@:%"`<>^{}|\\'
PCHAR = USERINFO + ":@%"
RFC = st.text(USERINFO, min_size=8, max_size=24)
ANY = st.text(SLOPPY, min_size=8, max_size=24)
TOKEN = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789-_", min_size=10, max_size=40)

USERS = [
    "https://{}@index.example/simple/torch/",
    "https://user:{}@index.example/simple/torch/",
    "https://user:{}@index.example:8443/simple",
    "http://{}:x@[::1]:3128",
    "https://me:{}@index.example",
    "git+https://me:{}@index.example/repo.git@v1",
    "socks5h://me:{}@proxy.example:1080",
    "me:{}@proxy.example:3128",
    "{}@proxy.example:3128",
    "HTTPS_PROXY=me:{}@proxy.example:3128",
    "//me:{}@proxy.example/",
    "tcp://me:{}@10.0.0.1:2375",
    "UV_INDEX=https://a.example/simple,https://me:{}@b.example/simple,https://c.example/simple",
    "me:{}@proxy.example:3128,https://c.example/simple",
]
QUERIES = [
    "https://index.example/simple/?token={}",
    "https://index.example/simple?a=b&sig={}&c=d",
    "https://index.example/a.whl?X-Amz-Signature={}#sha256=" + "a" * 64,
    "https://index.example/simple#{}",
    "https://index.example/simple#access_token={}",
    "https://index.example/simple?{}",
    "https://github.com/a/b?token={}",
    "index.example/simple?token={}",
    "/simple?token={}",
]
PATHS = [
    "https://index.example/t/{}/simple/torch/",
    "https://index.example/{}/simple/",
    "https://dl.index.example/{}/owner/repo/python/simple/",
    "https://index.example/basic/{}/python/index/",
    "https://index.example/api/v4/projects/7/{}/pypi/simple",
    "https://me:x@index.example/{}",
    "http://127.0.0.1:8081/repository/{}/simple",
]
HEADERS = [
    "Authorization: Bearer {}",
    "authorization: Basic {}",
    "{{'Proxy-Authorization': 'Bearer {}'}}",
    "_authToken={}",
    "password: {}",
    "--password={}",
    '"token": "{}"',
    "GH_TOKEN={}",
    "ghp_{}",
    "github_pat_{}",
    "GITLAB_TOKEN=glpat-{}",
]
AROUND = st.sampled_from(
    ["{}", "error: Failed to fetch: `{}`", "({}).", "a {} b", "'{}'", "index {}; CA bundle /x", "{}\n{}", "UV_INDEX={}"]
)
NAMED = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789_", min_size=10, max_size=40)


def parts(secret: str) -> set[str]:
    return {secret[place : place + 4] for place in range(len(secret) - 3)}


def leaked(secret: str, template: str, around: str, hide: object = mask) -> set[str]:
    """The parts of four characters or more that are still there, and that the text has not of itself."""
    text = around.replace("{}", template.format(secret))
    plain = around.replace("{}", template.replace("{{", "{").replace("}}", "}").replace("{}", ""))
    assert callable(hide)
    shown = hide(text)
    return {part for part in parts(secret) if part in shown and part not in plain and part not in "***@***/***"}


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(USERS), ANY | RFC, AROUND)
@example("https://user:{}@index.example/simple/torch/", "pa/ss?wo#rd@x", "{}")
@example("https://user:{}@index.example/simple/torch/", "a:b@c/d/e/f@g", "{}")
@example("https://user:{}@index.example/simple/torch/", "quo'te\"d`x(y)", "'{}'")
@example("me:{}@proxy.example:3128", "pa=ss'wor\"d@x", "'{}'")
def test_no_user_or_password_survives(template: str, secret: str, around: str) -> None:
    assert leaked(secret, template, around) == set()


@settings(max_examples=700, deadline=None)
@given(st.sampled_from(QUERIES), st.text(PCHAR + "/?&=", min_size=8, max_size=24), AROUND)
@example("https://index.example/simple/?token={}", "abcd@efghijkl", "{}")
@example("https://index.example/simple/?token={}", "abcd&sign=efgh&ijklm", "{}")
def test_no_query_or_fragment_survives(template: str, secret: str, around: str) -> None:
    assert leaked(secret, template, around) == set()


@settings(max_examples=700, deadline=None)
@given(st.sampled_from(PATHS), TOKEN, AROUND)
def test_no_token_in_a_path_survives(template: str, secret: str, around: str) -> None:
    assert leaked(secret, template, around) == set()


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(HEADERS), NAMED, AROUND)
def test_no_header_or_setting_survives(template: str, secret: str, around: str) -> None:
    assume(any(char.isdigit() for char in secret))
    assert leaked(secret, template, around) == set()


VARIABLES = ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "HTTPS_PROXY", "ALL_PROXY", "WHEELWRIGHT_PYTORCH_WHEELS"]
SPELLINGS = [str, lambda secret: quote(secret, safe=""), repr, json.dumps, lambda secret: f"x{secret}y", str.strip]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(VARIABLES), st.text(USERINFO, min_size=6, max_size=24), st.sampled_from(range(len(SPELLINGS))))
def test_a_known_password_is_hidden_wherever_it_stands(variable: str, secret: str, spelling: int) -> None:
    env = {variable: f"https://user:{secret}@index.example/simple"}
    if "," in secret or (variable == "UV_INDEX" and "=" in secret):
        env = {variable: f"https://user:{quote(secret, safe='')}@index.example/simple"}
    found = read_host_settings(env, pip_config=lambda _: "", uv_files=())
    said = f"uv says: {SPELLINGS[spelling](secret)} is not what I like"
    assume(all(part not in "uv says: is not what I like" for part in parts(secret)))
    assert {part for part in parts(secret) if part in found.masked(said)} == set()
    plain = read_host_settings({variable: "https://***@index.example/simple"}, pip_config=lambda _: "", uv_files=())
    assert {part for part in parts(secret) if part in found.describe() and part not in plain.describe()} == set()


@pytest.mark.parametrize("name", ["GH_TOKEN", "GITHUB_TOKEN", "UV_INDEX_CORP_PASSWORD", "AWS_SECRET_ACCESS_KEY"])
def test_a_secret_of_the_environment_is_hidden(name: str) -> None:
    masker = Masker.of((), {name: "canarycanary"})
    assert masker("it says canarycanary, twice: canarycanary") == "it says ***, twice: ***"
    assert "canary" not in repr(masker)


@pytest.mark.parametrize(
    "text",
    [
        "#5 [stack 1/3] FROM docker.io/library/python:3.12-slim@sha256:" + "a" * 64,
        "flash-attn @ https://github.com/Dao-AILab/flash-attention/releases/download/v2.8.3/flash_attn-2.8.3.whl",
        "https://index.example/simple/torch/#sha256=" + "a" * 64,
        "https://download.pytorch.org/whl/cu128/torch-2.9.1-cp312-cp312-linux_x86_64.whl",
        "error: Failed to fetch: `http://127.0.0.1:8080/simple/qwen-tts/`",
        "unix:///var/run/docker.sock",
        "docker-image://wheelwright-base:trixie-0a1b2c3d",
        "file:///opt/wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl",
        "the token is not accepted: renew GH_TOKEN or GITHUB_TOKEN, or unset it",
        "see https://github.com/actions/checkout@v4",
        "matrix/compat.yaml:10 origins.github_api: x",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("unit", "end"),
    [
        *(("a,", ""), ("a://", ""), ("@", ""), ("x@", ""), ("token=", ""), ("a/", "@"), ("-", ""), ("?", "")),
        *(("bearer ", ""), ("eyJ", ""), ("https://h/a-1/", ""), ("password: ", ""), ("authorization", "")),
    ],
)
def test_a_hostile_line_costs_what_it_is_long(unit: str, end: str) -> None:
    """Half a megabyte on one line of a build's output; quadratic work would take minutes."""
    text = unit * (400_000 // len(unit)) + end
    start = time.monotonic()
    mask(text)
    assert time.monotonic() - start < 20
