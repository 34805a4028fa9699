"""What a plan of experiments says, and what becomes of a comparison that ran out of time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PROJECTS, run
from faults import adam, mlp, of_digits, sgd
from probing import context

from diagnose import experimenting, planned
from diagnose.config import Config
from diagnose.context import MeasuringContext
from diagnose.earlier import open_folder
from diagnose.errors import UsageError
from diagnose.experiments import lr_range, outlook
from diagnose.experiments.search import search
from diagnose.experiments.trials import Trials, Wanted
from diagnose.judging import run_probe
from diagnose.plan import make_plan
from diagnose.store import RunFolder
from probes.api import Inconclusive
from probes.records.trials import Trace
from probes.results import Status
from reports.fold import fold
from reports.load import read_events
from reports.next_steps import next_steps

ESTIMATE = {"seconds_per_step": 0.01, "steps": {"overfit": 2300, "subset": 600, "train": 5000}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Wanted]:
    """The trials that are made from now on."""
    made: list[Wanted] = []
    trained = Trials._train

    def train(self: Trials, wanted: Wanted, *args: Any, **more: Any) -> Trace:
        made.append(wanted)
        return trained(self, wanted, *args, **more)

    monkeypatch.setattr(Trials, "_train", train)
    return made


def test_a_search_makes_no_more_trials_than_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(lambda: of_digits(mlp(0.97), adam(1e-3)))
    plan = outlook.of_search(ctx)
    made = counted(monkeypatch)
    search(ctx, 50)
    assert plan["trials"] < plan["usually"] <= plan["at_most"]
    assert 1 < len(made) <= plan["at_most"]
    assert len(plan["knobs"]["dropout"]) == 3
    assert isinstance(plan["knobs"]["augmentation"], str)


def test_a_comparison_makes_as_many_trials_as_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(lambda: of_digits(mlp(0.5), adam(1e-3)))
    plan = outlook.of_comparison(ctx, "dropout", ["0", "0.2"])
    made = counted(monkeypatch)
    monkeypatch.setattr("diagnose.experiments.short_trainings.SUBSET_STEPS", 20)
    ctx.trainings.comparison("dropout", ["0", "0.2"])
    assert len(made) == plan["trials"] == 9
    assert len(plan["arms"]) == 3
    assert outlook.of_comparison(context(lambda: of_digits(mlp(), adam(1e-3))), "dropout", [])["nothing"]


def test_the_plan_of_a_run_counts_the_longer_control_and_the_experiments() -> None:
    plan = make_plan("run", Config(target="m:f", until_stage="subset"))
    found = {"knobs": {}, "trials": 9, "usually": 15, "at_most": 50, "wait": 1800}
    told = planned.of_run(plan, {**ESTIMATE, "search": found})
    (subset,) = [line for line in told if line.startswith("  subset")]
    assert subset.endswith("up to 6.0 s, 18 s more where it fails at first")
    assert "about 15 (90 s); the limit, for faults that hide each other, is 50 (5 min 00 s)." in told[-2]
    assert told[-1] == "In all up to 47 s; with experiments usually up to 2 min 17 s, never above 5 min 47 s."
    assert "more where" not in "".join(planned.of_run(plan, {**ESTIMATE, "search": {**found, "wait": 0}}))
    assert "not known yet" in "".join(planned.of_run(plan, {}))


def test_the_range_test_is_as_long_as_the_plan_says() -> None:
    assert experimenting.RANGE_STEPS == lr_range.STEPS


@pytest.mark.slow
def test_a_plan_of_experiments_runs_nothing(tmp_path: Path) -> None:
    shutil.copytree(PROJECTS / "digits", tmp_path / "digits")
    values = ("--knob", "lr", "--values", "1e-4,1e-2")
    done = run("ablate", "digits_cnn:get_model", *values, "--plan", cwd=tmp_path / "digits")
    assert done.code == 0
    plan, *arms = done.out.splitlines()
    assert plan.startswith("Plan: 3 arms of lr, each with 3 seeds: 9 short trainings of 600 steps, up to ")
    assert arms[0].strip() == "as configured"
    assert len(arms) == 3
    assert not (tmp_path / "digits" / ".diagnose").exists()


def cut_after(ctx: MeasuringContext, trials: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the time budget ended then."""
    made = counted(monkeypatch)
    trained = Trials._train

    def train(self: Trials, wanted: Wanted, *args: Any, **more: Any) -> Trace:
        if len(made) == trials:
            raise Inconclusive("the time budget ended after 0 of 20 steps")
        return trained(self, wanted, *args, **more)

    monkeypatch.setattr(Trials, "_train", train)


def test_a_comparison_that_is_cut_short_shows_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(lambda: of_digits(mlp(0.5), adam(1e-3)))
    monkeypatch.setattr("diagnose.experiments.short_trainings.SUBSET_STEPS", 20)
    cut_after(ctx, 5, monkeypatch)
    found = ctx.trainings.comparison("dropout", ["0", "0.2"])
    assert [len(arm.traces) for arm in (found.control, *found.arms)] == [3, 2]
    assert not found.proved
    told = run_probe("settings-compared", ctx)
    assert told.status is Status.INCONCLUSIVE
    assert told.findings[0].values["finished"] == 5
    assert "best" not in told.findings[0].values
    assert run_probe("dropout-too-strong", ctx).status is Status.INCONCLUSIVE


def test_where_not_even_the_control_is_finished_there_is_nothing_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(lambda: of_digits(mlp(0.5), adam(1e-3)))
    cut_after(ctx, 0, monkeypatch)
    with pytest.raises(Inconclusive):
        ctx.trainings.comparison("dropout", ["0"])


@pytest.mark.parametrize("command", ["ablate", "bisect", "lr"])
def test_more_time_is_what_comes_next(tmp_path: Path, command: str) -> None:
    config = {"budget": 90.0}
    said = f"diagnose {command} m:f --budget 90s --seed 1"
    header = {"command": command, "target": "m:f", "reproduce": said, "config": config}
    folder = RunFolder.create(header, project=tmp_path)
    stage = {"name": "subset", "status": "inconclusive", "reason": "the time budget ended after 3 of 600 steps"}
    folder.append({"event": "stage", "stage": {**stage, "seconds": 1.0}})
    folder.append({"event": "verdict", "verdict": "inconclusive"})
    results = fold(read_events(folder.path / "events.jsonl"))
    folder.write_results(results)
    (step,) = next_steps(results)
    resumed = "" if command == "lr" else " --resume"
    assert step.command == f"diagnose {command} m:f --seed 1 --budget {math.ceil(180)}s{resumed}"
    if not resumed:
        return
    again = Config(target="m:f", resume=True)
    assert open_folder({**header, "config": {}}, again, tmp_path).path == folder.path
    folder.append({"event": "stage", "stage": {**stage, "status": "pass", "reason": "", "seconds": 1.0}})
    folder.append({"event": "verdict", "verdict": "healthy"})
    folder.write_results(fold(read_events(folder.path / "events.jsonl")))
    with pytest.raises(UsageError, match="no unfinished run"):
        open_folder({**header, "config": {}}, again, tmp_path)


def test_a_plan_counts_reading_evaluating_and_comparisons() -> None:
    plain = outlook.of_subset(context(lambda: of_digits(mlp(), adam(1e-3))), 0.01)
    assert plain["seconds"] > 600 * 0.01
    assert plain["compared"] == []
    unusual = outlook.of_subset(context(lambda: of_digits(mlp(0.9), sgd(1e-3, weight_decay=0.5))), 0.01)
    assert unusual["compared"][:2] == ["dropout", "weight-decay"]
    assert unusual["trials"] == 3 * (1 + len(unusual["compared"]))
    (line,) = [
        line
        for line in planned.of_run(make_plan("run", Config(target="m:f")), {**ESTIMATE, "subset": unusual})
        if line.startswith("  subset")
    ]
    assert "more to compare unusual settings (dropout, weight-decay" in line
