"""What schedules that end at small rates hide and are to blame for; what speaks against a repair; what is no pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from faults import adam, mlp, of_digits, sgd
from probing import context
from small_pipelines import digits_tensors
from test_search import leaving_chance
from test_side_by_side import Noisy
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from diagnose.experiments.judge import falling
from diagnose.experiments.knobs import arms
from diagnose.experiments.search import search
from diagnose.experiments.usual import suspects_first
from diagnose.judging import run_probe
from probes.api import Skip
from probes.results import Status


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scheduled(make: Callable[[Any], Any], lr: float = 0.05) -> Pipeline:
    pipeline = of_digits(mlp(), sgd(lr, momentum=0.9), epochs=20)
    assert pipeline.optimizer is not None
    pipeline.scheduler = make(pipeline.optimizer)
    return pipeline


USUAL: tuple[Callable[[Any], Any], ...] = (
    lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20),
    lambda o: lr_scheduler.StepLR(o, step_size=7, gamma=0.1),
    lambda o: lr_scheduler.ExponentialLR(o, gamma=0.8),
    lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=20),
    lambda o: lr_scheduler.LambdaLR(o, lambda epoch: min(1.0, (epoch + 1) / 15)),
)


@pytest.mark.parametrize("make", USUAL)
def test_a_usual_schedule_is_no_suspect(make: Callable[[Any], Any]) -> None:
    assert "scheduler" not in suspects_first(context(lambda: scheduled(make)))


def test_a_schedule_that_is_over_at_once_is_asked_first_and_proved() -> None:
    ctx = context(lambda: scheduled(lambda o: lr_scheduler.ExponentialLR(o, gamma=1e-3), lr=4e-3))
    assert suspects_first(ctx)[0] == "scheduler"
    found = search(ctx, 250).ablations
    assert {knob for knob, ablation in found.items() if ablation.proved and not ablation.explained_by} == {"scheduler"}


@pytest.mark.parametrize(
    ("rates", "falls"), [([1, 1, 1, 1, 1, 1], False), ([1, 1, 1, 1, 0.1, 0], True), ([1, 0, 0, 0, 0, 0], False)]
)
def test_a_loss_that_stands_still_for_want_of_rate_was_falling(rates: list[float], falls: bool) -> None:
    trace = leaving_chance(2.3, 2.1, 1.9, 1.7, 1.69, 1.69)
    points = tuple(replace(point, lr=lr) for point, lr in zip(trace.points, rates, strict=True))
    assert falling(replace(trace, points=points, constant=2.3, floor=0.0)) is falls


def test_hardly_learned_and_not_at_all_on_validation_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(lambda: of_digits(mlp(), adam(1e-3), epochs=2))
    learned = ctx.subset()
    for carries_over, status in ((True, Status.PASS), (False, Status.INCONCLUSIVE)):
        slow = replace(learned, outcome="slow", share=0.03, val_above_chance=carries_over)
        monkeypatch.setattr(ctx, "subset", lambda slow=slow: slow)
        assert run_probe("stuck-at-chance", ctx).status is status


def noise_in_training(make_model: Callable[[], Any]) -> Pipeline:
    x, y = digits_tensors()
    train, val = Noisy(x, y), Noisy(x, y)
    val.augment = False
    return of_digits(make_model(), adam(1e-3), loaders=(DataLoader(train, 32, shuffle=True), DataLoader(val, 32)))


def test_regularisation_is_proved_only_where_a_batch_can_be_memorised_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ctx = context(lambda: noise_in_training(mlp))
    (plain,) = arms(ctx, "augmentation")
    overfit = ctx.trainings.overfit_under(plain)
    assert overfit.stopped == "memorised"
    assert search(ctx, 100).ablations["augmentation"].proved
    failed = replace(overfit, stopped="steps", share=0.1, falling=False)
    monkeypatch.setattr(ctx.trainings, "overfit_under", lambda change: failed)
    doubted = search(ctx, 100).ablations["augmentation"]
    assert doubted.repaired
    assert not doubted.proved


def test_a_rate_that_is_small_for_a_batch_but_learns_from_more_is_not_unable_to_learn_it() -> None:
    result = run_probe("cannot-overfit", context(lambda: of_digits(mlp(), sgd(2e-3), epochs=30)))
    assert result.status is Status.INCONCLUSIVE, result
    assert "on more samples it goes from" in result.reason


def test_of_a_batch_of_all_samples_a_part_is_memorised() -> None:
    x, y = digits_tensors()
    assert len(y) > 512
    whole = DataLoader(TensorDataset(x, y), len(y), shuffle=True)
    assert context(lambda: of_digits(mlp(), adam(1e-2), loaders=(whole, whole))).overfit().samples == 512


def test_a_schedule_that_is_over_at_once_says_nothing_about_the_width() -> None:
    ctx = context(lambda: scheduled(lambda o: lr_scheduler.ExponentialLR(o, gamma=1e-3), lr=4e-3))
    with pytest.raises(Skip, match="schedule"):
        ctx.trainings.widened_overfit()
