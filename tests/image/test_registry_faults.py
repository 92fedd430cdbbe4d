"""A registry that is down, that never answers, that lost the locked digest or has another: told, and never guessed."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import oci_registry
import pytest
from far_ends import running
from second_engine import SecondEngine
from small import SmallSpace

from images import bases
from images.bake import BuildOptions
from images.baking import build_targets
from images.bases import BaseProvider, UnavailableError
from images.engine import Engine, find_engine
from images.lock import bases_text, lock_bases
from images.planned import Workspace, load_planned, read_base_digests
from images.render import render_all

pytestmark = pytest.mark.engine
GONE = f"sha256:{'0' * 64}"


@pytest.fixture
def provider(engine: Engine) -> BaseProvider:
    return BaseProvider(engine, Workspace.load().project.compat)


@contextmanager
def registry(manifest: bytes | None) -> Iterator[str]:
    """A registry on the loopback that has this manifest under every name, or none."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = b"{}" if self.path == "/v2/" else manifest
            body = found or json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", json.loads(body).get("mediaType", "application/json"))
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name that the base class calls

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_registry_that_is_down(provider: BaseProvider) -> None:
    with socket.socket() as probe:  # bound, and not listening: connections are refused
        probe.bind(("127.0.0.1", 0))
        refused = provider.registry_refuses(f"127.0.0.1:{probe.getsockname()[1]}/python:3.11")
    assert "connection refused" in str(refused)


def test_a_registry_that_never_answers(provider: BaseProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "_REGISTRY_TIMEOUT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused = provider.registry_refuses(f"127.0.0.1:{silent.getsockname()[1]}/python:3.11")
    assert str(refused).startswith("no answer in 2 s")


def test_a_locked_digest_that_is_gone_is_not_replaced_by_another_base(provider: BaseProvider) -> None:
    (item,) = load_planned(Workspace.load(), ["cpu"])
    with registry(None) as host:
        stack = replace(item.recipe.stack, base=f"{host}/python:3.11@{GONE}")
        with pytest.raises(UnavailableError, match="no longer has the locked") as caught:
            provider.provide(stack)
    assert "UPGRADE=1" in str(caught.value.remedy)


def test_a_lock_keeps_its_digest_until_it_is_upgraded_by_a_registry_that_answers(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [],
        }
    ).encode()
    moved = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    for answer, upgrade, expected in [(manifest, False, GONE), (None, True, GONE), (manifest, True, moved)]:
        with registry(answer) as host:
            workspace = only_cpu(host)
            workspace = replace(workspace, root=tmp_path_factory.mktemp("locks"))
            image = f"{host}/python:3.11"
            locks = workspace.locks / "bases.yaml"
            locks.parent.mkdir(parents=True)
            locks.write_text(bases_text({image: GONE}))
            assert lock_bases(workspace, upgrade=upgrade) == {image: expected}
            assert read_base_digests(locks) == {image: expected}


def test_a_registry_that_dies_while_the_base_is_pulled_from_it(
    make_small_in: Callable[..., SmallSpace],
    second: SecondEngine,
    base_archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = tmp_path / "layout"
    with tarfile.open(base_archive) as archive:
        archive.extractall(layout, filter="data")
    (image,) = json.loads((layout / "index.json").read_text())["manifests"]
    second.empty()  # it has the base's layers
    small = make_small_in(second)
    host, address = second.bridge.add_host()
    name = f"{address}:{oci_registry.PORT}/python:3.11"
    workspace = with_base(small.space.root, name, image["digest"])
    for variable, value in small.environment.items():
        monkeypatch.setenv(variable, value)
    engine = find_engine("second")
    options = BuildOptions(base="registry", builder="second", context=engine.context)
    with small.serving():
        with running(host, "oci_registry", str(layout), address, "dies") as registry:
            (failed,) = build_targets(workspace, engine, ["cpu"], options)
            assert registry.wait(timeout=10) == 1  # in the middle of the layer
        assert failed.status == "failed"
        assert f"(while {name}@{image['digest']} was pulled)" in failed.detail
        with running(host, "oci_registry", str(layout), address):
            (built,) = build_targets(workspace, engine, ["cpu"], options)
    assert (built.status, built.detail) == ("built", f"{name}@{image['digest']} from the registry")


def with_base(root: Path, image: str, digest: str) -> Workspace:
    """The workspace with one target, whose base is locked to a digest of another registry; rendered."""
    workspace = replace(only_cpu(image.partition("/")[0]), root=root)
    (workspace.locks / "bases.yaml").write_text(bases_text({image: digest}))
    for path in workspace.rendered:
        (root / path).unlink()
    for path, text in render_all(load_planned(workspace), workspace.version).items():
        (root / path).write_text(text)
    return workspace


def only_cpu(registry_host: str) -> Workspace:
    """The checkout with one target, whose base another registry has."""
    workspace = Workspace.load()
    project = workspace.project
    offers = tuple(replace(row, image=f"{registry_host}/python:{{python}}") for row in project.compat.bases.registry)
    compat = replace(project.compat, bases=replace(project.compat.bases, registry=offers))
    matrix = replace(project.matrix, targets={"cpu": project.matrix.targets["cpu"]})
    return replace(workspace, project=replace(project, compat=compat, matrix=matrix))
