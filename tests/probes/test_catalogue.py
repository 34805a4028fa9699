"""The catalogue tests itself: every probe's documentation is complete, and keeps its name, code and severity."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from probes import catalogue
from probes.api import ProbeDoc, Stage
from probes.results import Severity

WARNINGS = frozenset(
    {
        "duplicate-samples", "features-on-wild-scales", "channels-last-input", "missing-classes", "class-imbalance",
        "noisy-labels", "classes-overlap", "unscaled-regression-target", "too-few-samples", "slow-dataloader",
        "missing-nonlinearity", "ignored-input", "saturated-activations", "capacity-too-small",
        "padding-idx-is-a-real-token", "batchnorm-on-single-sample", "initial-loss-off", "loss-summed",
        "mse-for-classification", "unstable-log", "unused-parameters", "adam-epsilon-out-of-range",
        "warmup-outlasts-training", "schedule-period-mismatch", "batch-size-extreme", "predicts-one-class",
        "metric-loss-disagree", "loss-spike", "plateau", "below-expected-curve", "overfitting", "too-few-epochs",
        "scheduler-before-optimizer", "optimizer-state-not-restored", "no-set-epoch", "cells-out-of-order",
    }
)  # fmt: skip
NOTES = frozenset(
    {
        "slow-to-learn",
        "learns-with-another-part",
        "settings-compared",
        "learning-rate-range",
        "unseeded-run",
        "cpu-only-training",
    }
)
SYMPTOMS = frozenset(
    {
        "initial-loss-off", "cannot-overfit", "stuck-at-chance", "fails-on-reference-data", "no-generalisation",
        "predicts-one-class", "metric-loss-disagree", "slow-to-learn", "nonfinite-training", "diverging", "loss-spike",
        "plateau", "below-expected-curve",
    }
)  # fmt: skip
# Names of the catalogue that a consequence may use before they exist.
PLANNED = frozenset({"metric-loss-disagree", "unscaled-regression-target"})
NAMES = catalogue.names()


def path_of(name: str) -> Path:
    return Path(str(catalogue.module(name).__file__))


def test_codes_are_unique() -> None:
    codes = Counter(catalogue.doc(name).code for name in NAMES)
    assert [code for code, count in codes.items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_documentation_is_complete(name: str) -> None:
    doc = catalogue.doc(name)
    assert isinstance(doc, ProbeDoc)
    assert doc.name == name
    assert catalogue.FOLDERS[doc.code[:3]] == path_of(name).parent.name
    assert len(doc.code) == 6
    assert doc.code[3:].isdigit()
    assert isinstance(doc.stage, Stage)
    for text in (doc.summary, doc.why, doc.fix):
        assert text.endswith("."), text
        assert "  " not in text
    assert bool(doc.before) == bool(doc.after)
    assert path_of(name).read_text(encoding="utf-8").startswith('"""')


@pytest.mark.parametrize("name", NAMES)
def test_severity_and_kind_are_those_of_the_catalogue(name: str) -> None:
    doc = catalogue.doc(name)
    expected = Severity.WARNING if name in WARNINGS else Severity.NOTE if name in NOTES else Severity.ERROR
    assert doc.severity is expected
    assert doc.symptom is (name in SYMPTOMS)


@pytest.mark.parametrize("name", NAMES)
def test_consequences_and_requirements_exist(name: str) -> None:
    doc = catalogue.doc(name)
    known = {*NAMES, *PLANNED}
    assert [other for other in (*doc.consequences, *doc.requires) if other not in known] == []
    assert name not in doc.consequences


def test_consequences_have_no_circle() -> None:
    """Two names that bring each other about would fold each other away."""
    graph = {name: set(catalogue.doc(name).consequences) for name in NAMES}
    assert [(a, b) for a in graph for b in graph[a] if a in graph.get(b, ()) and a < b] == []


@pytest.mark.parametrize("name", NAMES)
def test_found_by_name_and_code(name: str) -> None:
    doc = catalogue.doc(name)
    assert catalogue.resolve(name) == name
    assert catalogue.resolve(name.upper().replace("-", "_")) == name
    assert catalogue.resolve(doc.code.lower()) == name


@pytest.mark.parametrize("name", NAMES)
def test_someone_judges(name: str) -> None:
    assert hasattr(catalogue.module(name), "run") or catalogue.doc(name).judged_by


@pytest.mark.parametrize("path", sorted(Path(catalogue.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_top_level_imports_are_light(path: Path) -> None:
    """Neither torch nor numpy nor anything of ours but ``probes``, so that ``explain`` answers at once."""
    imported = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(node.module or "")
    heavy = [
        module for module in imported if module.split(".")[0] in {"torch", "numpy", "diagnose", "reports", "pandas"}
    ]
    assert heavy == []
