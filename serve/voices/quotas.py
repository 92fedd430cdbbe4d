"""How much of the disk may be used: by one owner, and by all together."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from serve.errors import ServiceError
from serve.voices.database import Rows
from serve.voices.records import VoiceInfo


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of each owner, and that of the disk.

    Attributes:
        voices: most of them.
        bytes: most decoded audio of all of them.
        disk: most decoded audio of all owners and of the quarantine; None: what there is room for.
    """

    voices: int
    bytes: int
    disk: int | None = None

    def check(self, rows: Rows, info: VoiceInfo, quarantined: int) -> None:
        """See that one more voice may be kept.

        Args:
            rows: with the write lock, so that nothing comes in between.
            info: of the voice.
            quarantined: bytes that the quarantine holds.

        Raises:
            ServiceError: 409; the owner has one of that name, or has too many. 507; all together have too much.
        """
        if rows.find(info.name, info.owner) is not None:
            message, remedy = "there is a voice of this name", "choose another name, or delete that voice first"
            raise ServiceError(HTTPStatus.CONFLICT, "name_taken", message, field="name", remedy=remedy)
        count, size = rows.usage(info.owner)
        if count >= self.voices:
            what, setting = f"{count} voices are kept, which is the most", "WW_MAX_VOICES"
        elif size + info.bytes > self.bytes:
            what, setting = f"the voices would hold more than {self.bytes} bytes of audio", "WW_MAX_VOICES_MIB"
        elif self.disk is not None and rows.size() + quarantined + info.bytes > self.disk:
            message = f"all voices, and the audio in quarantine, would hold more than {self.disk} bytes"
            remedy = "delete voices; an operator can adopt or discard what is in quarantine, or raise WW_MAX_DATA_MIB"
            raise ServiceError(HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", message, remedy=remedy)
        else:
            return
        raise ServiceError(HTTPStatus.CONFLICT, "too_many_voices", what, remedy=f"delete some, or raise {setting}")
