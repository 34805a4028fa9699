"""The pages in docs/ say what the code says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from diagnose.docs import probes_page
from probes import catalogue
from reports.schema import json_schema

DOCS = Path(__file__).parents[1] / "docs"
_ROW = re.compile(r"^\| `([\w.]+)\.([A-Z_]+)` \| ([^|]+) \|", re.MULTILINE)
ROWS = _ROW.findall((DOCS / "stages.md").read_text(encoding="utf-8"))


def test_the_page_of_probes_is_current() -> None:
    assert (DOCS / "probes.md").read_text(encoding="utf-8") == probes_page(), (
        "run: python -m diagnose.docs > docs/probes.md"
    )


def test_the_page_of_probes_is_complete() -> None:
    headings = set(re.findall(r"^### (\S+)$", probes_page(), re.MULTILINE))
    assert headings == set(catalogue.names())


@pytest.mark.parametrize(("module", "name", "value"), ROWS, ids=[f"{m}.{n}" for m, n, _ in ROWS])
def test_thresholds_in_the_docs_are_those_of_the_code(module: str, name: str, value: str) -> None:
    actual: Any = getattr(importlib.import_module(module), name)
    shown = ", ".join(f"{key} {item:g}" for key, item in actual.items()) if isinstance(actual, dict) else f"{actual:g}"
    assert value.strip().replace(",", "" if not isinstance(actual, dict) else ",") == shown


def test_there_are_thresholds() -> None:
    assert len(ROWS) > 10


def test_the_page_of_results_names_every_top_level_field() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    assert [name for name in json_schema()["properties"] if f"`{name}`" not in text] == []
