"""A file on its way: the bytes that are there, and what the server calls them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """A file that may be half there, and where its validator is kept."""

    path: Path

    @property
    def validator_path(self) -> Path:
        """The text file with the validator of the bytes that are there."""
        return self.path.with_name(f"{self.path.name}.validator")

    @property
    def have(self) -> int:
        """The bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self) -> str | None:
        """What ``If-Range`` may say; None when the part cannot be resumed."""
        text = self.validator_path.read_text("utf-8", "replace") if self.validator_path.is_file() else ""
        return text if self.have and text and text.isascii() and text.isprintable() else None

    def drop(self) -> None:
        """Forget all of it."""
        self.validator_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
