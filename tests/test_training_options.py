"""Schedulers, augmentation and settings of the training, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from probing import context
from small_pipelines import digits_cnn
from torch import nn

from diagnose.config import load_config
from diagnose.datasets import builtin_loaders
from diagnose.datasets.augmented import NAMES, Augmented, Strengths, augmented
from diagnose.datasets.images import FakeImages
from diagnose.errors import UsageError
from diagnose.settings import SCHEDULERS
from diagnose.training import schedulers
from diagnose.training.loop import train
from diagnose.training.options import TrainingOptions, training_options


def rates(name: str, epochs: int = 4, per_epoch: int = 5, **settings: Any) -> list[float]:
    """The learning rate before each interval of the training."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    made = schedulers.BY_NAME[name](optimizer, epochs, per_epoch, **settings)
    interval = settings.get("interval", schedulers.INTERVALS[name])
    found = []
    for _ in range(epochs * per_epoch if interval == "step" else epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return found


def test_names_are_those_of_the_command_line() -> None:
    assert set(SCHEDULERS) == set(schedulers.BY_NAME) == set(schedulers.INTERVALS)
    with pytest.raises(
        UsageError, match=r"expected step, multi-step, exponential, cosine, plateau, one-cycle.*Did you mean cosine"
    ):
        load_config({"target": "m:f", "scheduler": "cosin"}, Path("/nonexistent"))
    config = load_config({"target": "m:f", "scheduler": "CosineAnnealingLR"}, Path("/nonexistent"))
    assert config.scheduler == "cosine"


def test_courses() -> None:
    assert rates("step", step_size=2) == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert rates("exponential", gamma=0.5) == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    assert rates("multi-step") == pytest.approx([0.1, 0.1, 0.01, 0.001])
    cosine = rates("cosine")
    assert cosine[0] == pytest.approx(0.1)
    assert cosine[10] == pytest.approx(0.05)
    assert cosine == sorted(cosine, reverse=True)
    cycle = rates("one-cycle", max_lr=1.0, pct_start=0.3)
    assert max(cycle) == pytest.approx(1.0, rel=0.05)
    assert cycle[-1] < 1e-3


@pytest.mark.parametrize("name", ["step", "exponential", "cosine"])
def test_warm_up_rises_to_the_rate_that_was_given(name: str) -> None:
    found = rates(name, warmup=5, interval="step")
    assert found[0] == pytest.approx(0.001)
    assert found[:5] == sorted(found[:5])
    assert max(found) == pytest.approx(0.1)


def test_unfit_settings_of_schedulers() -> None:
    with pytest.raises(UsageError, match="20 steps"):
        rates("cosine", warmup=20)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(UsageError, match="goes by epochs"):
        schedulers.plateau(optimizer, interval="step")


def test_a_scheduler_by_name_in_a_training(tmp_path: Path) -> None:
    ctx = context(
        lambda: digits_cnn(n=64, epochs=3), scheduler="cosine", set=("scheduler.warmup=2", "train.accumulate=2")
    )
    rows = train(ctx, tmp_path)
    assert ctx.pipeline.scheduler_interval == "step"
    assert [row["step"] for row in rows] == [1, 2, 3]  # two batches an update
    assert rows[0]["lr"] < rows[1]["lr"]


# -- augmentation -------------------------------------------------------------------------------------------------


def test_each_augmentation_keeps_shape_and_label_and_changes_something() -> None:
    plain = FakeImages((3, 16, 16), 4, 20)
    for name in NAMES:
        made = augmented(plain, [name], Strengths(flip=1.0, grey=1.0, erase=1.0))
        torch.manual_seed(0)
        pairs = [(made[i], plain[i]) for i in range(5)]
        assert all(new[0].shape == old[0].shape and new[1] == old[1] for new, old in pairs), name
        assert any(not torch.equal(new[0], old[0]) for new, old in pairs), name


def test_only_training_data_are_augmented() -> None:
    loaders = builtin_loaders("digits", augment=("standard",))
    assert isinstance(loaders["train"].dataset, Augmented)
    assert not isinstance(loaders["val"].dataset, Augmented)
    assert not isinstance(builtin_loaders("digits", augment=("none",))["train"].dataset, Augmented)


@pytest.mark.parametrize(
    ("names", "message"), [(["flop"], "Did you mean flip"), (["grey"], "1 channels"), (["crop"], "expected images")]
)
def test_unfit_augmentations(names: list[str], message: str) -> None:
    shape = (4,) if names == ["crop"] else (1, 8, 8)
    with pytest.raises(UsageError, match=message):
        augmented(FakeImages(shape, 2, 4), names, Strengths())


# -- settings -----------------------------------------------------------------------------------------------------


def test_settings_of_the_training() -> None:
    made = training_options({"patience": "3", "channels_last": "no", "precision": "bf16", "deterministic": "true"})
    assert made == TrainingOptions(patience=3, channels_last="no", precision="bf16", deterministic=True)
    with pytest.raises(UsageError) as told:
        training_options({"patence": "3", "accumulate": "x"})
    assert len(told.value.problems) == 2
    assert "Did you mean patience" in told.value.problems[0]
    with pytest.raises(UsageError, match="from 1 up"):
        training_options({"checkpoint_every": "0"})


def test_early_stopping_determinism_and_kept_checkpoints(tmp_path: Path) -> None:
    def build() -> Any:
        return digits_cnn(n=64, epochs=9, optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=1e-12))

    options = ("train.patience=2", "train.checkpoint_every=2", "train.deterministic=true")
    ctx = context(build, set=options)
    assert len(train(ctx, tmp_path)) == 3
    assert any("patience 2" in note for note in ctx.notes)
    assert not torch.are_deterministic_algorithms_enabled()
    assert [path.name for path in (tmp_path / "checkpoints").glob("checkpoint_epoch_*")] == ["checkpoint_epoch_2.pth"]
