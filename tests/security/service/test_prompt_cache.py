"""Whether a reference was used before is known to its owner only: one key finds nothing of another's in the cache."""

from __future__ import annotations

import pytest

ANNA, BEN = "anna-0123456789abcdef", "ben-0123456789abcdef"


@pytest.fixture(scope="module")
def keyed(make_client, ready):
    with make_client(API_KEYS=f"anna:{ANNA},ben:{BEN}") as client:
        ready(client)
        yield client


def lookups(client):
    lines = client.get("/metrics", headers={"Authorization": f"Bearer {ANNA}"}).text.splitlines()
    found = [line.split() for line in lines if line.startswith("wheelwright_prompt_cache_lookups_total")]
    return {name.partition('result="')[2].rstrip('"}'): int(float(number)) for name, number in found}


def result_of(client, body, key):
    """``hit`` or ``miss``: which of the two counters the request moved."""
    before = lookups(client)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    assert client.post("/clone", json=body, headers=headers).status_code == 200
    after = lookups(client)
    (moved,) = [name for name in after if after[name] != before[name]]
    return moved


def test_a_key_does_not_find_what_another_one_used(keyed, voice):
    body = {"text": "Hello.", "seed": 1} | voice
    assert [result_of(keyed, body, key) for key in (ANNA, ANNA)] == ["miss", "hit"]
    assert [result_of(keyed, body, key) for key in (BEN, BEN, ANNA)] == ["miss", "hit", "hit"]


def test_nor_the_likeness_alone(keyed, voice):
    body = {"text": "Hello.", "x_vector_only": True, "ref_audio_base64": voice["ref_audio_base64"]}
    assert [result_of(keyed, body, key) for key in (ANNA, BEN)] == ["miss", "miss"]


def test_both_hear_the_same(keyed, voice):
    """What is encoded anew for another key is the same voice, bit for bit."""
    body = {"text": "The same words.", "seed": 7} | voice
    first, second = (
        keyed.post("/clone", json=body, headers={"Authorization": f"Bearer {key}"}).content for key in (ANNA, BEN)
    )
    assert first == second


def test_without_keys_everyone_is_one_owner(client, voice):
    body = {"text": "Hello.", "ref_text": "A transcript of this test alone."} | {
        "ref_audio_base64": voice["ref_audio_base64"]
    }
    assert [result_of(client, body, None) for _ in range(2)] == ["miss", "hit"]
