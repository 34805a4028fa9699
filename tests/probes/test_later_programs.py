"""What further programs of the zoo showed: each fault that was missed, and the healthy program that differs in it.

And what was told of healthy ones: masks over one graph, generators seeded in each worker, scores that cancel, noise
that is the task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from probing import judge
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo.unseen import (
    later_denoise,
    later_dice,
    later_distil,
    later_forecast,
    later_graph,
    later_masked,
    later_mixer,
    later_multitask,
    later_ordinal,
    later_ratings,
    later_screening,
    later_spectra,
    later_translate,
)

from diagnose.failures import failure_name
from diagnose.pipeline import Pipeline
from probes.data._copies import oversampled
from probes.data._relabelled import renaming
from probes.data._standardised import _gained
from probes.records.data import Scan
from probes.records.trials import Point, Trace
from probes.results import Severity, Status

pytestmark = pytest.mark.filterwarnings("default")  # the programs are users' own
FOUND = [
    ("batch-mixing", later_forecast.place_by_batch, later_forecast.build),
    ("wrong-loss-axis", later_translate.viewed_into_place, later_translate.build),
    ("future-leak", later_translate.no_mask_for_the_decoder, later_translate.build),
    ("misaligned-language-model-labels", later_translate.not_shifted, later_translate.build),
    ("graph-cut", later_distil.student_under_no_grad, later_distil.build),
    ("parameters-missing-from-optimizer", later_distil.teacher_optimised, later_distil.build),
    ("softmax-over-batch", later_distil.softened_over_the_batch, later_distil.build),
    ("nonfinite-inputs", later_graph.lonely_nodes, later_graph.build),
    ("unstable-log", later_mixer.log_of_softmax_by_hand, later_mixer.build),
    ("train-val-leakage", later_screening.ill_repeated_before_the_split, later_screening.sampled_evenly),
    ("symmetric-initialisation", later_ratings.all_vectors_alike, later_ratings.build),
    ("duplicate-worker-randomness", later_spectra.generator_in_the_dataset, later_spectra.generator_of_each_worker),
    (
        "gradients-cleared-before-step",
        later_multitask.cleared_between_the_losses,
        later_multitask.one_task_after_the_other,
    ),
    ("labels-out-of-range", later_dice.grey_levels_in_the_masks, later_dice.build),
    ("target-leaked-into-input", later_dice.mask_as_a_channel, later_dice.build),
]


@pytest.mark.parametrize(("name", "faulty", "healthy"), FOUND, ids=lambda given: getattr(given, "__name__", given))
def test_found_where_it_is_and_not_beside_it(
    name: str, faulty: Callable[[], Pipeline], healthy: Callable[[], Pipeline]
) -> None:
    assert name in judge(name, faulty).names
    beside = judge(name, healthy)
    assert beside.names == []
    assert beside.status in {Status.PASS, Status.SKIPPED}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("train-val-leakage", later_graph.one_large_graph),
        ("label-map-differs-in-validation", later_graph.one_large_graph),
        ("batch-mixing", later_graph.one_large_graph),
        ("label-map-differs-in-validation", later_ordinal.sorted_by_grade),
        ("train-val-leakage", later_ordinal.rounded_columns),
        ("misaligned-language-model-labels", later_masked.some_stay),
        ("batch-mixing", later_ratings.build),
    ],
)
def test_no_such_thing_is_told(name: str, build: Callable[[], Pipeline]) -> None:
    assert judge(name, build).names == []


def test_one_batch_twice_without_a_mask_is_a_leak() -> None:
    x = torch.randn(80, 5)
    batch = (x, (x[:, 0] > 0).long())

    def plain() -> Pipeline:
        model = nn.Linear(5, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return Pipeline(model, train=[batch], val=[batch], loss=nn.CrossEntropyLoss(), optimizer=optimizer)

    assert judge("train-val-leakage", plain).names == ["train-val-leakage"]


def test_masked_tokens_that_are_not_masked_are_a_leak() -> None:
    seen = judge("misaligned-language-model-labels", later_masked.nothing_hidden)
    assert seen.names == ["target-leaked-into-input"]
    assert judge("misaligned-language-model-labels", later_masked.build).names == []


def test_tokens_that_the_model_itself_hides_are_no_leak() -> None:
    class Hiding(later_masked.Encoder):
        def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
            hidden = input_ids if labels is None else input_ids.masked_fill(labels != -100, later_masked.MASK)
            return super().forward(hidden, attention_mask, labels)

    def build() -> Pipeline:
        return later_masked.make(model=Hiding(), hide=False)

    assert judge("misaligned-language-model-labels", build).names == []


def test_an_autoencoder_of_padded_sequences_copies_by_intent() -> None:
    def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
        batch = later_masked.collate(rows)
        real = batch["attention_mask"].bool()
        return batch | {"labels": batch["input_ids"].masked_fill(~real, -100)}

    build = partial(later_masked.make, hide=False, collate=collate)
    build.__name__, build.__module__ = "build", later_masked.__name__  # type: ignore[attr-defined]
    assert judge("misaligned-language-model-labels", build).names == []


def test_noise_that_is_to_be_taken_out_is_a_note() -> None:
    seen = judge("augmentation-on-validation", later_denoise.fresh_noise_in_validation)
    assert [finding.severity for finding in seen.findings] == [Severity.NOTE]
    seen = judge("augmentation-on-validation", later_spectra.masked_in_validation_too)
    assert [finding.severity for finding in seen.findings] == [Severity.ERROR]


def test_weights_that_cancel_in_a_ranking_are_a_note() -> None:
    seen = judge("zero-gradient", later_ratings.pairwise_ranking)
    assert [finding.severity for finding in seen.findings] == [Severity.NOTE]
    seen = judge("zero-gradient", later_denoise.rounded_to_bytes)
    assert [finding.severity for finding in seen.findings] == [Severity.ERROR]


@pytest.mark.parametrize(("hidden", "names"), [(-torch.inf, []), (torch.nan, ["nonfinite-inputs"])])
def test_a_second_input_may_hold_infinity_but_no_nan(hidden: float, names: list[str]) -> None:
    x, mask, y = torch.randn(64, 6), torch.zeros(64, 6), torch.randint(0, 2, (64,))
    mask[:, 4:] = hidden

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(1, 2)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.out(((x + mask).softmax(1) * x).sum(1, keepdim=True))

    def build() -> Pipeline:
        model = Pooled()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train = DataLoader(TensorDataset(x, mask, y), batch_size=16)
        return Pipeline(model, train=train, loss=nn.CrossEntropyLoss(), optimizer=optimizer)

    assert judge("nonfinite-inputs", build).names == names


def test_a_gradient_taken_off_one_layer_is_meant() -> None:
    """As a head that rests in the first epochs."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        optimizer.zero_grad()
        for loss in later_multitask.losses(model, batch).values():
            loss.backward(retain_graph=True)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        for parameter in model.lean.parameters():
            parameter.grad = None
        optimizer.step()
        return loss.detach()

    build = partial(later_multitask.make, train_step=step)
    build.__name__, build.__module__ = "build", later_multitask.__name__  # type: ignore[attr-defined]
    assert judge("gradients-cleared-before-step", build).names == []


class Noised(nn.Module):
    """Takes noise out of rows; how much there is comes with them."""

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 8))
        self.told = told

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, level[:, None] * self.told], 1))


@pytest.mark.parametrize(("told", "names"), [(True, []), (False, ["ignored-input"])])
def test_a_model_that_the_loss_calls_with_what_it_draws(told: bool, names: list[str]) -> None:
    def compute_loss(model: nn.Module, batch: Any) -> torch.Tensor:
        (x,) = batch
        level, noise = torch.rand(len(x)), torch.randn_like(x)
        return ((model(x + level[:, None] * noise, level) - noise) ** 2).mean()

    def build() -> Pipeline:
        model = Noised(told)
        train = DataLoader(TensorDataset(torch.randn(64, 8)), batch_size=16)
        optimizer = torch.optim.Adam(model.parameters())
        return Pipeline(model, train=train, compute_loss=compute_loss, optimizer=optimizer)

    assert judge("ignored-input", build).names == names
    mixing = judge("batch-mixing", build)
    assert (mixing.names, mixing.status) == ([], Status.PASS)


def test_a_renaming_takes_two_labels() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.choice([3, 4], 200, p=[0.8, 0.2]).tolist()
    assert renaming(predicted, [4] * 200) is None  # one class, taken for its neighbour
    labels = rng.integers(0, 2, 200)
    assert renaming((1 - labels).tolist(), labels.tolist()) is not None


def test_copies_of_one_class_are_told_from_samples_that_repeat() -> None:
    first = list(range(100))
    rare = [*range(100, 130)] * 2
    copied = Scan("train", 160, 160, 5, 5, True, labels=[0] * 100 + [1] * 60, hashes=first + rare)
    assert oversampled(copied)
    both = [*range(70), *range(10), *range(100, 140), *range(100, 110)]
    labels = [int(value >= 100) for value in both]
    assert not oversampled(Scan("train", 130, 130, 5, 5, True, labels=labels, hashes=both))
    off = [*range(100), *[200] * 60]  # one reading of a device that is off
    assert not oversampled(Scan("train", 160, 160, 5, 5, True, labels=[0] * 100 + [1] * 60, hashes=off))


def test_without_an_accuracy_the_losses_are_compared() -> None:
    def trace(first: float, last: float) -> Trace:
        points = [Point(0, first, None), Point(100, last, None)]
        return Trace("", 0, 100, [], points, None, None, None, 64, 64, None, "steps", 0.0)

    assert _gained(trace(4e4, 330.0), trace(0.7, 0.2), losses=True) >= 1
    assert _gained(trace(0.7, 0.21), trace(0.7, 0.2), losses=True) < 0.5
    assert _gained(trace(0.7, 0.1), trace(0.7, 0.2), losses=True) < 0
    assert _gained(trace(4e4, 330.0), trace(0.7, 0.2), losses=False) == 0


@pytest.mark.parametrize(
    ("text", "phase", "name"),
    [
        ("Class values must be smaller than num_classes.", "loss", "labels-out-of-range"),
        ("Class values must be smaller than num_classes.", "forward", "user-code-error"),
        ("Tensor on device meta is not on the expected device cpu!", "forward", "device-mismatch"),
    ],
)
def test_errors_of_torch_by_their_words(text: str, phase: str, name: str) -> None:
    assert failure_name(RuntimeError(text), phase) == name
