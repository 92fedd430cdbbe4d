"""The service's fixtures: attacks on it need what its other tests need."""

from tests.serve.conftest import (  # noqa: F401 - pytest finds fixtures by the names of this module
    clean_environment,
    client,
    free_port,
    launch,
    make_client,
    ready,
    reference,
    samples,
    sound,
    tiny,
    url,
    voice,
)
