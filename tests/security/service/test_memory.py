"""Memory: what there is, and that nothing that a caller sends takes more than is counted."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile

from serve.api.bodies import cost_of_json, parse_json
from serve.memory import MIB, Memory, Unexplained, plan_budget, read_memory
from serve.pool import Pool, current
from serve.speech.audio import AudioLimits, decode_audio
from tests.serve.refused import error_of

GIB = 1024 * MIB
LIMITS = AudioLimits(64 * MIB, 1, 30)


@dataclass
class Counts:
    """What requests hold and have freed."""

    used: int
    freed: int = 0


def machine(root, total_kib=16 * 1024 * 1024, available_kib=12 * 1024 * 1024):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {total_kib} kB\nMemFree: 1 kB\nMemAvailable: {available_kib} kB\n")
    return root


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_without_a_group_it_is_the_machines(tmp_path):
    assert read_memory(machine(tmp_path)) == Memory(16 * GIB, 4 * GIB, "the machine")


def test_page_cache_is_not_taken(tmp_path):
    root = machine(tmp_path)
    (root / "proc/self/cgroup").write_text("0::/\n")
    stat = (
        f"anon {300 * MIB}\nfile {100 * MIB}\nkernel {10 * MIB}\nslab_reclaimable {4 * MIB}\nshmem {2 * MIB}\nsock 0\n"
    )
    group(root / "sys/fs/cgroup", memory__max=f"{512 * MIB}\n", memory__stat=stat)
    memory = read_memory(root)
    assert (memory.limit, memory.taken) == (512 * MIB, 308 * MIB)
    assert "memory.max" in memory.source


def test_the_group_with_the_least_left_decides(tmp_path):
    root = machine(tmp_path)
    (root / "proc/self/cgroup").write_text("0::/pod/service\n")
    group(root / "sys/fs/cgroup/pod/service", memory__max=f"{2 * GIB}\n", memory__stat=f"anon {100 * MIB}\n")
    group(root / "sys/fs/cgroup/pod", memory__max=f"{3 * GIB}\n", memory__stat=f"anon {2900 * MIB}\n")
    assert read_memory(root) == Memory(3 * GIB, 2900 * MIB, "the control group's memory.max")
    group(root / "sys/fs/cgroup/pod", memory__max="max\n")
    assert read_memory(root).limit == 2 * GIB


def test_version_1_and_a_path_of_the_host_that_is_not_mounted_here(tmp_path):
    root = machine(tmp_path)
    (root / "proc/self/cgroup").write_text("5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    stat = f"cache 5\nrss 1\nhierarchical_memory_limit {512 * MIB}\ntotal_rss {200 * MIB}\ntotal_shmem {MIB}\n"
    group(root / "sys/fs/cgroup/memory", memory__stat=stat)
    assert read_memory(root).left == (512 - 201) * MIB


def test_damaged_or_unlimited_groups_are_passed_over(tmp_path):
    root = machine(tmp_path)
    (root / "proc/self/cgroup").write_text("4:memory:/../..\n0::/a\n")
    group(root / "sys/fs/cgroup/memory", memory__stat=f"hierarchical_memory_limit {2**63 - 4096}\ntotal_rss 1\n")
    group(root / "sys/fs/cgroup/a", memory__max="nonsense\n")
    assert read_memory(root).source == "the machine"


def test_the_shares_add_up_and_are_explained():
    budget = plan_budget(Memory(512 * MIB, 300 * MIB, "x"), spare=16 * MIB, cache=64 * MIB, work=100 * MIB)
    assert sum((budget.memory.taken, budget.spare, budget.work, budget.cache, budget.connections, budget.pool)) == (
        budget.memory.limit
    )
    assert f"{budget.pool // MIB}" in budget.explain()
    assert plan_budget(Memory(10, 10, "x"), spare=16 * MIB, cache=0).pool == MIB  # never none at all


def test_a_neighbours_growth_is_seen():
    budget = plan_budget(Memory(512 * MIB, 300 * MIB, "x"), spare=16 * MIB, cache=0, work=50 * MIB)
    expected = 300 * MIB + 50 * MIB + budget.connections + 7
    for more, seen in [(9, 9), (-9, 0)]:
        assert Unexplained(budget, Counts(7), lambda more=more: Memory(512 * MIB, expected + more, "x"))() == seen


def test_what_requests_freed_goes_back_to_the_system_before_half_of_the_spare_is_lost(monkeypatch):
    budget = plan_budget(Memory(512 * MIB, 300 * MIB, "x"), spare=16 * MIB, cache=0, work=50 * MIB)
    given_back = []
    monkeypatch.setattr("serve.memory.give_back", lambda: given_back.append(counts.freed))
    counts = Counts(0)
    unexplained = Unexplained(budget, counts, lambda: Memory(512 * MIB, 300 * MIB, "x"))
    for _ in range(40):
        counts.freed += MIB
        unexplained()
    assert given_back == [8 * MIB, 16 * MIB, 24 * MIB, 32 * MIB, 40 * MIB]


# Bodies grow side by side, and every other one goes.
HOLES = """
from serve import memory
def anonymous():
    return int(next(row for row in open("/proc/self/status") if row.startswith("RssAnon")).split()[1]) * 1024
memory.read_memory = lambda: memory.Memory(512 * memory.MIB, 300 * memory.MIB, "x")
memory.keep_memory_low()
weights = bytearray(31 * memory.MIB)
del weights
before, part, bodies = anonymous(), bytes(64 * 1024), [bytearray() for _ in range(40)]
for _ in range(24):
    for body in bodies:
        body += part
del bodies[::2], body
print(anonymous() - before, sum(map(len, bodies)))
"""


def test_bodies_that_are_gone_leave_no_memory_behind_in_a_small_container():
    done = subprocess.run([sys.executable, "-c", HOLES], check=True, capture_output=True, text=True)
    taken, held = map(int, done.stdout.split())
    assert held == 30 * MIB
    assert taken < held + 16 * MIB


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"a": "x" * 3_000_000}),
        json.dumps({"a": "\U0001f600" + "x" * 3_000_000}, ensure_ascii=False),
        json.dumps({"a": "\U0001f600" + "x" * 3_000_000}),
        json.dumps({"a": "x" * 3_000_000 + '"' + "\u0431\U0001f600"}, ensure_ascii=False),
        json.dumps({"a": "x" * 3_000_000, "b": "\u00e9"}, ensure_ascii=False),
        json.dumps({"a": [{"text": "x"}] * 20_000}),
        json.dumps({"a": {str(number): number for number in range(20_000)}}),
        json.dumps({"a": [[]] * 30_000}),
    ],
    ids=["text", "wide", "escaped", "a quote in it", "another is wide", "objects", "names", "lists"],
)
def test_json_takes_no_more_than_is_counted(content):
    body = content.encode()
    tracemalloc.start()
    try:
        kept = parse_json(body, 100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept
    assert peak <= cost_of_json(body) + 4096


def test_a_wide_text_does_not_make_the_audio_dear():
    audio = b'{"text": "Gr\xc3\xbc\xc3\x9fe \\"x\\"", "ref_audio_base64": "' + b"A" * 1_000_000 + b'"}'
    assert cost_of_json(audio) < 2.1 * len(audio)


@pytest.mark.parametrize(
    ("kind", "subtype", "rate", "channels"),
    [
        ("WAV", "PCM_16", 192_000, 2),
        ("FLAC", None, 48_000, 2),
        ("OGG", "VORBIS", 44_100, 1),
        ("WAV", "FLOAT", 8_000, 1),
    ],
)
def test_audio_takes_no_more_than_is_counted(kind, subtype, rate, channels):
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, (20 * rate, channels)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    content = file.getvalue()
    pool, most = Pool(512 * MIB, 512 * MIB), []
    holding = pool.holding("a")
    count = pool._count
    pool._count = lambda *what: (count(*what), most.append(pool.used))
    token = current.set(holding)
    tracemalloc.start()
    try:
        sound = decode_audio(content, LIMITS, "f")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        current.reset(token)
    assert sound.samples.nbytes <= pool.used
    assert peak <= max(most) + len(content) + 3 * MIB  # the parts that are decoded one by one


def test_a_body_that_can_never_fit_is_told_before_it_is_sent(make_client, ready):
    with make_client() as client:
        ready(client)
        client.app_state["service"].pool.total = MIB
        headers = {"Content-Type": "application/json", "Content-Length": str(2 * MIB)}
        error = error_of(client.post("/clone", content=iter([b"{"]), headers=headers), 413, "body_too_large")
        assert str(MIB) in error["message"]
        assert "memory" in error["remedy"]


def test_nothing_is_held_when_requests_are_over(make_client, ready, voice, tmp_path):
    with make_client(DATA_DIR=str(tmp_path)) as client:
        ready(client)
        pool = client.app_state["service"].pool
        said = {"text": "Hello."} | voice
        assert client.post("/clone", json=said).status_code == 200
        assert client.post("/clone", json=said | {"stream": True}).status_code == 200
        assert client.post("/clone-batch", json={"items": [{"text": "Hi."}] * 3} | voice).status_code == 200
        assert client.post("/clone", content=b"{", headers={"Content-Type": "application/json"}).status_code == 422
        assert (pool.used, pool.coming) == (0, 0)
        memory = client.get("/info").json()["memory"]
        assert memory["requests"] == {"limit_bytes": pool.total, "held_bytes": 0}
        assert "MiB for requests" in memory["budget"]["formula"]
