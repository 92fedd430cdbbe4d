"""Packages from which transformers takes an attention without being asked: they are kept out of it.

With `kernels` (Hugging Face) installed, transformers 4.57.3 answers a request for flash_attention_2 that flash-attn
cannot serve with a kernel that it downloads from the hub, where it otherwise raises an error
(``PreTrainedModel._check_and_adjust_attn_implementation`` in modeling_utils.py). This version has no setting against
that (``USE_HUB_KERNELS`` is of later ones); but it looks for the package only while it is imported
(``is_kernels_available`` in utils/import_utils.py, ``_kernels_available`` in integrations/hub_kernels.py), so hiding
the package for so long is enough.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, cast

from serve.engines.engine import KeptOut

# images/inside.py has the same list for images, where none of these may be installed at all. flash_attn_3 is not in
# it: transformers takes that only when flash_attention_3 is asked for, or no attention at all.
PACKAGES: Mapping[str, str] = {
    "kernels": "transformers would replace flash-attn by a kernel that it downloads from the hub",
}


@contextmanager
def kept_out() -> Iterator[None]:
    """Within this context none of `PACKAGES` can be imported or found; afterwards ``sys.modules`` is as before."""
    modules = cast("MutableMapping[str, Any]", sys.modules)
    real = {name: modules[name] for name in PACKAGES if name in modules}
    # The import system takes None for "cannot be imported": ModuleNotFoundError from `import`, None from find_spec.
    modules.update(dict.fromkeys(PACKAGES))
    try:
        yield
    finally:
        for name in PACKAGES:
            modules.pop(name, None)
        modules.update(real)


def find_kept_out() -> tuple[KeptOut, ...]:
    """The packages of `PACKAGES` that are installed here; none in our images."""
    return tuple(
        KeptOut(name, version_of(name), because)
        for name, because in PACKAGES.items()
        if importlib.util.find_spec(name) is not None
    )


def version_of(package: str) -> str | None:
    """The version of the distribution with that name; None if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
