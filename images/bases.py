"""Base images: from the registry, or bootstrapped with mmdebstrap where no registry answers.

A bootstrapped base is handed to the same Dockerfile as a named context that takes the base's name.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from images import apt
from images.engine import Engine, connect
from images.recipe import EPOCH, Recipe, Stack
from matrix import Compat
from matrix.cli import say
from matrix.errors import WheelwrightError
from matrix.masking import mask
from wheel_resolver.fetching.fetch import cache_folder
from wheel_resolver.files import alone

MODES = ("auto", "registry", "bootstrap")
BOOTSTRAP_PACKAGES = ("ca-certificates", "python3")
# As Debian's own slim images: no documentation, no other languages, no lists of packages.
BOOTSTRAP_OPTIONS = (
    *(
        f"--dpkgopt=path-exclude=/usr/share/{folder}/*"
        for folder in ("doc", "groff", "info", "lintian", "linda", "locale", "man")
    ),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    # aux-cache holds inode numbers: the one file that would differ each time.
    '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/ldconfig "$1"/var/log/*',
)
_REGISTRY_TIMEOUT_S = 20


class UnavailableError(WheelwrightError):
    """What a target needs cannot be had where it is built. Never answered by another Python or by SDPA."""


class RefusedError(WheelwrightError):
    """A registry did not give what it was asked for; ``gone``: it answered, and has no such image."""

    def __init__(self, what: str, *, gone: bool) -> None:
        super().__init__(what)
        self.gone = gone


@dataclass(frozen=True, slots=True)
class Base:
    """A base image that a build can use.

    Attributes:
        name: the reference that the Dockerfile names.
        context: what takes its place, ``docker-image://...``, or None where the registry's own is used.
        how: one line for people.
    """

    name: str
    context: str | None
    how: str


class BaseProvider:
    """Finds a base for each stack; asks the registry, and bootstraps, once a name."""

    def __init__(self, engine: Engine, compat: Compat, mode: str = "auto") -> None:
        """Take the engine, the facts and one of ``MODES``."""
        self._engine = engine
        self._compat = compat
        self._mode = mode
        self._answers: dict[str, str | None] = {}

    def provide(self, stack: Stack) -> Base:
        """The base of a stack.

        Raises:
            UnavailableError: no registry answers, and no suite has this Python.
        """
        refused = "the registry was not asked (--base bootstrap)"
        if self._mode != "bootstrap":
            asked = self.registry_refuses(stack.base)
            if asked is None:
                return Base(stack.base, None, f"{stack.base} from the registry")
            refused = asked
        can = self._compat.bases.bootstrap
        machine = platform.machine()  # mmdebstrap runs here, and makes a base for what runs here
        fits = can.get(stack.suite) == stack.python and stack.platform == f"linux_{machine}"
        if self._mode == "registry" or not fits:
            known = ", ".join(f"{suite} {python}" for suite, python in can.items()) + f" (for {machine})"
            raise UnavailableError(
                f"no base with Python {stack.python} for {stack.platform}: {stack.base}: {refused};"
                f" can be bootstrapped: {known}",
                remedy="build it where a registry answers",
            )
        tag = bootstrap(self._engine.client, stack.suite)
        return Base(
            stack.base, f"docker-image://{tag}", f"bootstrapped {stack.suite} in place of {stack.base}: {refused}"
        )

    def toolkit(self, recipe: Recipe) -> str:
        """Where a source build's CUDA toolkit comes from: ``image``, or ``packages`` where no registry has that.

        Raises:
            UnavailableError: neither has it.
        """
        image = str(recipe.cuda_devel)
        refused = "the registry was not asked (--base bootstrap)"
        if self._mode != "bootstrap":
            asked = self.registry_refuses(image)
            if asked is None:
                return "image"
            refused = asked
        if self._mode == "registry" or "toolkit.txt" not in recipe.stack.lock.lists:
            raise UnavailableError(
                f"no CUDA {recipe.stack.cuda} toolkit: {image}: {refused}; CUDA 13's can be had as packages",
                remedy="build it where a registry answers",
            )
        return "packages"

    def registry_refuses(self, image: str) -> str | None:
        """Why the registry (or the engine's own store) has no such image; None when it has."""
        if image not in self._answers:
            self._answers[image] = self._ask(image)
        return self._answers[image]

    def _ask(self, image: str) -> str | None:
        try:
            self._engine.client.images.get(image)
        except ImageNotFound:
            pass
        else:
            return None
        try:
            registry_digest(self._engine, image)
        except RefusedError as error:
            if error.gone and "@" in image:  # another base in its place would not be what is locked
                raise UnavailableError(
                    f"the registry no longer has the locked {image}",
                    remedy="lock the digest that the tag has now: make lock UPGRADE=1",
                ) from error
            return error.what
        return None


def registry_digest(engine: Engine, image: str) -> str:
    """The digest of an image in its registry, which the engine asks: it has the credentials.

    Raises:
        RefusedError: there is no such image, or no answer in time.
    """
    # A client of its own: the engine may wait for a minute where packets are dropped.
    client = connect(engine.address, _REGISTRY_TIMEOUT_S)
    try:
        return str(client.images.get_registry_data(image).id)
    except APIError as error:
        what = mask(str(error.explanation or error).splitlines()[0])[:200]
        raise RefusedError(what, gone=isinstance(error, NotFound)) from error
    except (DockerException, OSError) as error:
        raise RefusedError(f"no answer in {_REGISTRY_TIMEOUT_S} s ({type(error).__name__})", gone=False) from error
    finally:
        client.close()


def bootstrap(client: docker.DockerClient, suite: str) -> str:
    """The bootstrapped base of a Debian suite, made once per engine, however many ask at once.

    Returns:
        Its tag.

    Raises:
        WheelwrightError: mmdebstrap is missing or failed; the end of what it said is shown.
    """
    made_of = hashlib.sha256("\n".join((*BOOTSTRAP_PACKAGES, *BOOTSTRAP_OPTIONS)).encode()).hexdigest()
    name = f"{suite}-{made_of[:8]}"
    tag = f"wheelwright-base:{name}"
    with alone(
        cache_folder() / "locks" / f"base-{name}.lock", partial(say, f"another run bootstraps {suite}: waiting")
    ):
        try:
            client.images.get(tag)
        except ImageNotFound:
            _bootstrap(client, suite, name)
    return tag


def _bootstrap(client: docker.DockerClient, suite: str, name: str) -> None:
    _require_mmdebstrap()
    say(f"bootstrapping Debian {suite} with mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="wheelwright-base-") as scratch:
        archive = Path(scratch) / "base.tar"
        done = subprocess.run(
            [
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(BOOTSTRAP_PACKAGES)}",
                *BOOTSTRAP_OPTIONS,
                suite,
                str(archive),
            ],
            # No time of this run in it: the same packages make the same bytes.
            env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise WheelwrightError(
                f"mmdebstrap {suite} failed",
                said=mask(done.stderr.strip()).splitlines()[-8:],
                remedy="see whether Debian's archive answers",
            )
        client.api.import_image_from_file(str(archive), repository="wheelwright-base", tag=name)


def _require_mmdebstrap() -> None:
    if shutil.which("mmdebstrap"):
        return
    why = apt.can_install()
    if why is not None:
        raise WheelwrightError(f"mmdebstrap is missing, and cannot be installed: {why}", remedy="install mmdebstrap")
    state = apt.HostState.load()
    apt.update()
    apt.install(["mmdebstrap", "debian-archive-keyring"], state)
