"""Options for the whole suite."""

from __future__ import annotations

import os

import pytest

# Before torch is imported, and for the processes that tests start: two test processes that share two cores slow each
# other many times when each takes both. The figures of the suite are not those of a benchmark.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))
