"""What all tests share: the loud last lines when image tests could not run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

NO_ENGINE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NO_ENGINE] = ""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """On CI a test that could not run is a failure, whatever it lacked."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost: what it prints stands below pytest's own summary
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    yield
    reason = config.stash[NO_ENGINE]
    if reason:
        terminalreporter.section("IMAGE TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.line(f"{reason}")
        terminalreporter.line("enable them with: make engine && make test")


@pytest.fixture(scope="session")
def no_engine(request: pytest.FixtureRequest) -> object:
    """Call it with the reason: skips the test, or with ``CI=true`` fails it."""

    def say(reason: str) -> None:
        request.config.stash[NO_ENGINE] = reason
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs a Docker engine: {reason}")
        pytest.skip(reason)

    return say
