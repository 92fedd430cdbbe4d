"""The tools' fixtures: a server that speaks GitHub's API as each test wishes."""

from tests.resolver_http.conftest import known, upstream, whole_wheel  # noqa: F401 - pytest finds fixtures by name
