"""``make fuzz``: attack every target for its share of the time, with inputs that nobody has tried yet.

    python tests/fuzz/run.py --seconds 600 [--only NAME ...] [--seed N]

Each run has a seed of its own and prints it: the same seed tries the same inputs. What is found is printed in its
smallest form and kept in ``.build/fuzz/``; the exit status is 1 then.
"""
# Hypothesis and no libFuzzer: atheris has wheels for few Pythons, and steers by the coverage of C code, which is none
# of ours. What steers here is mutation of right inputs, and a property for each target that says what is right.

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings  # noqa: E402

from tests.fuzz.target import Target, all_targets  # noqa: E402

#: Address space: an input that takes this much takes too much.
_MEMORY = 4 << 30
_FIRST, _GROWTH, _MOST = 50, 2, 5_000


@dataclass(slots=True)
class Hunt:
    """What became of one target."""

    target: Target
    seed: int
    tried: int = 0
    slowest: float = 0.0
    found: str | None = None
    value: object = None


def hunt(target: Target, first: int, seconds: float) -> Hunt:
    """Try batches of inputs, each twice as large as the last, until the time is over or one is answered wrongly."""
    if target.prepare is not None:
        target.prepare()
    done, size, until = Hunt(target, first), _FIRST, time.monotonic() + seconds
    while done.found is None and time.monotonic() < until:
        _batch(done, size, until)
        done.seed += 1
        size = min(size * _GROWTH, _MOST)
    done.seed -= 1
    return done


def _batch(done: Hunt, size: int, until: float) -> None:
    @seed(done.seed)
    @settings(
        max_examples=size, deadline=None, database=None, verbosity=Verbosity.quiet, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(done.target.inputs)
    def once(value: object) -> None:
        if failing or time.monotonic() < until:  # what failed is still made smaller
            done.value = value
            start = time.monotonic()
            done.tried += 1
            try:
                done.target.answer(value)
            except BaseException:
                failing.append(value)
                raise
            done.slowest = max(done.slowest, time.monotonic() - start)

    failing: list[object] = []
    try:
        once()
    except Exception:  # noqa: BLE001 - any error but the documented one is what is hunted
        done.value = failing[-1] if failing else done.value
        done.found = traceback.format_exc()


def _keep(done: Hunt) -> Path:
    folder = ROOT / ".build" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{done.target.name}-{done.seed}.txt"
    path.write_text(f"{done.value!r}\n\n{done.found}", encoding="utf-8", errors="backslashreplace")
    return path


def main() -> int:
    """Hunt in all targets, or in those that are named."""
    targets = all_targets()
    parser = argparse.ArgumentParser(prog="python tests/fuzz/run.py", description="Attack what reads strangers' bytes.")
    parser.add_argument("--seconds", type=float, default=600, help="in all; each target gets its share (600)")
    parser.add_argument("--only", nargs="+", choices=list(targets), metavar="NAME", help=", ".join(targets))
    parser.add_argument("--seed", type=int, help="try again what a run with this seed tried")
    options = parser.parse_args()
    names = options.only or list(targets)
    first = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print(f"seed {first}: {len(names)} targets, {options.seconds:.0f} s", flush=True)
    wrong = 0
    for name in names:
        done = hunt(targets[name], first, options.seconds / len(names))
        said = "nothing found" if done.found is None else f"FOUND, kept in {_keep(done).relative_to(ROOT)}"
        print(f"{name:20} {done.tried:8,} inputs, the slowest {done.slowest:5.2f} s: {said}", flush=True)
        if done.found is not None:
            wrong += 1
            print(ascii(done.value)[:2000], done.found[-3000:], f"again: --seed {done.seed} --only {name}", sep="\n")
    print(f"{wrong} of {len(names)} targets answered wrongly" if wrong else "no input was answered wrongly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
