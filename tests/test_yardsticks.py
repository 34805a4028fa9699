"""Chance and floor of a loss, and what a curve comes to when it is measured by them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from probing import context
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.experiments import judge
from diagnose.experiments.judge import Learning
from diagnose.facts import guess_facts
from diagnose.pipeline import Pipeline
from diagnose.training.metrics import class_targets, correct_and_count, smoothing_floor, threshold_by_loss, yardsticks
from probes.records.trials import Point, Trace


def classes(task: str = "classification", function: str = "cross_entropy", count: int = 10, **options: Any) -> Any:
    return yardsticks(torch.arange(200) % count, task, function, options, count, 20)


def test_chance_is_ln_c() -> None:
    for count in (2, 10, 100):
        yard = classes(count=count)
        assert (yard.floor, yard.classes) == (0.0, count)
        assert yard.constant == pytest.approx(math.log(count))
        assert yard.chance == pytest.approx(1 / count)


def test_labels_beyond_the_scores_are_not_counted_as_wrong() -> None:
    """Four thresholds of five ordered grades are no scores of classes."""
    grades = torch.arange(20) % 5
    assert class_targets(torch.zeros(20, 4), grades, "classification", -100) is None
    assert class_targets(torch.zeros(20, 5), grades, "classification", -100) is not None
    assert class_targets(torch.zeros(20, 4), torch.where(grades == 4, -100, grades), "classification", -100) is not None


def test_smoothing_raises_the_floor() -> None:
    assert smoothing_floor(0.1, 10) == pytest.approx(0.500, abs=5e-4)
    yard = classes(label_smoothing=0.1)
    reached = F.cross_entropy(
        torch.log(torch.eye(10) * 0.9 + 0.01), torch.arange(10), label_smoothing=0.1
    )  # the best prediction there is
    assert yard.floor == pytest.approx(float(reached), abs=1e-5)
    assert yard.constant == pytest.approx(math.log(10))
    assert smoothing_floor(0.0, 10) == 0


def test_a_summed_loss_counts_the_batch() -> None:
    yard = classes(reduction="sum", label_smoothing=0.1)
    assert yard.constant == pytest.approx(20 * math.log(10))
    assert yard.floor == pytest.approx(20 * smoothing_floor(0.1, 10))


def test_soft_targets_have_the_floor_of_their_entropy() -> None:
    targets = F.softmax(torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), 1)
    mean = yardsticks(targets, "classification", "cross_entropy", {}, 5, 40 * 5)
    total = yardsticks(targets, "classification", "cross_entropy", {"reduction": "sum"}, 5, 40 * 5)
    best = targets.log()
    assert mean.floor == pytest.approx(float(F.cross_entropy(best, targets)), abs=1e-5)
    assert total.floor == pytest.approx(float(F.cross_entropy(best, targets, reduction="sum")), rel=1e-5)
    assert mean.constant is not None
    assert mean.constant > mean.floor


def test_class_weights_shift_chance() -> None:
    targets = torch.tensor([0] * 90 + [1] * 10)
    weight = torch.tensor([1.0, 9.0])
    plain = yardsticks(targets, "classification", "cross_entropy", {}, 2, 20)
    weighted = yardsticks(targets, "classification", "cross_entropy", {"weight": weight}, 2, 20)
    assert plain.constant == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    logits = torch.zeros(100, 2)
    assert weighted.constant == pytest.approx(float(F.cross_entropy(logits, targets, weight)))
    assert plain.chance == weighted.chance == pytest.approx(0.9)


def test_ignored_targets_count_for_nothing() -> None:
    targets = torch.cat([torch.arange(100) % 4, torch.full((300,), -100)])
    assert yardsticks(targets, "segmentation", "cross_entropy", {}, 4, 20).constant == pytest.approx(math.log(4))


def test_binary_cross_entropy() -> None:
    targets = torch.tensor([[1.0], [0.0], [0.0], [0.0]]).repeat(50, 1)
    yard = yardsticks(targets, "multilabel", "binary_cross_entropy_with_logits", {}, None, 20)
    best = F.binary_cross_entropy(torch.full_like(targets, 0.25), targets)
    assert yard.constant == pytest.approx(float(best))
    assert (yard.floor, yard.chance) == (0.0, pytest.approx(0.75))
    soft = yardsticks(targets * 0.8 + 0.1, "multilabel", "binary_cross_entropy", {}, None, 20)
    assert soft.floor == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), abs=1e-5)


@pytest.mark.parametrize(("function", "center"), [("mse_loss", "mean"), ("l1_loss", "median")])
def test_regression_is_measured_from_the_best_constant(function: str, center: str) -> None:
    targets = torch.tensor([[0.0, 1.0], [1.0, 1.0], [8.0, 4.0]])
    yard = yardsticks(targets, "regression", function, {}, None, 6)
    best = targets.mean(0) if center == "mean" else targets.median(0).values
    assert yard.constant == pytest.approx(float(getattr(F, function)(best.expand_as(targets), targets)))
    assert (yard.floor, yard.chance) == (0.0, None)


def test_a_loss_that_is_not_known_has_no_floor() -> None:
    assert classes(function="").floor is None
    assert classes(function="").chance == pytest.approx(0.1)


# -- judging curves ---------------------------------------------------------------------------------


def trace(losses: list[float], scores: list[float] | None = None, **changes: Any) -> Trace:
    """A trial on 200 samples of ten classes, whose looks had these losses and accuracies."""
    points = [Point(i, loss, None if scores is None else scores[i]) for i, loss in enumerate(losses)]
    made = Trace(
        name="", seed=0, steps=len(losses), losses=losses, points=points, floor=0.0, constant=2.3, chance=0.1,
        samples=200, val_samples=0, classes=10, stopped="steps", seconds=0.0,
    )  # fmt: skip
    return replace(made, **changes)


JUDGED = {
    "flat": (trace([2.31, 2.30, 2.30], [0.1, 0.1, 0.1]), Learning.STUCK),
    "a bad start that comes to chance": (trace([9.0, 3.0, 2.30], [0.1, 0.1, 0.1]), Learning.STUCK),
    "falls and is right": (trace([2.3, 1.5, 0.8], [0.1, 0.5, 0.8]), Learning.LEARNS),
    "hardly": (trace([2.3, 2.25, 2.22], [0.1, 0.15, 0.19]), Learning.SLOW),
    "falls without being right": (trace([2.3, 2.1, 1.9], [0.1, 0.1, 0.1]), Learning.SLOW),
    "learned, then blew up": (trace([2.3, 1.0, 9.0], [0.1, 0.8, 0.1]), Learning.LEARNS),
    "not finite": (trace([2.3], [0.1], stopped="nonfinite"), Learning.NONFINITE),
    "nothing to go by": (trace([5.0, 4.0], floor=None, constant=None, chance=None), Learning.UNKNOWN),
    "a loss of its own that fell": (
        trace([5 - i / 10 for i in range(40)], floor=None, constant=None, chance=None), Learning.LEARNS,
    ),
    "a loss of its own that did not": (
        trace([5 + (-1) ** i for i in range(40)], floor=None, constant=None, chance=None), Learning.UNKNOWN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(JUDGED))
def test_what_a_curve_comes_to(name: str) -> None:
    made, wanted = JUDGED[name]
    assert judge.judge(made) is wanted


def test_one_good_look_does_not_stop_a_trial() -> None:
    assert judge.stop_when_learned(trace([2.3, 1.0], [0.1, 0.9])) == ""
    assert judge.stop_when_learned(trace([2.3, 2.3, 1.0], [0.1, 0.1, 0.9])) == ""
    assert judge.stop_when_learned(trace([2.3, 1.0, 0.9], [0.1, 0.9, 0.9])) == "learned"


def test_memorised() -> None:
    assert judge.memorised(trace([2.3, 0.01], [0.1, 1.0]))
    assert not judge.memorised(trace([2.3, 2.2], [0.1, 0.2]))
    assert judge.memorised(trace([2.3, 0.01], floor=None, constant=None)) is None
    floor = smoothing_floor(0.1, 10)
    assert judge.memorised(trace([2.3, floor + 0.01], [0.1, 1.0], floor=floor)), "the floor is not zero"


def test_a_logit_of_a_small_batch_is_no_probability() -> None:
    """All in [0, 1] by chance: 0.3 is a yes as a logit, a no as a probability."""
    score, yes = torch.tensor([[0.3]]), torch.ones(1, 1)
    for loss, right in ((nn.BCEWithLogitsLoss(), 1), (nn.BCELoss(), 0), (F.binary_cross_entropy_with_logits, 1)):
        threshold = threshold_by_loss(loss)
        assert correct_and_count(score, yes, "multilabel", threshold=threshold) == (right, 1)
        predicted, true = class_targets(score, yes, "classification", threshold=threshold) or ((), ())
        assert [int(item) for item in (*predicted, *true)] == [right, 1]
    assert threshold_by_loss(lambda output, target: output.sum()) is None


@pytest.mark.parametrize(("positives", "chance", "loss"), [(0.5, 0.5, math.log(2)), (0.25, 0.75, 0.5623)])
@pytest.mark.parametrize("binary", [False, True])
def test_what_guessing_comes_to_is_told_from_the_labels(
    positives: float, chance: float, loss: float, binary: bool
) -> None:
    def build() -> Pipeline:
        labels = (torch.arange(80) % 4 < positives * 4).float().unsqueeze(1)
        data = TensorDataset(torch.randn(80, 3), labels if binary else labels[:, 0].long())
        model = nn.Linear(3, 1 if binary else 2)
        return Pipeline(
            model=model, train=DataLoader(data, 8), val=DataLoader(data, 80),
            optimizer=torch.optim.SGD(model.parameters()),
            loss=nn.BCEWithLogitsLoss() if binary else nn.CrossEntropyLoss(),
        )  # fmt: skip

    assert guess_facts(context(build)) == pytest.approx({"chance": chance, "guess_loss": loss}, abs=1e-3)
