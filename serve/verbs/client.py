"""``python -m serve client``: clone a voice with a running service, from the shell to a file.

  python -m serve client --text "Hello." --reference voice.wav --ref-text "What is said in it." --out clone.wav
  python -m serve client --text - --voice anna --out story.mp3 < story.txt

The key of a service that has some is read from WW_API_KEY. Exit status: 0 done, 1 the service refused, 2 usage, 3 the
service cannot be reached, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, get_args

from serve.client import Client, Format, ServiceError, Unreachable
from serve.errors import INTERRUPTED
from serve.transport import URL

REFUSED, USAGE, NETWORK = 1, 2, 3
STANDARD = "-"
ENDINGS: Mapping[str, Format] = {
    ".mp3": "mp3", ".ogg": "opus", ".opus": "opus", ".flac": "flac", ".pcm": "pcm", ".raw": "pcm",
}  # fmt: skip
WAV_HEAD_BYTES = 44
UNKNOWN_BYTES = 0xFFFFFFFF
RANDOM = "random"
_LONGEST = 2_000  # of what an error says


def main(arguments: Sequence[str]) -> int:
    """Ask for the audio and write it; returns the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if fault := _contradiction(asked):
        parser.error(fault)
    try:
        text = sys.stdin.read() if asked.text == STANDARD else asked.text
        with Client(asked.url, timeout_s=asked.timeout) as client, _output(asked.out) as file:
            if asked.wait and not client.ready(asked.wait):
                _say(f"{asked.url} is not ready after {asked.wait:g} s")
                return NETWORK
            made = _write(client, asked, text, file)
        if asked.json:
            print(json.dumps({"schema": 1, "out": asked.out, **made}))
    except ServiceError as error:
        about = f" ({error.field})" if error.field else ""
        _say(f"{error.message}{about} [{error.status} {error.code}]", error.remedy)
        return REFUSED
    except Unreachable as error:
        _say(str(error), "start the service there, or give its --url; --wait 60 waits until it is ready")
        return NETWORK
    except BrokenPipeError:
        # Who closed the player has heard enough. Python flushes stdout once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        _say(str(error))
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _contradiction(asked: argparse.Namespace) -> str | None:
    """What is wrong with options that argparse takes for good."""
    given = asked.reference is not None or asked.ref_text is not None or asked.x_vector_only
    faults = {
        "--voice is a voice that the service keeps: --reference, --ref-text and --x-vector-only do not go with it": (
            asked.voice is not None and given
        ),
        "give --reference, or --voice": asked.voice is None and asked.reference is None,
        "give --ref-text, what is said in the reference; or --x-vector-only, which sounds less like the voice": (
            asked.reference is not None and (asked.ref_text is None) != asked.x_vector_only
        ),
        "--text and --reference cannot both be standard input": asked.text == asked.reference == STANDARD,
        "--json writes to standard output, so --out must be a file": asked.json and asked.out == STANDARD,
    }
    return next((fault for fault, there in faults.items() if there), None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve client", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=URL, help="the service (default: %(default)s)")
    parser.add_argument("--text", required=True, help="what to say; - reads it from standard input")
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="the voice: wav, flac, ogg or mp3, 1 to 30 s; - reads it from standard input",
    )
    parser.add_argument("--ref-text", metavar="TEXT", help="what is said in the reference")
    parser.add_argument(
        "--x-vector-only",
        action="store_true",
        help="without --ref-text: the likeness of the voice alone, not its manner",
    )
    parser.add_argument("--voice", metavar="NAME", help="a voice that the service keeps, instead of a reference")
    parser.add_argument(
        "--language", metavar="NAME", help="name or code of the text's language (default: auto, or the voice's)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the same request with the same seed gives the same audio"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="where to write; - is standard output")
    parser.add_argument("--format", choices=get_args(Format), help="default: by the ending of --out, else wav")
    parser.add_argument("--stream", action="store_true", help="write while the audio is made")
    parser.add_argument("--wait", type=float, default=0, metavar="S", help="wait up to S seconds until it is ready")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="longest silence (default: 300 s)")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")
    return parser


def _write(client: Client, asked: argparse.Namespace, text: str, file: BinaryIO) -> dict[str, Any]:
    """Write the audio, and tell on stderr how it goes; returns that for ``--json``."""
    kind: Format = asked.format or ENDINGS.get(Path(asked.out).suffix.lower(), "wav")
    began, first_s, size = time.monotonic(), 0.0, 0
    with closing(_audio(client, asked, text, kind)) as parts:
        for part in parts:
            if not size:
                first_s = time.monotonic() - began
                _say(f"first audio after {first_s:.2f} s")
                if client.weights == RANDOM:
                    _say("the service's weights are random: this is noise, not speech")
            size += len(part)
            file.write(part)
            if asked.out == STANDARD:
                file.flush()
    if asked.out != STANDARD:
        _mend_wav(file)
    seconds = time.monotonic() - began
    _say(f"{size} bytes after {seconds:.2f} s -> {asked.out}")
    times = {"first_audio_s": round(first_s, 3), "seconds": round(seconds, 3)}
    return {"format": kind, "bytes": size, "weights": client.weights, **times}


def _audio(client: Client, asked: argparse.Namespace, text: str, kind: Format) -> Generator[bytes, None, None]:
    if asked.voice is not None:
        options = {"format": kind, "language": asked.language, "seed": asked.seed}
        if asked.stream:
            yield from client.speech_stream(text, asked.voice, **options)
        else:
            yield client.speech(text, asked.voice, **options)
    else:
        reference = sys.stdin.buffer.read() if asked.reference == STANDARD else Path(asked.reference)
        options = {"format": kind, "language": asked.language or "auto", "seed": asked.seed}
        options["x_vector_only"] = asked.x_vector_only
        if asked.stream:
            yield from client.clone_stream(text, reference, asked.ref_text, **options)
        else:
            yield client.clone(text, reference, asked.ref_text, **options)


@contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """Standard output; or a file that takes its name when all is in it, and is gone if that never happens."""
    if name == STANDARD:
        yield sys.stdout.buffer
        return
    target = Path(name)
    handle, made = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    unfinished = Path(made)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            empty = file.tell() == 0
        if not empty:
            umask = os.umask(0)
            os.umask(umask)
            unfinished.chmod(0o666 & ~umask)  # as any file that is written; mkstemp's own are the user's alone
            unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _mend_wav(file: BinaryIO) -> None:
    """Give a streamed WAV its true length: many programs believe the header."""
    size = file.tell()
    file.seek(0)
    head = file.read(WAV_HEAD_BYTES)
    if head[:4] == b"RIFF" and head[36:44] == b"data" + struct.pack("<I", UNKNOWN_BYTES):
        file.seek(4)
        file.write(struct.pack("<I", size - 8))
        file.seek(WAV_HEAD_BYTES - 4)
        file.write(struct.pack("<I", size - WAV_HEAD_BYTES))
    file.seek(size)


def _say(what: str, remedy: str | None = None) -> None:
    """Print what went wrong, and what to do, a line each."""
    print(f"client: {_shown(what)}", file=sys.stderr)
    if remedy:
        print(f"  remedy: {_shown(remedy)}", file=sys.stderr)


def _shown(text: str) -> str:
    """A text of a server, which may be anybody's: what a terminal or a CI runner would obey is written as an escape."""
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_LONGEST])
    return plain.replace("##", r"#\x23")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
