"""Stores of voices to attack: how one is filled and opened again, and what is in its folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from serve.errors import ServiceError
from serve.speech.audio import Sound
from serve.voices.quotas import Quota
from serve.voices.records import NewVoice
from serve.voices.store import VoiceStore

ROOT = Path(__file__).parents[3]
QUOTA = Quota(1000, 1 << 30)


def sound_of(seed=0, count=1000):
    """A second or less of noise."""
    return Sound(np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32), 24_000, f"digest {seed}")


def voice_of(name, seed=0, count=1000, transcript="What is said."):
    """A voice to keep."""
    return NewVoice(name, "english", transcript, "Anna said yes.", sound_of(seed, count))


def opened(folder, days=30, quota=QUOTA):
    """The store, as a start opens it."""
    return VoiceStore(Path(folder), quota, days)


@contextmanager
def busy(once: Callable[[str], object], threads: int = 2) -> Iterator[None]:
    """Call ``once`` in threads, each time with another name, for as long as the block runs; no call may be refused."""
    stop, faults = threading.Event(), []

    def work(number: int) -> None:
        count = 0
        while not stop.is_set():
            try:
                once(f"{number}-{count}")
            except ServiceError as error:
                faults.append(error)
            count += 1

    workers = [threading.Thread(target=work, args=[number]) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert faults == []


def names(store, owner="anna"):
    """The names of an owner's voices, each with audio that is right."""
    found = [info.name for info in store.owned_by(owner)]
    for name in found:
        store.reference(name, owner)
    return found


def files(folder, part):
    """The names of the files in a part of a store's folder."""
    return {file.name for file in (Path(folder) / part).iterdir()}


def audio(*infos):
    """What the files of voices are called."""
    return {f"{info.id}.safetensors" for info in infos}


def run_verb(folder, *arguments, **settings):
    """``python -m serve voices``, as an operator runs it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WW_")}
    return subprocess.run(
        [sys.executable, "-m", "serve", "voices", *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(ROOT), "WW_DATA_DIR": str(folder)} | settings,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
