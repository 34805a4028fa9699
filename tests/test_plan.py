"""The plan names probes that exist, and puts the ones that decide where they belong."""

from __future__ import annotations

import pytest

from diagnose.config import Config
from diagnose.errors import UsageError
from diagnose.plan import DECISIVE, EXPERIMENT_ORDER, FIRST, make_plan
from probes import catalogue
from probes.api import Stage


def named(name: str) -> bool:
    return name in catalogue.names() and hasattr(catalogue.module(name), "run")


@pytest.mark.parametrize("stage", list(FIRST))
def test_the_first_probe_of_a_stage_exists_and_fits_it(stage: Stage) -> None:
    assert named(FIRST[stage])
    doc = catalogue.doc(FIRST[stage])
    assert stage in {doc.stage, *doc.also}


@pytest.mark.parametrize("stage", list(DECISIVE))
def test_the_decisive_probe_is_a_symptom_of_its_stage(stage: Stage) -> None:
    doc = catalogue.doc(DECISIVE[stage])
    assert named(doc.name)
    assert doc.stage is stage
    assert doc.symptom


def test_every_experiment_has_its_turn() -> None:
    experiments = {name for name in catalogue.names() if catalogue.doc(name).experiment}
    asked_for = {"settings-compared", "learning-rate-range"}  # diagnose ablate and lr
    assert experiments - asked_for <= set(EXPERIMENT_ORDER)
    others = set(EXPERIMENT_ORDER) - experiments  # of a later stage, and worth asking where an earlier one fails
    assert {catalogue.doc(name).stage for name in others} <= {Stage.SUBSET}
    assert all(named(name) for name in EXPERIMENT_ORDER)


def test_a_run_gives_each_probe_one_turn() -> None:
    plan = make_plan("run", Config(target="m:f"))
    turns = [name for names in plan.probes.values() for name in names]
    judging = {n for n in catalogue.names() if named(n) and not catalogue.doc(n).experiment}
    assert sorted(turns) == sorted(judging)
    assert all(plan.probes[stage][0] == name for stage, name in FIRST.items())


def test_unknown_names_are_told_at_once() -> None:
    with pytest.raises(UsageError) as told:
        make_plan("run", Config(target="m:f", select=("nosuch",), ignore=("OPT9", "dead-rel")))
    assert len(told.value.problems) == 2
