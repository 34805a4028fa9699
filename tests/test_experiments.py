"""Short trainings: they repeat, leave no trace in the process, repair what can be repaired, and play the schedule."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from dropping_models import Head, builder, context_of
from probing import context
from torch import nn

from diagnose import Pipeline
from diagnose.context import MeasuringContext
from diagnose.experiments import dropout
from diagnose.experiments.ablate import ablate
from diagnose.experiments.change import AS_CONFIGURED, Change
from diagnose.measure.updates import MiniatureSchedule
from probes.api import Skip
from probes.records.trials import Trace


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def without_time(trace: Trace) -> Trace:
    points = tuple(replace(point, seconds=0.0) for point in trace.points)
    return replace(trace, seconds=0.0, points=points)


def test_the_same_seed_gives_the_same_trace() -> None:
    first, again = (context_of(Head).trainings.trial(AS_CONFIGURED, 5, 30) for _ in range(2))
    other = context_of(Head).trainings.trial(AS_CONFIGURED, 6, 30)
    assert without_time(first) == without_time(again)
    assert other.losses != first.losses


def test_a_trial_is_run_once_by_change_seed_and_steps() -> None:
    trainings = context_of(Head).trainings
    assert trainings.trial(AS_CONFIGURED, 0, 10) is trainings.trial(AS_CONFIGURED, 0, 10)
    assert trainings.trial(AS_CONFIGURED, 0, 20) is not trainings.trial(AS_CONFIGURED, 0, 10)


def random_states() -> tuple[bytes, Any, Any]:
    numpy_state = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), numpy_state[1].tobytes(), random.getstate()  # type: ignore[index]


def measurements(ctx: MeasuringContext) -> dict[str, Callable[[], Any]]:
    return {
        "scan": ctx.scan,
        "reread": lambda: ctx.reread("train"),
        "shared items": ctx.shared_items,
        "attempt": ctx.attempt,
        "outputs": ctx.outputs,
        "evaluate": lambda: ctx.evaluate(lambda inputs: inputs),
        "inspection": ctx.inspection,
        "updates": ctx.updates,
        "moves_loss": lambda: ctx.moves_loss(["net.1.weight"]),
        "gradients": ctx.gradients,
        "coverage": ctx.coverage,
        "learning rates": ctx.learning_rates,
        "dropout sites": ctx.dropout_sites,
        "fresh model": ctx.fresh_model,
        "overfit": ctx.overfit,
        "trial": lambda: ctx.trainings.trial(AS_CONFIGURED, 1, 10),
        "agreement": lambda: ctx.trainings.gradient_agreement(AS_CONFIGURED),
        "reference": ctx.reference,
    }


@pytest.mark.parametrize("name", list(measurements(context_of(Head))))
def test_a_measurement_leaves_the_generators_alone(name: str) -> None:
    ctx = context_of(Head)
    _ = ctx.pipeline
    before = random_states()
    with suppress(Skip):
        measurements(ctx)[name]()
    assert random_states() == before


def test_measurements_do_not_train_the_pipeline_they_read() -> None:
    ctx = context_of(Head)
    before = {name: value.clone() for name, value in ctx.pipeline.model.state_dict().items()}
    for measure in (ctx.attempt, ctx.updates, ctx.outputs, ctx.inspection, ctx.gradients):
        measure()
    ctx.trainings.trial(AS_CONFIGURED, 0, 10)
    after = ctx.pipeline.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in ctx.pipeline.model.parameters())


def test_overfit_drops_the_regularisation_and_memorises() -> None:
    trace = context_of(Head).overfit()
    assert (trace.stopped, trace.samples) == ("memorised", 16)


def test_agreement_of_gradients_falls_with_dropout() -> None:
    trainings = context_of(Head).trainings
    assert (noisy := trainings.gradient_agreement(AS_CONFIGURED)) is not None
    clean = trainings.gradient_agreement(Change("none", "no dropout", 1.0, dropout.off))
    assert clean == pytest.approx(1.0)
    assert noisy < 0.99


def test_the_mildest_rate_that_repairs_is_proved_over_the_seeds() -> None:
    ctx = context_of(Head, lr=1e-9)
    found = ablate(ctx, "lr", 60)
    assert found.proved
    assert "learns" not in found.control.outcomes
    assert found.repairing is not None
    assert found.repairing.factors["lr"] > 1
    assert len(found.control.traces) == found.seeds


def test_a_pipeline_that_learns_needs_no_repair() -> None:
    found = ablate(context_of(Head), "lr", 200)
    assert (found.arms, found.repaired, found.proved) == ((), None, False)


# -- the schedule in miniature ----------------------------------------------------------------------


def optimizer_at(*lrs: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs], lr=1.0)


def test_a_warm_up_from_zero_is_played_to_its_peak() -> None:
    planned = [0.1 * i / 500 for i in range(500)] + [0.1] * 500
    optimizer = optimizer_at(0.0)
    optimizer.param_groups[0]["initial_lr"] = 0.1
    schedule = MiniatureSchedule(optimizer, planned, 20)
    played = []
    for step in range(20):
        schedule.set(step)
        played.append(optimizer.param_groups[0]["lr"])
    assert played[0] == 0
    assert played[:10] == sorted(played[:10])
    assert played[-1] == max(played) == pytest.approx(0.1)


def test_groups_keep_their_ratio_and_a_constant_plan_changes_nothing() -> None:
    optimizer = optimizer_at(0.2, 0.02)
    MiniatureSchedule(optimizer, [0.2, 0.1, 0.0], 3).set(1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.01])
    still = optimizer_at(0.3)
    MiniatureSchedule(still, [0.1, 0.1], 3).set(2)
    assert still.param_groups[0]["lr"] == 0.3


def test_a_real_warm_up_reaches_its_peak_in_a_trial() -> None:
    def warmed() -> Pipeline:
        pipeline = builder(Head)()
        assert pipeline.optimizer is not None
        pipeline.scheduler = torch.optim.lr_scheduler.LambdaLR(pipeline.optimizer, lambda step: min(1.0, step / 40))
        pipeline.scheduler_interval = "step"
        return pipeline

    ctx = context(warmed)
    assert max(ctx.learning_rates()) == pytest.approx(1e-2)
    assert ctx.learning_rates()[0] == 0
    assert ctx.trainings.trial(AS_CONFIGURED, 0, 200).outcome == "learns"
