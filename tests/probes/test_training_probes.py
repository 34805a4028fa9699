"""Probes of the full training, on curves: faulty ones, and the many shapes of healthy ones, which must stay silent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from probing import Judged, context
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from diagnose.judging import run_probe
from probes import catalogue, training
from probes.results import Severity, Status

NAMES = [name for name in catalogue.names() if (Path(training.__path__[0]) / f"{name.replace('-', '_')}.py").is_file()]
ALARMS = (Severity.ERROR, Severity.WARNING)


def data(samples: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(samples, 4), torch.arange(samples) % 2), 4)


def pipeline() -> Pipeline:
    return Pipeline(nn.Linear(4, 10), data(8), data(8), num_classes=10, task="classification")


def with_many_validation_samples() -> Pipeline:
    made = pipeline()
    made.val = data(1000)
    return made


def custom() -> Pipeline:
    made = pipeline()
    made.task = "custom"
    return made


def expecting() -> Pipeline:
    made = pipeline()
    made.expected = [
        (2, "accuracy", 0.3, 0.4),
        (5, "accuracy", 0.5, 0.6),
        (5, "loss", 0.1, 1.0),
        (50, "loss", 0.0, 0.1),
    ]
    return made


def judge(name: str, rows: list[dict[str, Any]], build: Any = pipeline) -> Judged:
    ctx = context(build)
    ctx.rows = list(rows)
    return Judged(run_probe(name, ctx))


def history(train: list[float], val: list[float] | None = None, **columns: list[Any]) -> list[dict[str, Any]]:
    """Rows; accuracies are those that go with the losses unless given."""
    made = []
    for i, loss in enumerate(train):
        row: dict[str, Any] = {"epoch": i + 1, "step": 10 * (i + 1), "lr": 0.1, "train_loss": loss}
        row["val_loss"] = None if val is None else val[i]
        row["train_accuracy"] = math.exp(-loss) if math.isfinite(loss) else None
        row["val_accuracy"] = None if val is None else math.exp(-val[i])
        row |= {key: values[i] for key, values in columns.items()}
        made.append(row)
    return made


def falling(epochs: int, start: float = 2.3, end: float = 0.2, rate: float = 0.4) -> list[float]:
    return [end + (start - end) * math.exp(-rate * i) for i in range(epochs)]


def noise(size: float, epochs: int, seed: int) -> list[float]:
    values: list[float] = (size * torch.randn(epochs, generator=torch.Generator().manual_seed(seed))).tolist()
    return values


def plus(a: list[float], b: list[float]) -> list[float]:
    return [max(1e-3, x + y) for x, y in zip(a, b, strict=True)]


def half_cosine(epochs: int, start: float, end: float) -> list[float]:
    return [end + (start - end) * (1 + math.cos(math.pi * i / (epochs - 1))) / 2 for i in range(epochs)]


HEALTHY: dict[str, list[dict[str, Any]]] = {
    "converged": history(falling(20), falling(20, end=0.25)),
    "one epoch": history([1.0], [0.9]),
    "five epochs of digits": history([1.1, 0.3, 0.15, 0.1, 0.08], [0.5, 0.2, 0.13, 0.1, 0.09]),
    "training above validation because of dropout": history(falling(20, end=0.6), falling(20, end=0.3)),
    "no validation": history(falling(20)),
    "long": history(falling(200, rate=0.05), falling(200, end=0.25, rate=0.05)),
    "warm restarts": history(
        [*falling(10), *falling(10, start=0.6), *falling(10, start=0.5)],
        [*falling(10, end=0.25), *falling(10, 0.65, 0.25), *falling(10, 0.55, 0.24)],
        lr=[0.1 * math.cos(i % 10 / 10 * math.pi / 2) for i in range(30)],
    ),
    "step schedule": history(
        [*falling(15, end=0.8), *falling(15, 0.5, 0.3), *falling(15, 0.28, 0.25)],
        [*falling(15, end=0.85), *falling(15, 0.55, 0.36), *falling(15, 0.34, 0.32)],
        lr=[0.1] * 15 + [0.01] * 15 + [0.001] * 15,
    ),
    "stuck at chance, which has another name": history(
        plus([2.303] * 20, noise(0.002, 20, 1)),
        plus([2.303] * 20, noise(0.002, 20, 2)),
        train_accuracy=[0.1] * 20,
        val_accuracy=[0.1] * 20,
    ),
    "cosine to nothing": history(
        half_cosine(20, 2.3, 0.2), half_cosine(20, 2.25, 0.25), lr=half_cosine(20, 0.1, 0.0001)
    ),
} | {
    f"noisy validation, seed {seed}": history(
        plus(falling(25), noise(0.01, 25, seed)), plus(falling(25, end=0.3), noise(0.06, 25, seed + 100))
    )
    for seed in range(20)
}


def test_the_catalogue_of_the_group() -> None:
    wanted = "nonfinite-training diverging loss-spike plateau below-expected-curve overfitting too-few-epochs"
    assert sorted(NAMES) == sorted(wanted.split())
    docs = [catalogue.doc(name) for name in NAMES]
    assert len({doc.code for doc in docs}) == len(docs)
    assert all(doc.code.startswith("TRN8") for doc in docs)
    assert all(text.endswith(".") for doc in docs for text in (doc.summary, doc.why, doc.fix))


@pytest.mark.parametrize("shape", HEALTHY)
def test_healthy_curves_stay_silent(shape: str) -> None:
    for name in NAMES:
        judged = judge(name, HEALTHY[shape])
        assert judged.status in (Status.PASS, Status.SKIPPED), (name, judged.result.reason)
        assert judged.result.reason
        assert not [finding for finding in judged.findings if finding.severity in ALARMS]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_training_there_is_nothing_to_judge(name: str) -> None:
    assert judge(name, []).status is Status.SKIPPED


def test_nonfinite() -> None:
    rows = history([2.0, 1.5, math.nan, math.nan])
    assert judge("nonfinite-training", rows).values["epoch"] == 3
    ours = [*history([2.0] * 3), {**history([2.0] * 4)[3], "train_loss": None, "nonfinite_steps": 20}]
    judged = judge("nonfinite-training", ours)
    assert (judged.values["steps"], judged.findings[0].severity) == (20, Severity.ERROR)
    recovered = judge("nonfinite-training", [*ours, {**ours[0], "epoch": 5}])
    assert recovered.findings[0].severity is Severity.WARNING
    val = [{**row, "val_loss": None, "nonfinite_validation_batches": 2} for row in history([2.0, 1.0])]
    assert judge("nonfinite-training", val).values["batches"] == 2


@pytest.mark.parametrize(
    "losses", [[2.3, 2.0, 1.5, 2.4, 3.9, 8.0], [2.3, 40.0, 90.0, 300.0], [*falling(8), 1.2, 1.9, 2.1]]
)
def test_diverging(losses: list[float]) -> None:
    judged = judge("diverging", history(losses))
    assert judged.names == ["diverging"]
    assert judged.findings[0].severity is Severity.ERROR
    assert judge("diverging", history(losses), custom).status is Status.SKIPPED


@pytest.mark.parametrize("losses", [[2.3, 1.5, 1.2, 1.3, 1.25], [*falling(10), 1.9], [2.3, 2.31, 2.32]])
def test_not_diverging(losses: list[float]) -> None:
    assert judge("diverging", history(losses)).status is Status.PASS


def test_overfitting_by_the_gap() -> None:
    rows = history(falling(12, end=0.01), falling(12, end=0.1))
    for row in rows:
        row["val_accuracy"] = row["train_accuracy"] - 0.2
    judged = judge("overfitting", rows, with_many_validation_samples)
    assert judged.names == ["overfitting"]
    assert judged.values["gap"] == pytest.approx(0.2)
    assert judge("overfitting", rows).status is Status.PASS  # eight validation samples prove nothing
    for row in rows:
        row["val_accuracy"] = row["train_accuracy"] - 0.08
    assert judge("overfitting", rows, with_many_validation_samples).status is Status.PASS


def test_overfitting_by_a_rising_validation_loss() -> None:
    train = falling(20, end=0.05)
    val = plus([*falling(8, end=0.6), *[0.72 + 0.06 * i for i in range(12)]], noise(0.02, 20, 5))
    judged = judge("overfitting", history(train, val, train_accuracy=[0.6] * 20))
    assert judged.names == ["overfitting"]
    assert judged.findings[0].severity is Severity.WARNING
    assert judged.values["epoch"] in range(7, 11)
    too_sure = history(train, val, train_accuracy=[0.6] * 20, val_accuracy=[0.6] * 20)
    assert judge("overfitting", too_sure).findings[0].severity is Severity.NOTE
    assert judge("overfitting", history(falling(20))).status is Status.SKIPPED


@pytest.mark.parametrize("epochs", [3, 5, 12, 50])
def test_too_few_epochs(epochs: int) -> None:
    still = [5.3 - 2.5 * i / epochs for i in range(epochs)]
    judged = judge("too-few-epochs", history(still, plus(still, noise(0.001, epochs, 3))))
    assert judged.names == ["too-few-epochs"]
    assert judged.values["share"] > 0.5


def test_below_expected_curve() -> None:
    losses = [2.0, 1.8, 1.5, 1.3, 1.2, 1.1]
    slow = history(losses, losses, val_accuracy=[0.1, 0.12, 0.2, 0.3, 0.35, 0.6])
    judged = judge("below-expected-curve", slow, expecting)
    assert [finding.values["metric"] for finding in judged.findings] == ["val accuracy", "val loss"]
    assert (judged.values["epoch"], judged.values["value"]) == (5, 0.35)
    losses = [2.0, 1.5, 1.0, 0.7, 0.6]
    caught_up = history(losses, losses, val_accuracy=[0.1, 0.2, 0.4, 0.5, 0.49])
    assert judge("below-expected-curve", caught_up, expecting).status is Status.PASS
    assert judge("below-expected-curve", caught_up[:1], expecting).status is Status.SKIPPED
    assert judge("below-expected-curve", caught_up).status is Status.SKIPPED


def test_plateau() -> None:
    flat = [2.3, 2.0, 1.7, 1.5, *plus([1.45] * 16, noise(0.005, 16, 4))]
    rows = history(flat, flat, train_accuracy=[min(0.42, 0.1 + 0.08 * i) for i in range(20)])
    assert judge("plateau", rows).names == ["plateau"]
    annealed = [{**row, "lr": 0.1 if i < 10 else 0.001} for i, row in enumerate(rows)]
    assert judge("plateau", annealed).status is Status.PASS
    good = [{**row, "train_accuracy": 0.8} for row in rows]
    assert judge("plateau", good).status is Status.PASS


def test_loss_spike() -> None:
    losses = falling(12)
    losses[7] = 1.4
    judged = judge("loss-spike", history(losses))
    assert judged.names == ["loss-spike"]
    assert judged.values["epoch"] == 8
    assert "came back" in judged.findings[0].message
    assert judge("diverging", history(losses)).status is Status.PASS
    restarted = history(losses, lr=[0.01] * 7 + [0.1] * 5)
    assert judge("loss-spike", restarted).status is Status.PASS
