"""Reports are tested against catalogue texts of their own, so that the catalogue may change freely."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from samples import DOCS

from probes import catalogue

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def fixed_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "doc", DOCS.__getitem__)


@pytest.fixture
def check_golden(update_golden: bool) -> Callable[[str, str], None]:
    """Compare a text word for word with a golden file, or rewrite the file with ``--update-golden``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if update_golden:
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {name}: run pytest --update-golden and read what it wrote"
        assert text == path.read_text(encoding="utf-8")

    return check
