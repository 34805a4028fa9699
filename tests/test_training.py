"""The full training: its history and files, resuming, budgets, loaders of every kind, weights from elsewhere."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from probing import context
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from diagnose import Pipeline
from diagnose.datasets.glyphs import Glyphs
from diagnose.demos import repaired
from diagnose.errors import UsageError
from diagnose.training import batch_stream, checkpoints
from diagnose.training.expected import expected_for, is_tiny_imagenet, kind_of
from diagnose.training.loop import best_epoch, train
from diagnose.training.weights import load_exactly
from diagnose.user_code import UserCodeError
from probes.api import Inconclusive, Skip

COLUMNS = ["epoch", "step", "lr", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "seconds"]
TIMES = ("seconds", "samples_per_second", "data_wait", "memory_mb")
FIGURES = ["gradient_norm", "gradient_norm_max", "data_wait", "memory_mb"]


def blobs(samples: int = 96, classes: int = 3) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(samples) % classes
    x = torch.randn(samples, 4, generator=generator) + 2 * nn.functional.one_hot(y, 4)
    return TensorDataset(x, y)


def model(out: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, out))


def with_schedule() -> Pipeline:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    return Pipeline(
        net,
        DataLoader(blobs(), 16, shuffle=True, generator=torch.Generator().manual_seed(3)),
        DataLoader(blobs(48), 16),
        nn.CrossEntropyLoss(),
        optimizer,
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6),
        epochs=6,
        metrics={"confidence": lambda output, target: output.softmax(1).amax(1).mean()},
    )


def plain(samples: int = 96, **changes: Any) -> Pipeline:
    made = Pipeline(model(), DataLoader(blobs(samples), 16, shuffle=True), DataLoader(blobs(48), 16), epochs=2)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def untimed(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in history]


def run(build: Callable[[], Any], folder: Path, **options: Any) -> list[dict[str, Any]]:
    return train(context(build), folder, **options)


def weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = checkpoints.read(folder / "checkpoints/latest_checkpoint.pth")["model"]
    return found


def test_history_and_files(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    history = run(with_schedule, tmp_path, on_epoch=seen.append)
    assert seen == history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in history] == [6, 12, 18, 24, 30, 36]
    first, last = history[0], history[-1]
    assert list(first)[: len(COLUMNS) - 1] == COLUMNS[:-1]
    assert list(first)[7:] == ["train_confidence", "val_confidence", "seconds", "samples_per_second", *FIGURES]
    assert first["lr"] == pytest.approx(0.01)
    assert last["lr"] < 0.002
    assert last["val_loss"] < first["val_loss"]
    assert last["val_accuracy"] > 0.8
    assert pd.read_csv(tmp_path / "history.csv")["val_loss"].iloc[-1] == pytest.approx(last["val_loss"])
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"latest_checkpoint.pth", "previous_checkpoint.pth", "best_model.pth", "checkpoint_epoch_5.pth"}
    assert checkpoints.read(tmp_path / "checkpoints/best_model.pth")["epoch"] == best_epoch(history)


def test_tensorboard_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr("socket.gethostname", lambda: "secret-host")
    history = run(plain, tmp_path)
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert "secret-host" not in path.name
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("epoch/val_loss")] == [6, 12]
    assert events.Scalars("epoch/val_loss")[-1].value == pytest.approx(history[-1]["val_loss"], rel=1e-5)
    assert len(events.Scalars("step/train_loss")) > 2


def test_data_lie_in_memory_once(tmp_path: Path) -> None:
    """However often the pipeline has been built before: for its facts, for a first step."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def build() -> Pipeline:
        pipeline = plain(epochs=2)
        alive.add(pipeline.train.dataset)  # type: ignore[attr-defined]
        return pipeline

    ctx = context(build)
    ctx.updates()
    counts: list[int] = []
    train(ctx, tmp_path, on_epoch=lambda row: counts.append(len(alive)))
    assert counts == [1, 1]
    assert ctx.facts.splits == ("train", "val")
    assert len(alive) == 0
    assert ctx.pipeline.epochs == 2


def test_losses_are_means_over_samples(tmp_path: Path) -> None:
    def build() -> Pipeline:
        made = plain(40)  # batches of 16, 16, 8
        made.model = nn.Linear(4, 3)
        made.optimizer = torch.optim.SGD(made.model.parameters(), lr=0.0)
        made.val = made.train
        made.epochs = 1
        return made

    (row,) = run(build, tmp_path)
    x, y = blobs(40).tensors
    net = context(build).fresh_model().requires_grad_(False)
    assert row["train_loss"] == pytest.approx(float(nn.functional.cross_entropy(net(x), y)), rel=1e-5)
    assert row["val_loss"] == pytest.approx(row["train_loss"], rel=1e-5)
    assert row["train_accuracy"] == pytest.approx(float((net(x).argmax(1) == y).float().mean()))


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = run(with_schedule, tmp_path / "whole")
    run(with_schedule, tmp_path / "parts", epochs=2)
    ctx = context(with_schedule)
    resumed = train(ctx, tmp_path / "parts", resume=True)
    assert untimed(resumed) == untimed(whole)
    assert any("after epoch 2" in note for note in ctx.notes)
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(a[key], b[key]) for key in a)


class Augmented(Dataset[tuple[Tensor, int]]):
    """Draws from torch's and from python's generator."""

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import random

        return torch.randn(4) + index % 3 + random.random(), index % 3


def augmented() -> Pipeline:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8)
    loader = DataLoader(Augmented(), 8, shuffle=True)
    return Pipeline(
        net, loader, None, None, optimizer, scheduler, "step", accumulate=4, epochs=4, task="classification"
    )


def test_resume_with_augmentation_step_schedule_accumulation_and_a_held_out_part(tmp_path: Path) -> None:
    ctx = context(augmented)
    whole = train(ctx, tmp_path / "whole")
    assert any("held out" in note for note in ctx.notes)
    assert [row["step"] for row in whole] == [2, 4, 6, 8]  # 5 batches: one update of four, one of the last
    run(augmented, tmp_path / "parts", epochs=3)
    assert untimed(run(augmented, tmp_path / "parts", resume=True)) == untimed(whole)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_latest_falls_back(tmp_path: Path, content: bytes | None) -> None:
    run(with_schedule, tmp_path, epochs=6)
    latest = tmp_path / "checkpoints/latest_checkpoint.pth"
    whole = latest.read_bytes()
    (tmp_path / "checkpoints/best_model.pth").unlink()
    latest.write_bytes(whole[: len(whole) // 2] if content is None else content)
    ctx = context(with_schedule)
    history = train(ctx, tmp_path, resume=True)
    assert len(history) == 6
    assert any("latest_checkpoint.pth cannot be read" in note and "epoch 5" in note for note in ctx.notes)


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    run(plain, tmp_path)
    latest = tmp_path / "checkpoints/latest_checkpoint.pth"
    data = bytearray(latest.read_bytes())
    stored = weights(tmp_path)["0.weight"].numpy().tobytes()
    place = bytes(data).index(stored)
    data[place] ^= 0xFF
    latest.write_bytes(bytes(data))
    with pytest.raises(checkpoints.Unreadable):
        checkpoints.read(latest)


def test_nothing_readable_is_a_usage_error_and_nothing_there_a_note(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    ctx = context(plain)
    assert len(train(ctx, tmp_path, resume=True)) == 2
    assert any("no checkpoint" in note for note in ctx.notes)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(UsageError, match="cannot be read"):
        run(plain, tmp_path, resume=True)


def test_checkpoint_of_another_model_is_a_usage_error(tmp_path: Path) -> None:
    run(plain, tmp_path)
    with pytest.raises(UsageError, match="does not fit"):
        run(lambda: plain(model=nn.Linear(4, 3)), tmp_path, resume=True, epochs=3)


def test_budget_stops_with_finished_epochs_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = []
    ctx = context(with_schedule)
    real = time.monotonic
    deadline = real() + 1000
    with monkeypatch.context() as patch:
        patch.setattr("diagnose.training.loop.time.monotonic", lambda: real() + (2000 if len(rows) == 2 else 0))
        with pytest.raises(Inconclusive, match=r"epoch 3 of 6.*2 finished"):
            train(ctx, tmp_path, on_epoch=rows.append, deadline=deadline)
    assert len(ctx.history()) == 2
    whole = run(with_schedule, tmp_path / "whole")
    assert untimed(run(with_schedule, tmp_path, resume=True)) == untimed(whole)


def test_nonfinite_training_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    def build() -> Pipeline:
        made = plain(640, epochs=5)
        calls = [0]

        def loss(output: Tensor, target: Tensor) -> Tensor:
            calls[0] += torch.is_grad_enabled()
            return nn.functional.cross_entropy(output, target) * (math.nan if calls[0] > 60 else 1)

        made.loss = loss
        made.task = "classification"
        return made

    ctx = context(build)
    history = train(ctx, tmp_path)
    assert len(history) == 2
    assert history[-1]["train_loss"] is None
    assert history[-1]["nonfinite_steps"] == 20
    assert any("not finite" in note for note in ctx.notes)
    assert checkpoints.read(tmp_path / "checkpoints/latest_checkpoint.pth")["epoch"] == 1


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __init__(self, samples: int | None) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        index = 0
        while self.samples is None or index < self.samples:
            yield torch.randn(4) + index % 3, torch.tensor(index % 3)
            index += 1


def test_loader_without_a_length(tmp_path: Path) -> None:
    ctx = context(lambda: plain(train=DataLoader(Stream(40), 8)))
    assert [row["step"] for row in train(ctx, tmp_path)] == [5, 10]
    assert not any("length" in note for note in ctx.notes)


def test_endless_loader_is_limited_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagnose.training.loop.EPOCH_BATCHES", 7)
    ctx = context(lambda: plain(train=DataLoader(Stream(None), 8), val=None))
    history = train(ctx, tmp_path)
    assert [row["step"] for row in history] == [7, 14]
    assert history[-1]["val_loss"] is None
    assert any("7 batches" in note for note in ctx.notes)
    assert any("cannot be divided" in note for note in ctx.notes)
    assert batch_stream.EPOCH_BATCHES > 7


def test_regression_custom_steps_and_dict_batches(tmp_path: Path) -> None:
    def regression() -> Pipeline:
        x = torch.randn(64, 4)
        data = TensorDataset(x, x.sum(1))
        return Pipeline(
            nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
            DataLoader(data, 16),
            DataLoader(data, 16),
            nn.MSELoss(),
            epochs=2,
        )

    history = run(regression, tmp_path / "a")
    assert history[-1]["val_mae"] < history[0]["train_mae"]
    assert "val_accuracy" not in history[0]

    def own_step() -> Pipeline:
        def step(net: nn.Module, batch: Any, optimizer: Any) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(batch["x"]), batch["y"])
            loss.backward()
            optimizer.step()
            return loss

        rows = [{"x": x, "y": y} for x, y in zip(*blobs().tensors, strict=True)]
        loader = DataLoader(rows, 16)  # type: ignore[arg-type]
        return Pipeline(model(), loader, loader, train_step=step, epochs=8, task="classification")

    history = run(own_step, tmp_path / "b")
    assert history[-1]["step"] == 48
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["val_loss"] is None
    assert history[-1]["val_accuracy"] > 0.3


def test_plateau_scheduler_bf16_and_clipping(tmp_path: Path) -> None:
    def build() -> Pipeline:
        made = plain(epochs=3, precision="bf16", clip_grad_norm=1.0)
        made.optimizer = torch.optim.SGD(made.model.parameters(), lr=0.0)
        made.optimizer.param_groups[0]["lr"] = 1e-12
        made.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(made.optimizer, patience=0, threshold=0.5, eps=0)
        return made

    assert [row["lr"] for row in run(build, tmp_path)] == pytest.approx([1e-12, 1e-12, 1e-13])


def test_schedule_shorter_than_asked_for(tmp_path: Path) -> None:
    ctx = context(augmented)
    assert len(train(ctx, tmp_path, epochs=5)) == 5
    assert any("shorter than this training" in note for note in ctx.notes)


def test_no_data_failing_data_and_empty_loader(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs data"):
        run(lambda: nn.Linear(4, 3), tmp_path)
    with pytest.raises((Skip, UserCodeError)):
        run(lambda: plain(train=[]), tmp_path)

    def failing() -> Pipeline:
        def collate(items: Any) -> Any:
            if torch.is_grad_enabled() and len(items) < 16:
                raise OSError("truncated")
            return torch.utils.data.default_collate(items)

        return plain(train=DataLoader(blobs(88), 16, collate_fn=collate))

    with pytest.raises(UserCodeError, match="truncated"):
        run(failing, tmp_path)


# -- weights from elsewhere ----------------------------------------------------------------------------------


def test_init_from_says_what_was_loaded(tmp_path: Path) -> None:
    other = model(out=7)
    path = tmp_path / "pretrained.pth"
    state = {f"module.{key}": value for key, value in other.state_dict().items()}
    torch.save({"state_dict": {**state, "module.extra": torch.zeros(2)}, "epoch": 3}, path)
    ctx = context(lambda: plain(optimizer=None))
    train(ctx, tmp_path / "run", init_from=str(path), epochs=1)
    told = "\n".join(ctx.notes)
    assert "7 of the model's 9 tensors were loaded from pretrained.pth: 0.weight, 0.bias" in told
    assert "no such tensor: extra" in told
    assert "4.weight ((7, 16) in the file, (3, 16) in the model)" in told


def test_unfit_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match="none of its 1 tensors fits"):
        run(plain, tmp_path / "run", init_from=str(path))
    with pytest.raises(UsageError, match=r"lacks 0\.weight.*the model lacks a"):
        load_exactly(model(), path)
    with pytest.raises(UsageError, match="does not exist"):
        run(plain, tmp_path / "run", init_from=str(tmp_path / "none.pth"))
    torch.save(model(), path)
    with pytest.raises(UsageError, match="cannot be read safely"):
        load_exactly(model(), path)


def test_portable_state() -> None:
    import numpy as np

    dropped: list[str] = []
    made = checkpoints.portable({"lr": np.float64(0.5), "f": len, "x": object(), "t": (1, [np.arange(2)])}, dropped)
    assert made == {"lr": 0.5, "x": None, "t": (1, [[0, 1]])}
    assert dropped == ["x"]


# -- what is expected ----------------------------------------------------------------------------------------


class LikeTinyImageNet(Dataset[Any]):
    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(3, 64, 64), index % 200


def tiny() -> Pipeline:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 200))
    return Pipeline(net, DataLoader(LikeTinyImageNet(), 2), num_classes=200, task="classification")


def test_expected_of_known_data() -> None:
    ctx = context(tiny)
    rows = {row.epoch: (row.low, row.high) for row in ctx.expected()}
    assert rows[10] == (0.08, 0.12)
    assert rows[50] == (0.35, 0.40)
    assert not context(plain).expected()
    assert not is_tiny_imagenet(plain(), ctx.facts)


def test_expected_of_the_demo_holds_for_the_data_it_was_measured_on_alone() -> None:
    ctx = context(repaired.get_pipeline)
    assert {row.epoch: row.low for row in ctx.expected()}[12] > 0.6
    assert not any(module.p for module in ctx.pipeline.model.modules() if isinstance(module, nn.Dropout))
    others = repaired.get_pipeline(), repaired.get_pipeline()
    others[0].train = DataLoader(Glyphs(200, size=32, samples=40_000), 64)
    others[1].model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 200))
    assert [expected_for(other, ctx.facts) for other in others] == [[], []]


def test_kind_of_model() -> None:
    class ResidualBlock(nn.Module):
        pass

    assert "residual" in kind_of(ResidualBlock())[0]
    assert "small model" in kind_of(nn.Linear(2, 2))[0]


def test_expected_as_given() -> None:
    ctx = context(lambda: plain(expected=[(2, "accuracy", 0.5, 1.0), (1, "val_loss", 0.1, 1.0)]))
    assert [(row.epoch, row.metric) for row in ctx.expected()] == [(1, "val_loss"), (2, "val_accuracy")]
    for bad in ((1, "accuracy", 8, 15), (0, "val_loss", 0, 1), (1, "val_loss"), (1, "val_loss", 2, 1)):
        with pytest.raises(UsageError, match=r"Pipeline\.expected"):
            expected_for(plain(expected=[bad]), ctx.facts)
