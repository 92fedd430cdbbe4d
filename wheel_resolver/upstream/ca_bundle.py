"""Which certificates a TLS connection trusts, where the environment names some; what it names must hold some.

``requests`` reads the first two variables, and ends in an error of the file system where the file is not there. uv and
OpenSSL read the third: who set it for them means every tool.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from matrix.errors import NetworkError

VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_REMEDY = "correct {}, or unset it: the usual public certificates are trusted then"


def ca_bundle(environment: Mapping[str, str]) -> str | None:
    """The file or folder of certificates that the environment names; None where it names none.

    Raises:
        NetworkError: it is not there, cannot be read, or holds no certificate; names the variable.
    """
    variable = next((name for name in VARIABLES if environment.get(name)), None)
    if variable is None:
        return None
    place = environment[variable]
    if (fault := _fault(Path(place))) is not None:
        raise NetworkError(f"{variable} names {place}: {fault}", remedy=_REMEDY.format(variable))
    return place


def _fault(path: Path) -> str | None:
    """What is wrong with a bundle; None where it holds a certificate."""
    try:
        if path.is_dir():
            # OpenSSL finds a certificate in a folder by its hash: `openssl rehash` makes these names.
            hashed = any(len(each.stem) == 8 and each.suffix[1:].isdecimal() for each in path.iterdir())  # noqa: PLR2004
            return None if hashed else "the folder holds no certificate under its hash (openssl rehash)"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "it holds no certificate in PEM form"
    except OSError as error:
        return error.strerror or type(error).__name__
    return None if context.cert_store_stats()["x509"] else "it holds no certificate in PEM form"
