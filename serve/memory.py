"""How much memory there is and how much is taken: by the control groups that this process is in, else by the machine.

Page cache does not count as taken: the kernel takes it back before it kills. A control group above may hold others,
too, so the one with the least left decides. Read anew when it matters: neighbours grow.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MIB = 1024 * 1024
# The engine's share of what is left where its need was not measured, and the provisional pool's until it is loaded.
HALF, EIGHTH = 2, 8
# Of what is left, below this the engine's need is measured: a share of little may be too little for it.
MEASURED_BELOW = 2048 * MIB
READ_EVERY_S = 0.5
# Freed memory lies between what is in use, and the C library keeps it: a flood of bodies that are refused took 140 MB
# more than was counted, in 1.5 s. It is given back when so much was freed: half of what is spare, or for larger memory,
# where it may cost more milliseconds, this part of what is available.
FREED_SHARE = 64
# Of GNU's mallopt.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
ARENAS = 2
# A body from here on lies in pages of its own, which grow in place and go back to the system at once. Left alone, the C
# library raises this to 32 MiB when the weights' buffers are freed, and bodies that grow leave holes in its heap.
OWN_PAGES = 256 * 1024
# What a connection holds at most before its request is counted: a part that was read, and its copy in the parser.
CONNECTION_COST = 128 * 1024
# Of the machine's memory, where no control group gives a part of it to this service: others live there, too.
MACHINES_SHARE = 2


@dataclass(frozen=True, slots=True)
class Memory:
    """A limit, and what counts against it.

    Attributes:
        limit: bytes.
        taken: bytes of it that cannot be taken back: anonymous memory, shared memory, the kernel's own.
        source: where the limit comes from, for people.
    """

    limit: int
    taken: int
    source: str

    @property
    def left(self) -> int:
        """Bytes that can still be taken."""
        return max(0, self.limit - self.taken)


def read_memory(root: Path = Path("/")) -> Memory:
    """The memory of which the least is left.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    machine = _machine(root)
    groups = [group for group in _groups(root) if group.limit < machine.limit]
    return min([*groups, machine], key=lambda memory: memory.left)


def keep_memory_low() -> None:
    """What must be set before the first thread and before torch is imported, so that memory does not grow with use."""
    with contextlib.suppress(AttributeError, OSError):
        # GNU's: freed memory of one thread is not seen by the next, so few heaps keep less of it.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
    if read_memory().left < MEASURED_BELOW:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, OWN_PAGES)
        # oneDNN keeps a program for every shape that it has met, 1,024 of them: 200 MB after some minutes. With 16
        # the tiny checkpoint took up to 70 % more processor time, and stayed where it was.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")


def give_back() -> None:
    """Give memory that was freed and is kept for later back to the system; a few milliseconds."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library than GNU's keeps less, and has no such call
        return


def _machine(root: Path) -> Memory:
    rows = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
    total, available = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return Memory(total, total - available, "the machine")


def _groups(root: Path) -> Iterator[Memory]:
    """Every control group from this process's own up to the top that has a limit."""
    try:
        rows = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for row in rows:
        _, controllers, path = row.split(":", 2)
        if not controllers:
            yield from _walk(mounted, path, _version_2)
        elif "memory" in controllers.split(","):
            yield from _walk(mounted / "memory", path, _version_1)


def _walk(top: Path, path: str, read: Callable[[Path], Memory | None]) -> Iterator[Memory]:
    # In a container the path may be the host's, and what is mounted only the container's own group: that is the top.
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    for count in range(len(parts), -1, -1):
        folder = top.joinpath(*parts[:count])
        try:
            memory = read(folder)
        except (OSError, ValueError, KeyError):  # not here, or not of this form: the next one up
            continue
        if memory is not None:
            yield memory


def _version_2(folder: Path) -> Memory | None:
    limit = (folder / "memory.max").read_text().strip()
    if limit == "max":
        return None
    stat = _stat(folder)
    taken = stat["anon"] + stat.get("shmem", 0) + stat.get("sock", 0)
    taken += max(0, stat.get("kernel", 0) - stat.get("slab_reclaimable", 0))
    return Memory(int(limit), taken, "the control group's memory.max")


def _version_1(folder: Path) -> Memory | None:
    stat = _stat(folder)
    taken = stat["total_rss"] + stat.get("total_shmem", 0)
    return Memory(stat["hierarchical_memory_limit"], taken, "the control group's memory.limit_in_bytes")


def _stat(folder: Path) -> dict[str, int]:
    rows = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return {name: int(value) for name, value in rows}


@dataclass(frozen=True, slots=True)
class Budget:
    """What the memory that is left after the load is for; all in bytes.

    Attributes:
        memory: as it was after the load.
        spare: for what nobody counts (``WW_MEMORY_SPARE_MIB``).
        work: for the engine, which makes one batch at a time.
        cache: for encoded voices.
        connections: for what connections hold before their request is counted.
        pool: the rest, for bodies, decoded audio and answers.
    """

    memory: Memory
    spare: int
    work: int
    cache: int
    connections: int

    @property
    def available(self) -> int:
        """What is left less what is spare; of a machine that is shared a part."""
        left = self.memory.left // (MACHINES_SHARE if self.memory.source == "the machine" else 1)
        return max(0, left - self.spare)

    @property
    def pool(self) -> int:
        """What requests may hold, all together."""
        return max(MIB, self.available - self.work - self.cache - self.connections)

    def explain(self) -> str:
        """The formula with its numbers."""
        left = f"limit {_mib(self.memory.limit)} ({self.memory.source}) - taken {_mib(self.memory.taken)}"
        if self.memory.source == "the machine":
            left = f"({left}) / {MACHINES_SHARE}"
        parts = {
            "spare": self.spare,
            "engine": self.work,
            "prompt cache": self.cache,
            "connections": self.connections,
        }
        less = "".join(f" - {name} {_mib(size)}" for name, size in parts.items())
        return f"{_mib(self.pool)} MiB for requests = {left}{less}, in MiB"


def plan_budget(memory: Memory, *, spare: int, cache: int, work: int | None = None) -> Budget:
    """Share out what is left.

    Args:
        memory: after the load.
        spare: see ``Budget``.
        cache: most bytes of encoded voices; a sixteenth of what is left at most.
        work: what the engine needs, where that was measured; else it gets half.
    """
    available = Budget(memory, spare, 0, 0, 0).available
    share = available // EIGHTH
    return Budget(memory, spare, available // HALF if work is None else work, min(cache, share // 2), share)


class Counted(Protocol):
    """What requests hold.

    Attributes:
        used: bytes, now.
        freed: bytes that they have given back since the start.
    """

    used: int
    freed: int


class Unexplained:
    """Bytes that are taken beyond the budget: by neighbours, or by memory that was freed and is kept for later."""

    def __init__(self, budget: Budget, counted: Counted, read: Callable[[], Memory] = read_memory) -> None:
        """Take the budget, what requests hold, and what reads the memory."""
        self._budget = budget
        self._counted = counted
        self._read = read
        self._value = 0
        self._until = 0.0
        self._freed = counted.freed
        self._most_freed = max(budget.spare // HALF, budget.available // FREED_SHARE, MIB)

    def __call__(self) -> int:
        """The bytes; looked up twice a second, and when much was freed: that goes back to the system first."""
        now = time.monotonic()
        if self._counted.freed - self._freed >= self._most_freed:
            self._give_back()
        elif now >= self._until:
            self._value = self._look()
            if self._value:
                self._give_back()
        else:
            return self._value
        self._until = now + READ_EVERY_S
        return self._value

    def _give_back(self) -> None:
        self._freed = self._counted.freed
        give_back()
        self._value = self._look()

    def _look(self) -> int:
        budget = self._budget
        # Of the machine the part that this service leaves alone is nobody's business here.
        expected = budget.memory.limit - budget.available - budget.spare
        expected += budget.work + budget.cache + budget.connections + self._counted.used
        return max(0, self._read().taken - expected)


def measure_peak(work: Callable[[], None]) -> int | None:
    """Most bytes that a piece of work takes on top of what is taken; None where the system does not tell."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        clear.write_text("5")  # the most so far is what is taken now
        before = _peak(status)
        work()
        return _peak(status) - before
    except (OSError, KeyError, ValueError):
        return None


def _peak(status: Path) -> int:
    rows = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(rows["VmHWM"].split()[0]) * 1024


def _mib(size: int) -> str:
    return f"{size / MIB:.0f}"
