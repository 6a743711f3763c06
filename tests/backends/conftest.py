"""A server that fails fast, and the right answers to what it is asked."""

from pathlib import Path

import pytest

from olmeval.backends import server_http
from tests.backends.server_parts import WINDOW, requests
from tests.backends.straight import StraightLine


@pytest.fixture
def quick_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits between tries, and no key of this machine's."""
    monkeypatch.setattr(server_http, "BACKOFF_SECONDS", 0.005)
    for name in server_http.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def want(checkpoint: Path) -> list[tuple[float, bool, int]]:
    """Log-probability, greediness and tokens of each of ``requests()``."""
    straight = StraightLine(checkpoint, WINDOW)
    return [straight.score(r) for r in requests()]
