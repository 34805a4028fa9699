"""Every probe of data, gradient and optimizer on every healthy pipeline: no error, no warning, no internal failure."""

from __future__ import annotations

import pytest
import small_pipelines as small
from probing import context

from diagnose.judging import run_probe
from probes import catalogue
from probes.results import Severity, Status

FOLDERS = ("probes.data.", "probes.gradient.", "probes.optimizer.")
NAMES = [
    name
    for name in catalogue.names()
    if catalogue.module(name).__name__.startswith(FOLDERS)
    and hasattr(catalogue.module(name), "run")
    and not catalogue.doc(name).experiment
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("base", small.HEALTHY, ids=lambda base: base.__name__)
def test_healthy_pipelines_stay_silent(base: small.Make, seed: int) -> None:
    ctx = context(base, seed)
    results = [run_probe(name, ctx) for name in NAMES]
    alarms = [f.message for r in results for f in r.findings if f.severity is not Severity.NOTE]
    assert alarms == []
    assert {r.name: r.reason for r in results if r.status not in {Status.PASS, Status.SKIPPED}} == {}
    assert [r.name for r in results if not r.reason] == []
