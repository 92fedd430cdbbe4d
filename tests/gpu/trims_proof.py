"""Try the trims of matrix/trims.yaml on this machine: run the checks with all files there, then without those that go.

    python tests/gpu/trims_proof.py [TRIM ...]

The folders that torch and the other packages are imported from (torch's site-packages, and those in PYTHONPATH) are
copied with hard links, without the trims' files; the originals are not touched. A line per check and per trim: what
fails with all files, too, says nothing of a trim, and a trim with no file here is `not seen`. A trim that breaks
something is named, and the others are tried again without it; then the exit status is 1.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHECKS = Path(__file__).with_name("trim_checks.py")
# All checks together take about two minutes; what takes much longer hangs.
TIMEOUT_S = 300
sys.path.insert(0, str(ROOT))

from matrix.trims import Trim, load_trims  # noqa: E402 - the folder above


@dataclass(frozen=True, slots=True)
class Result:
    """What a check said: ``passed``, ``failed`` or ``skipped``."""

    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Where:
    """A Python path, the folders that nothing may come from, and a scratch folder for caches."""

    path: Sequence[Path]
    originals: Sequence[Path]
    scratch: Path

    def environment(self) -> dict[str, str]:
        """Environment of a child: fresh caches, or it would be given what a run with all files has compiled."""
        caches = Path(tempfile.mkdtemp(prefix="caches-", dir=self.scratch))
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, self.path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRIM_ORIGINALS": os.pathsep.join(map(str, self.originals)),
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "TRITON_CACHE_DIR": str(caches / "triton"),
            "USE_PYTORCH_KERNEL_CACHE": "0",
            "XDG_CACHE_HOME": str(caches),
            "HF_HUB_OFFLINE": "1",
        }

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python without its own site-packages: -S."""
        process = subprocess.Popen(
            [sys.executable, "-S", *arguments],
            env=self.environment(), cwd=self.scratch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += f"\nit took more than {TIMEOUT_S} s"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def find_folders() -> list[Path]:
    """The folders to copy: those in PYTHONPATH, and the one that torch is in."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit("error: this Python has no torch: run it with the one that has")
    named = [Path(name).resolve() for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if name]
    wanted = [*named, Path(spec.origin).parents[1]]
    return [folder for folder in dict.fromkeys(wanted) if folder.is_dir() and folder != ROOT]


def matches(path: str, patterns: Iterable[str]) -> bool:
    """As find's -path does: ``*`` matches ``/``, too."""
    return any(fnmatch.fnmatchcase(path, f"*/{pattern}") for pattern in patterns)


def copy_without(folder: Path, target: Path, trims: Sequence[Trim]) -> dict[str, list[int]]:
    """Copy a folder with hard links (or, to another file system, for real), without what the trims name.

    Returns:
        For each trim the sizes in bytes of the files that it takes away.
    """
    taken: dict[str, list[int]] = {trim.name: [] for trim in trims}

    def goes(path: Path) -> bool:
        by = [trim.name for trim in trims if matches(str(path), trim.paths)]
        for name in by:
            files = [file for file in (path.rglob("*") if path.is_dir() else [path]) if not file.is_dir()]
            taken[name] += [file.lstat().st_size for file in files]
        return bool(by)

    def ignore(inside: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or goes(Path(inside, name))]

    shutil.copytree(folder, target, symlinks=True, ignore=ignore, copy_function=_link)
    return taken


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


class Proof:
    """The checks on this machine's files, and on copies of them that lack some.

    Args:
        scratch: an empty folder, for the copies and the children's caches.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.folders = find_folders()
        self.rest = [Path(name) for name in sys.path[1:] if Path(name) not in (*self.folders, ROOT, CHECKS.parent)]
        self.machine = Where([*self.folders, *self.rest], (), scratch)

    def without(self, trims: Sequence[Trim]) -> tuple[Where, dict[str, list[int]]]:
        """A copy that lacks these trims' files, and the sizes of those."""
        target = Path(tempfile.mkdtemp(prefix="copy-", dir=self.scratch))
        taken: dict[str, list[int]] = {trim.name: [] for trim in trims}
        for index, folder in enumerate(self.folders):
            for name, sizes in copy_without(folder, target / str(index), trims).items():
                taken[name] += sizes
        copies = [target / str(index) for index in range(len(self.folders))]
        return Where([*copies, *self.rest], self.folders, self.scratch), taken

    def facts(self) -> dict[str, Any]:
        """What trim_checks.py says of this machine's torch."""
        done = self.machine.python(str(CHECKS))
        if done.returncode:
            sys.exit(f"error: torch cannot be imported: {done.stderr.strip()}")
        return dict(json.loads(done.stdout.splitlines()[0]))


def run_checks(where: Where, names: Sequence[str]) -> dict[str, Result]:
    """Run checks in one child; when it dies, that check has failed, and the rest go on in the next child."""
    results: dict[str, Result] = {}
    while pending := [name for name in names if name not in results]:
        done = where.python(str(CHECKS), *pending)
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
        results |= {line["check"]: Result(line["state"], line["detail"]) for line in said}
        if silent := [name for name in pending if name not in results]:
            end = " ".join(done.stderr.strip().splitlines()[-1:])
            results[silent[0]] = Result("failed", f"the process ended with status {done.returncode}: {end}"[:400])
    return results


def run_statements(where: Where, trims: Iterable[Trim]) -> dict[str, Result]:
    """Run the trims' own checks."""
    results = {}
    for trim in trims:
        done = where.python("-c", trim.check)
        state = "failed" if done.returncode else "passed"
        results[trim.name] = Result(state, " ".join(done.stderr.strip().splitlines()[-1:]))
    return results


def choose(names: Sequence[str], cuda: str) -> list[Trim]:
    """The named trims, or all that are for this CUDA."""
    known = load_trims(ROOT / "matrix" / "trims.yaml")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"error: matrix/trims.yaml has no {', '.join(unknown)}; it has {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    return [trim for trim in known.values() if cuda in map(str, (*trim.proven, *trim.inferred))]


@dataclass(frozen=True, slots=True)
class Round:
    """One comparison: what each check said with all files and without the trims', and the sizes of those."""

    before: Mapping[str, Result]
    after: Mapping[str, Result]
    taken: Mapping[str, Sequence[int]]

    @property
    def broken(self) -> list[str]:
        """The checks that pass with all files and not without."""
        passing = (name for name, result in self.before.items() if result.state == "passed")
        return [name for name in passing if name in self.after and self.after[name].state != "passed"]


def compare(proof: Proof, before: Mapping[str, Result], trims: Sequence[Trim]) -> Round:
    """Run, without these trims' files, the checks whose result with all files is known, and the trims' own."""
    trimmed, taken = proof.without(trims)
    seen = [trim for trim in trims if taken[trim.name]]
    after = run_checks(trimmed, [*before])
    own = run_statements(trimmed, seen)
    # To start Python for each costs minutes: only what fails is run with all files, too.
    known = dict.fromkeys(own, Result("passed", ""))
    known |= run_statements(proof.machine, [trim for trim in seen if own[trim.name].state != "passed"])
    return Round({**before, **known}, {**after, **own}, taken)


def find_culprits(proof: Proof, trims: Sequence[Trim], found: Round) -> dict[str, list[str]]:
    """What each trim breaks by itself, until every broken check has its trim."""
    culprits: dict[str, list[str]] = {}
    for trim in trims:
        left = [name for name in found.broken if not any(name in names for names in culprits.values())]
        if not left:
            break
        checks = {name: found.before[name] for name in left if name not in found.taken}
        if broken := [name for name in compare(proof, checks, [trim]).broken if name in left]:
            culprits[trim.name] = broken
    return culprits


def prove(names: Sequence[str], scratch: Path) -> int:
    """Compare and print. What breaks something is put back, until the rest is harmless together."""
    proof = Proof(scratch)
    facts = proof.facts()
    print("torch {torch}, CUDA {cuda}, on {device}".format(**facts), flush=True)
    trims = choose(names, facts["cuda"])
    before = run_checks(proof.machine, facts["checks"])
    harmful = False
    while True:
        found = compare(proof, before, trims)
        for name, result in found.before.items():
            detail = (found.after if result.state == "passed" else found.before)[name].detail
            print(f"check {name}: {result.state}, trimmed {found.after[name].state}; {detail}", flush=True)
        if not found.broken:
            break
        harmful = True
        seen = [trim for trim in trims if found.taken[trim.name]]
        culprits = find_culprits(proof, seen, found) or {trim.name: ["something, together"] for trim in seen}
        for name, broken in culprits.items():
            print(f"trim {name}: breaks {', '.join(broken)}", flush=True)
        trims = [trim for trim in trims if trim.name not in culprits]
    for trim in trims:
        sizes = found.taken[trim.name]
        what = (
            f"harmless: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB" if sizes else "not seen: its files are not here"
        )
        print(f"trim {trim.name}: {what}", flush=True)
    return 1 if harmful else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trims", nargs="*", metavar="TRIM", help="default: all that are for this torch's CUDA")
    names = parser.parse_args().trims
    with tempfile.TemporaryDirectory(prefix="trims-") as scratch:
        return prove(names, Path(scratch))


if __name__ == "__main__":
    sys.exit(main())
