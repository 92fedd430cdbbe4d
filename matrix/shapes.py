"""The scalar shapes that several data files share. Every version is a string: YAML reads 3.10 as the number 3.1."""

from __future__ import annotations

from matrix.spec import Choice, Text, exactly

PYTHON = Text("a Python version such as 3.12", exactly(r"\d\.\d{1,2}t?"), version=True)
VERSION = Text(
    "a version such as 2.9.1",
    exactly(r"\d{1,4}(?:\.\d{1,4}){0,3}(?:(?:a|b|rc|\.post|\.dev)\d{1,8})?"),
    version=True,
)
MINOR = Text("a version such as 2.9", exactly(r"\d{1,2}\.\d{1,3}"), version=True)
TORCH = Text("a torch version such as 2.9 or 2.9.1", exactly(r"\d{1,2}\.\d{1,3}(?:\.\d{1,3})?"), version=True)
TORCH_PATCH = Text("a full torch version such as 2.9.1", exactly(r"\d{1,2}\.\d{1,3}\.\d{1,3}"), version=True)
CUDA = Text("a CUDA version such as 12.8, or cpu", exactly(r"\d{1,2}\.\d|cpu"), version=True)
DRIVER = Text("an NVIDIA driver such as 580.65.06 or 580", exactly(r"\d{3}(?:\.\d{1,3}){0,2}"), version=True)
DAY = Text("a date such as 2026-11-21, in quotes", exactly(r"\d{4}-\d\d-\d\d"))
CAPABILITY = Text("a compute capability such as 8.6", exactly(r"\d{1,2}\.\d"), version=True)
SPECIFIER = Text(
    "a version specifier such as >=2.8,<3",
    exactly(r"(?:[<>]=?|==|!=|~=) ?\d[\d.a-z]*(?:, ?(?:[<>]=?|==|!=|~=) ?\d[\d.a-z]*)*"),
)
#: As people write them in a matrix; ``matrix.typed`` reads them and says what is wrong with one.
ASKED_PYTHON = Text("a Python version such as 3.12", exactly(r"(?:[A-Za-z]{2,7}[ -]?)?\d[\d.x*]{1,10}t?"), version=True)
ASKED_TORCH = Text(
    "a torch version such as 2.9 or 2.9.1",
    exactly(r"(?:[A-Za-z]{1,7})? ?(?:[<>=!~]{1,3} ?)?v?\d[\w.+*]{0,63}(?:, ?[<>=!~]{1,3} ?\d[\w.*]{0,63})*"),
    version=True,
)
ASKED_CUDA = Text(
    "a CUDA version such as 12.8, or cpu",
    exactly(r"(?:[A-Za-z]{1,4}[ -]?)?\d[\d.x*]{1,10}|[Cc][Pp][Uu]|none"),
    version=True,
)
ASKED_ABI = Text("derived, TRUE or FALSE", exactly(r"derived|(?:cxx11_?abi[ =_]?)?(?:[A-Za-z]{4,5}|[01])"))
ASKED_PLATFORM = Text("a platform such as linux_x86_64", exactly(r"[A-Za-z0-9][A-Za-z0-9_/-]{2,40}"))
ASKED_SPECIFIER = Text(
    "a version specifier such as >=2.8,<3",
    exactly(
        r"(?:[Ff]lash[-_][Aa]ttn ?)?(?:(?:[<>]=?|==|!=|~=) ?)?v?\d[\d.a-z*]*"
        r"(?:, ?(?:[<>]=?|==|!=|~=) ?\d[\d.a-z*]*)*"
    ),
)
SHA256 = Text("a sha256: 64 hex digits", exactly(r"[0-9a-f]{64}"))
NAME = Text("a name: a-z, 0-9, '.', '_', '-', at most 63 characters", exactly(r"[a-z0-9][a-z0-9._-]{0,62}"))
#: The tiers of targets: each is a group of the build graph, in which targets and groups share their names.
TIERS = ("default", "extra", "source")
#: What the names of generated targets of the build graph begin with (``images.graph``).
GENERATED = ("stack", "builder", "toolkit")
TARGET = Text(
    f"a name of a target: a-z, 0-9, '_', '-', at most 63 characters, none of {', '.join(TIERS)}, and none that begins "
    f"with {', '.join(f'{kind}-' for kind in GENERATED)}: the build graph has these names, and no dots",
    exactly(rf"(?!(?:{'|'.join(TIERS)})$)(?!(?:{'|'.join(GENERATED)})-)[a-z0-9][a-z0-9_-]{{0,62}}"),
    remedy="rename the target, such as t4 or a10g-cu128; matrix/lock.yaml follows with `make lock`",
)
ABI = Choice(("TRUE", "FALSE"))
PLATFORM = Choice(("linux_x86_64", "linux_aarch64"))
