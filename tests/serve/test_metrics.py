"""`/metrics` and `/info`: what they say of the real app, and what they never hold."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from serve.api.metrics import Metrics
from serve.api.readings import gpu_memory
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
    metrics.rejected("busy")
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
    assert value(samples, "requests_rejected_total", reason="busy") == 1


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
