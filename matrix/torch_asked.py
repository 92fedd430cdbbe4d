"""A torch as people write it: ``2.9``, ``2.9.0+cu128`` as pip prints it, ``torch==2.9.*``, ``>=2.9,<2.11``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix.values import Cuda

_FLAGS = re.IGNORECASE | re.ASCII
#: What is longer is no version; int() refuses more than 4,300 digits with words of its own.
_LONGEST = 128
_OPERATORS = ("<", ">", "=", "!", "~")
_EXACT = re.compile(r"={1,3}\s*v?([^*,\s]+)", _FLAGS)
_PREFIX = re.compile(r"(?:={1,2}\s*)?v?(\d{1,4}(?:\.\d{1,4})?)\.[*x]", _FLAGS)
_MAJOR = re.compile(r"\d{1,4}", re.ASCII)
_CUDA_BUILD = re.compile(r"(cu\d{3}|cpu|rocm\d\.\d{1,2}(?:\.\d{1,2})?)(?:\..*)?", _FLAGS)


@dataclass(frozen=True, slots=True)
class TorchAsked:
    """One version, or a range of them.

    Attributes:
        version: the release without its local part, which is of a build; a pre-release with it (NGC's
            ``2.9.0a0+145a3a7bda`` is one of its own). A minor, ``2.9``, is its newest patch. None for a range.
        range: what it must be within; None for one version.
        local: the local part, which may name the CUDA (``cu128``).
    """

    version: Version | None
    range: SpecifierSet | None = None
    local: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a version or a range, with or without the name ``torch`` in front.

        Raises:
            ValueError: it is neither.
        """
        try:
            rest = without_name(_bounded(text), "torch", "pytorch")
            if (prefix := _PREFIX.fullmatch(rest)) or (prefix := _MAJOR.fullmatch(rest)):
                rest = prefix[prefix.re.groups]
                return cls(Version(rest)) if "." in rest else cls(None, SpecifierSet(f"=={rest}.*"))
            if (exact := _EXACT.fullmatch(rest)) is not None:
                rest = exact[1]
            if rest.startswith(_OPERATORS):
                return cls(None, SpecifierSet(rest))
            version = Version(rest)
        except (InvalidSpecifier, InvalidVersion):
            if "," in text[:_LONGEST]:
                raise ValueError(
                    f"{text!r} is no range: in a list, a part that begins with an operator belongs to the part before "
                    "it, so write the range first: '>=2.9,<2.11,2.6'"
                ) from None
            raise ValueError(f"{text!r} is not a torch such as 2.9, 2.9.1+cu128 or '>=2.9,<2.11'") from None
        local = version.local or ""
        return cls(version if version.is_prerelease else Version(version.public), None, local)

    @property
    def cuda(self) -> Cuda | None:
        """What the local part says that it was built for; None where it does not."""
        found = _CUDA_BUILD.fullmatch(self.local)
        return None if found is None else Cuda.parse(found[1])

    def __str__(self) -> str:
        if self.range is not None:
            return str(self.range)
        plain = str(self.version)
        return f"{plain}+{self.local}" if self.local and "+" not in plain else plain


def joined(parts: Iterable[str]) -> tuple[str, ...]:
    """Put a list that was split at its commas together: what begins with an operator belongs to the part before it.

    >>> joined([">=2.9", "<2.11", "2.6"])
    ('>=2.9,<2.11', '2.6')
    """
    found: list[str] = []
    for part in parts:
        if found and part.startswith(_OPERATORS):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return tuple(found)


def without_name(text: str, *names: str) -> str:
    """The version or range of a requirement: ``>=2.8`` for ``flash-attn>=2.8``; a leading ``v`` goes, too."""
    spelt = "|".join(re.escape(name).replace("\\-", "[-_ ]?") for name in names)
    rest = re.sub(rf"^(?:{spelt})(?:\[[\w,-]*\])?[ @-]*(?=[<>=!~v\d])", "", text.strip(), flags=_FLAGS)
    return re.sub(r"^v(?=\d)", "", rest, flags=_FLAGS)


def flash_attn_range(parts: Sequence[str]) -> tuple[SpecifierSet, ...]:
    """Read one specifier (``>=2.8,<3``), or versions of which any will do, with or without the package's name.

    Raises:
        ValueError: it is neither.
    """
    try:
        plain = [without_name(_bounded(part), "flash-attn") for part in parts]
        if all(part[:1].isdigit() for part in plain):
            return tuple(_one(part) for part in plain)
        return (SpecifierSet(",".join(plain)),)
    except (InvalidSpecifier, InvalidVersion):
        raise ValueError(f"{','.join(parts)!r} is neither versions nor a specifier") from None


def _bounded(text: str) -> str:
    if len(text) > _LONGEST:
        raise InvalidVersion(text)
    return text


def _one(text: str) -> SpecifierSet:
    if (prefix := _PREFIX.fullmatch(text)) is not None:
        return SpecifierSet(f"=={prefix[1]}.*")
    return SpecifierSet(f"=={Version(text)}")
