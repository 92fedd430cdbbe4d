"""`/metrics` and `/info`: what they say of the real app, and what they never hold."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from types import SimpleNamespace

import httpx
from prometheus_client.parser import text_string_to_metric_families

from serve.api.metrics import REFUSALS, Metrics
from serve.api.readings import gpu_memory
from serve.engines.engine import EngineLostError, OutOfMemoryError
from serve.errors import StartError

NAME = re.compile(r"(wheelwright|process)_[a-z_]+")


def scrape(client):
    """Every sample: ``{(name, ((label, value), ...)): value}``, after checking form and names."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = [*text_string_to_metric_families(answer.text)]
    assert len({family.name for family in families}) == len(families)
    assert all(NAME.fullmatch(family.name) and family.documentation for family in families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples.get((f"wheelwright_{name}", tuple(sorted(labels.items()))), 0)


def test_requests_are_counted_by_route_and_status(client, voice):
    labels = {"method": "POST", "route": "/clone"}
    before = scrape(client)
    assert client.post("/clone", json={"text": "Hello."} | voice).status_code == 200
    assert client.post("/clone", json={"text": ""} | voice).status_code == 422
    assert client.get("/clone").status_code == 405
    after = scrape(client)

    def more(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("http_requests_total", **labels, status="200") == 1
    assert more("http_requests_total", **labels, status="422") == 1
    assert more("http_requests_total", method="GET", route="/clone", status="405") == 1
    assert more("http_request_duration_seconds_count", route="/clone") == 3
    assert more("http_received_bytes_total", route="/clone") > 2 * len(voice["ref_audio_base64"])
    assert more("http_sent_bytes_total", route="/clone") > 1000
    assert more("http_errors_total", code="no_text") == 1


def test_what_a_caller_makes_up_is_no_series(client):
    scrape(client)
    before = len(scrape(client))
    for index in range(20):
        assert client.get(f"/made-up-{index}").status_code == 404
        assert client.request(f"MADEUP{index}", "/live").status_code == 405
    after = scrape(client)
    assert value(after, "http_requests_total", method="GET", route="(none)", status="404") >= 20
    assert "made-up" not in str(after)
    assert "MADEUP" not in str(after)
    # The two routes' counters and histograms, once each.
    assert len(after) - before < 50


def test_what_is_now(client):
    samples = scrape(client)
    states = {dict(labels)["state"]: on for (name, labels), on in samples.items() if name == "wheelwright_state"}
    assert states == {"loading": 0, "ready": 1, "draining": 0, "failed": 0}
    phases = [dict(labels)["phase"] for name, labels in samples if name == "wheelwright_start_phase_seconds"]
    assert sorted(phases) == ["import", "load", "probe", "warm"]
    assert value(samples, "start_seconds") > 0
    assert value(samples, "requests_running") == 0
    assert value(samples, "requests_running_limit") == 32
    (build,) = [dict(labels) for name, labels in samples if name == "wheelwright_build_info"]
    assert build["target"] == "none"
    assert build["torch"]
    (attention,) = [dict(labels) for name, labels in samples if name == "wheelwright_attention_info"]
    assert attention["attention"] == attention["talker_attention"] == "sdpa"
    assert attention["weights"] == "random"
    assert not any("gpu_memory" in name for name, _ in samples)
    assert not any(name.endswith("_created") for name, _ in samples)


def test_before_the_start_and_after_a_failure(make_client):
    client = make_client()
    assert value(scrape(client), "state", state="loading") == 1
    assert client.get("/info").json()["attention"] is None
    client.app_state["service"].state.fail(StartError("the disk is gone"))
    assert value(scrape(client), "state", state="failed") == 1
    assert client.get("/info").status_code == 200


def test_two_services_count_apart(make_client):
    first, second = make_client(), make_client()
    first.get("/languages")
    labels = {"method": "GET", "route": "/languages", "status": "200"}
    assert value(scrape(first), "http_requests_total", **labels) == 1
    assert value(scrape(second), "http_requests_total", **labels) == 0


def test_what_the_scheduler_tells(make_client):
    client = make_client()
    metrics: Metrics = client.app_state["service"].metrics
    metrics.enqueued(5)
    metrics.dequeued(3)
    metrics.batch(3)
    metrics.first_audio(0.3)
    metrics.spoken(4, 2)
    metrics.spoken(0, 1)  # cancelled before its first frame: time, but no factor
    metrics.cache(hit=True)
    metrics.cache(hit=False)
    metrics.cache(hit=False)
    metrics.cache_size(4096, 2)
    metrics.cancelled()
    samples = scrape(client)
    assert value(samples, "queue_pieces") == 2
    assert value(samples, "batch_pieces_bucket", le="4.0") == 1
    assert value(samples, "batch_pieces_bucket", le="2.0") == 0
    assert value(samples, "first_audio_seconds_sum") == 0.3
    assert value(samples, "audio_seconds_total") == 4
    assert value(samples, "generation_seconds_total") == 3
    assert value(samples, "real_time_factor_ratio_sum") == 0.5
    assert value(samples, "real_time_factor_ratio_count") == 1
    assert value(samples, "prompt_cache_lookups_total", result="hit") == 1
    assert value(samples, "prompt_cache_lookups_total", result="miss") == 2
    assert value(samples, "prompt_cache_bytes") == 4096
    assert value(samples, "prompt_cache_entries") == 2
    assert value(samples, "pieces_cancelled_total") == 1


def rejected(client):
    """The reasons that were counted, and how often; from the registry, so that asking needs no key."""
    registry = client.app_state["service"].metrics.registry
    counts = {
        reason: registry.get_sample_value("wheelwright_requests_rejected_total", {"reason": reason})
        for reason in REFUSALS
    }
    assert None not in counts.values(), "a series that is missing before its first count"
    return {reason: count for reason, count in counts.items() if count}


def test_refusals_of_the_services_state_are_counted(make_client, voice):
    client = make_client()
    state = client.app_state["service"].state
    said = {"text": "Hello."} | voice
    assert client.get("/ready").status_code == client.get("/health").status_code == 503
    assert client.post("/clone", json=said | {"nonsense": 1}).status_code == 422
    assert rejected(client) == {}
    assert client.post("/clone", json=said).status_code == 503
    assert rejected(client) == {"loading": 1}
    state.drain()
    assert client.post("/clone-batch", json={"items": [{"text": "Hello."}]} | voice).status_code == 503
    assert rejected(client) == {"loading": 1, "draining": 1}
    state.fail(StartError("the disk is gone"))
    assert client.post("/clone", json=said).status_code == 503
    assert rejected(client) == {"loading": 1, "draining": 1, "failed": 1}


def test_refusals_of_load_are_counted(make_client, ready, voice, monkeypatch):
    with make_client(MAX_WAITING="1") as client:
        ready(client)
        service, engine = client.app_state["service"], client.app_state["service"].running.engine
        said = {"text": "Hello."} | voice
        with service.admit("someone"):
            assert client.post("/clone", json=said).status_code == 429
        assert rejected(client) == {"busy": 1}
        settings = service.settings
        service.settings = settings.model_copy(update={"deadline_s": 0.001})
        assert client.post("/clone", json=said).status_code == 504
        assert client.post("/clone-batch", json={"items": [{"text": "Hello."}]} | voice).status_code == 504
        assert rejected(client) == {"busy": 1, "deadline": 2}
        service.settings = settings
        for error in (OutOfMemoryError("too much"), EngineLostError("a device-side assert")):

            def fail(*_, error=error):
                raise error

            monkeypatch.setattr(engine, "run", fail)
            answer = client.post("/clone-batch", json={"items": [{"text": "Hello."}]} | voice)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "all_failed")
            assert answer.headers["retry-after"]
        assert rejected(client) == {"busy": 1, "deadline": 2, "out_of_memory": 1, "engine_lost": 1}


def test_refusals_of_a_keys_limits_are_counted(make_client):
    key = {"X-API-Key": "anna-0123456789abcdef"}
    client = make_client(API_KEYS=f"anna:{key['X-API-Key']}", KEY_REQUESTS_PER_MIN="2", KEY_CONCURRENT="1")

    async def main():
        begun, end = asyncio.Event(), asyncio.Event()

        async def body():
            begun.set()
            await end.wait()
            yield b"x"

        async with httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url="http://x") as asking:
            first = asyncio.ensure_future(
                asking.post("/clone", content=body(), headers=key | {"Content-Type": "application/json"})
            )
            await begun.wait()
            statuses = [(await asking.get("/languages", headers=key)).status_code]
            end.set()
            statuses.append((await first).status_code)
            statuses += [(await asking.get("/languages", headers=key)).status_code for _ in range(2)]
            return [*statuses, (await asking.get("/languages")).status_code]

    assert asyncio.run(main()) == [429, 422, 200, 429, 401]
    assert rejected(client) == {"too_many_at_once": 1, "too_many_requests": 1}


def test_the_reasons_are_those_of_the_docs(pytestconfig):
    text = (pytestconfig.rootpath / "docs/operations.md").read_text()
    (listed,) = re.findall(r"A request is rejected for one of nine reasons(.*?)Probes", text, re.DOTALL)
    assert re.findall(r"`([a-z_]{2,})`", listed.partition("answered error:")[2]) == [*REFUSALS]
    assert len(REFUSALS) == 9


def test_what_one_request_leaves(client, voice):
    before = scrape(client)
    assert client.post("/clone", json={"text": "Hello."} | voice).status_code == 200
    after = scrape(client)

    def more(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    for name in ("batch_pieces_count", "first_audio_seconds_count", "real_time_factor_ratio_count"):
        assert more(name) == 1
    assert more("audio_seconds_total") > 0.05
    assert more("generation_seconds_total") > 0
    assert more("prompt_cache_lookups_total", result="hit") + more("prompt_cache_lookups_total", result="miss") == 1
    assert value(after, "prompt_cache_entries") >= 1
    assert value(after, "queue_pieces") == value(after, "requests_running") == 0


class Cuda:
    """What `gpu_memory` asks of torch.cuda: no GPU is here."""

    def __init__(self, fault=None):
        self.fault = fault

    def mem_get_info(self, device):
        if self.fault:
            raise self.fault
        return 10, 40

    def memory_allocated(self, device):
        return 20

    def memory_reserved(self, device):
        return 25


def test_gpu_memory(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda()))
    (family,) = gpu_memory("cuda:0")
    found = {sample.labels["kind"]: sample.value for sample in family.samples}
    assert found == {"free": 10, "total": 40, "allocated": 20, "reserved": 25}
    assert family.samples[0].labels["gpu"] == "cuda:0"
    assert [*gpu_memory("cpu")] == []


def test_a_fault_on_the_gpu_leaves_the_other_metrics(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda(RuntimeError("an illegal access"))))
    assert [*gpu_memory("cuda:0")] == []


def test_info(client):
    info = client.get("/info").json()
    assert info["status"] == "ready"
    assert info["attention"]["running"] == "sdpa"
    assert info["attention"]["because"]
    assert set(info["dtype"]) == {"talker", "code_predictor", "codec", "speaker_encoder", "because"}
    assert info["versions"]["torch"]
    assert info["settings"]["WW_MAX_BODY_MIB"] == 4
    assert info["settings"]["WW_LOG_FORMAT"] == "text"
    assert json.dumps(info)
