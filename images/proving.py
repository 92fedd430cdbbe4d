"""Prove built images: what is installed is what the lock says, and the service speaks.

Each target's image is run as users run it. Without a GPU on the host, imports and the service on the CPU are proven,
and the verdict says ``unproven on GPU``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException

from images.cloning import clone
from images.container import TrackedContainer, scratch_volume
from images.engine import Engine
from images.hardening import check_hardened
from images.inside import FORBIDDEN
from images.planned import Planned, Workspace, load_planned
from images.render import LABEL_PREFIX, labels
from images.results import Built, Proof
from images.wav import read_wav
from matrix import Arch, tree
from matrix.errors import WheelwrightError
from wheel_resolver.inside.inspection import remember_loading

START_S = 180.0  # for imports from a cold disk
STOP_S = 10.0
_TINY = "/models/tiny"
_SHORTEST_S, _LONGEST_S = 0.05, 60.0


def prove_targets(workspace: Workspace, engine: Engine, built: Sequence[Built]) -> list[Proof]:
    """Smoke-test what is built; a target that is not is not in the answer."""
    ready = {item.target: item for item in built if item.status == "built"}
    return [
        prove_one(workspace, engine, item, ready[item.target.name]) for item in load_planned(workspace, list(ready))
    ]


def prove_one(workspace: Workspace, engine: Engine, item: Planned, built: Built) -> Proof:
    """All checks of one image; never raises for what the image does wrong."""
    log = workspace.build / "logs" / f"{item.target.name}.smoke.log"
    tree.remove(log)
    proof = Proof(item.target.name, built.tag, str(log))
    image = built.image or built.tag
    try:
        inside = _look_inside(proof, engine, image, log)
        _check_installed(proof, item, inside)
        check_forbidden(proof, inside["forbidden"])
        _check_labels(proof, item, engine, image, workspace.version)
        check_hardened(proof, engine, image, log)
        _check_trims(proof, item, engine, image, log)
        _check_service(proof, item, engine, image, workspace, gpu=inside.get("gpu"))
    except (WheelwrightError, DockerException, requests.RequestException) as error:
        proof.check("runs to the end", False, str(error).splitlines()[0][:600])
        inside = {}
    if not proof.failures:
        proven = item.target.cuda.is_cpu or inside.get("gpu")
        proof.verdict = "passed" if proven else "passed, unproven on GPU"
    return proof


def _look_inside(proof: Proof, engine: Engine, image: str, log: Path) -> dict[str, Any]:
    program = tree.read_text(Path(__file__).with_name("inside.py"))
    with TrackedContainer(engine, image, log=log, command=["python", "-c", program]) as container:
        status = container.wait(START_S)
        if status != 0:
            raise WheelwrightError(f"the look inside ended with status {status}: {container.log_tail()}")
        found: dict[str, Any] = json.loads(container.output().splitlines()[-1])
    proof.check("torch imports", found["torch_error"] is None, found["torch_error"] or f"{found['import_seconds']} s")
    return found


def _check_installed(proof: Proof, item: Planned, inside: dict[str, Any]) -> None:
    """What runs in the container is what the lock names."""
    stack, facts = item.recipe.stack, item.facts
    version = str(inside.get("torch", "")).partition("+")[0]
    expected = {
        "python": (str(stack.python), inside["python"]),
        "torch": (str(stack.torch), version),
        "cuda": (str(stack.cuda), inside.get("cuda")),
        "abi": (facts["abi"], inside.get("abi")),
        "flash-attn": (facts["flash_attn"], inside["flash_attn"]),
    }
    for name, (locked, found) in expected.items():
        proof.check(f"{name} is the lock's", locked == found, locked if locked == found else f"{found}, not {locked}")
    if facts["flash_attn"]:
        error = inside["flash_attn_error"]
        proof.check("flash_attn_2_cuda imports", error is None, error or "")
        if error is None and (wheel := item.recipe.wheel) is not None:
            where = f"Python {stack.python}, torch {stack.torch}, CUDA {stack.cuda}"
            remember_loading(wheel.name, wheel.sha256, where)
    proof.check("SDPA gives numbers", inside.get("sdpa_finite") is True)
    proof.check("image.json is the lock's", inside["image"] == dict(facts))
    proof.check("no warnings on import", not inside["warnings"], "; ".join(inside["warnings"])[:300])
    broken = "; ".join(f"{name}: {error}" for name, error in inside["unimportable"].items())
    proof.check("all modules of the service import", not broken, broken[:600])
    unmet, left_out = set(inside["unmet"]), set(inside["left_out"])
    proof.check("requirements are met, but for what was left out", unmet <= left_out, ", ".join(sorted(unmet)))
    if gpu := inside.get("gpu"):
        proof.check(f"SDPA runs on {gpu['name']}", gpu["sdpa_finite"] is True)
        if flash_serves(facts, gpu):
            ran = gpu.get("flash_attn_finite") is True
            proof.check(f"flash-attn runs on {gpu['name']}", ran, gpu.get("flash_attn_error", ""))


def check_forbidden(proof: Proof, found: Collection[str]) -> None:
    """What would replace the locked attention is not there; ``found`` is what the look inside could import of it."""
    for name in FORBIDDEN:
        meaning = (
            f"it is: where flash-attn cannot serve, transformers would use an attention of {name} in silence;"
            f" take {name}, or what requires it, out of the app's requirements, then `make lock`"
        )
        proof.check(f"`{name}` is not importable", name not in found, meaning if name in found else "")


def _check_trims(proof: Proof, item: Planned, engine: Engine, image: str, log: Path) -> None:
    """What each trim says would notice if something that it removed were needed."""
    for trim in (trim for chosen in item.recipe.stack.trims.values() for trim in chosen):
        with TrackedContainer(engine, image, log=log, command=["python", "-c", trim.check]) as container:
            status = container.wait(START_S)
            proof.check(f"trimmed {trim.name}: nothing misses it", status == 0, container.log_tail() if status else "")


def _check_labels(proof: Proof, item: Planned, engine: Engine, image: str, version: str) -> None:
    """Labels and image.json say the same; date and revision are there."""
    config = engine.client.images.get(image).attrs["Config"]
    found: dict[str, str] = config.get("Labels") or {}
    wanted = labels(item.facts, version, item.target.description)
    wrong = {name: found.get(name) for name, value in wanted.items() if found.get(name) != value}
    extra = {name for name in found if name.startswith(LABEL_PREFIX) and name not in wanted}
    proof.check("labels agree with image.json", not wrong and not extra, wrong or ", ".join(extra))
    dated = all(found.get(f"org.opencontainers.image.{name}") for name in ("created", "revision"))
    proof.check("labels carry date and revision", dated)
    proof.check("does not run as root", config.get("User", "").partition(":")[0] not in ("", "0", "root"))


def _check_service(
    proof: Proof, item: Planned, engine: Engine, image: str, workspace: Workspace, *, gpu: Mapping[str, Any] | None
) -> None:
    """The service starts, says what it runs, speaks, and stops when told."""
    start = partial(TrackedContainer, engine, image, log=Path(proof.log))
    with scratch_volume(engine) as volume:
        volumes = {volume: "/models"}
        with start(command=["python", "-m", "serve.tiny", _TINY], volumes=volumes) as tiny:
            status = tiny.wait(START_S)
            if status != 0:
                raise WheelwrightError(f"serve.tiny ended with status {status}: {tiny.log_tail()}")
        environment = {"WW_MODEL_DIR": _TINY, "OMP_NUM_THREADS": "1"}  # tiny matrices: threads only wait for each other
        with start(environment=environment, volumes=volumes, publish=True) as service:
            seconds = _wait_ready(service)
            proof.check("is ready", True, f"after {seconds:.1f} s")
            _check_health(proof, item, service, gpu)
            _check_clone(proof, service, workspace)
            _check_stop(proof, service)


def _wait_ready(service: TrackedContainer) -> float:
    start = time.monotonic()
    url, last = service.url(), "no answer yet"
    while time.monotonic() - start < START_S:
        if not service.running:
            raise WheelwrightError(f"the service ended before it was ready: {service.log_tail()}")
        try:
            answer = requests.get(f"{url}/ready", timeout=5)
        except requests.RequestException as error:
            last = type(error).__name__
        else:
            if answer.status_code == requests.codes.ok:
                return time.monotonic() - start
            last = answer.text[:200]
        time.sleep(0.2)
    raise WheelwrightError(f"the service was not ready in {START_S:.0f} s: {last}: {service.log_tail()}")


def flash_serves(facts: Mapping[str, Any], gpu: Mapping[str, Any] | None) -> bool:
    """Whether the image's flash-attn has code for a GPU; ``gpu`` is what the look inside found, None without one."""
    if gpu is None or not facts["wheel_sass"]:
        return False
    major, minor = gpu["capability"]
    return any(Arch.parse(code).cubin_runs_on(Arch(major, minor)) for code in facts["wheel_sass"])


def _check_health(proof: Proof, item: Planned, service: TrackedContainer, gpu: Mapping[str, Any] | None) -> None:
    answer = requests.get(f"{service.url()}/health", timeout=10)
    health = answer.json()
    attention = health.get("attention", {})
    proof.attention, proof.because = attention.get("running"), attention.get("because")
    expected = item.facts["attention"]["default"]
    if expected == "flash_attention_2" and not flash_serves(item.facts, gpu):
        expected = "sdpa"  # the next rung of the ladder is the right one
    ok = answer.status_code == requests.codes.ok and proof.attention == expected
    proof.check(f"/health: attention is {expected}", ok, proof.because or answer.text[:300])


def _check_clone(proof: Proof, service: TrackedContainer, workspace: Workspace) -> None:
    folder = workspace.build / "smoke" / proof.target
    try:
        made = clone(workspace.root, folder, service.url(), label=proof.target, log=Path(proof.log))
    except WheelwrightError as error:
        proof.check("/clone answers", False, error)
        return
    try:
        sound = read_wav(made.audio)
    except ValueError as error:
        proof.check("/clone gives a WAV file", False, error)
        return
    faults = sound.faults(_SHORTEST_S, _LONGEST_S)
    proof.check("/clone gives sound", not faults, "; ".join(faults) or f"{sound.seconds:.2f} s, RMS {sound.rms:.3f}")
    proof.check("/clone says that the weights are random", made.weights == "random", made.weights)
    proof.audio = made.audio


def _check_stop(proof: Proof, service: TrackedContainer) -> None:
    start = time.monotonic()
    service.container.kill("SIGTERM")
    try:
        status = service.wait(STOP_S)
    except WheelwrightError as error:
        proof.check("SIGTERM stops it", False, error)
    else:
        proof.check("SIGTERM stops it", status == 0, f"status {status} after {time.monotonic() - start:.1f} s")
    bad = [
        line
        for line in service.log_text().splitlines()
        if ("WARNING" in line or "Traceback" in line or "Error" in line)
        and "WW_API_KEYS" not in line  # the proof asks without a key, and the service warns that anyone can
    ]
    proof.check("its log has no warning", not bad, " | ".join(bad)[:400])
