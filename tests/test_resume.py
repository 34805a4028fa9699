"""A training that was interrupted anywhere goes on as if it had not been; see also benchmarks/resume.py."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probing import context
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from diagnose import Pipeline
from diagnose.errors import UsageError
from diagnose.training import checkpoints
from diagnose.training.loop import train
from diagnose.user_code import UserCodeError

MACHINE = ("seconds", "samples_per_second", "data_wait", "memory_mb")
EVERY = ("train.checkpoint_steps=2",)


class Noisy(Dataset[tuple[Tensor, int]]):
    """Draws from every kind of generator. ``unreadable``: an index whose file is broken while ``broken`` exists."""

    def __init__(self, samples: int, broken: Path | None = None) -> None:
        self.samples, self.broken = samples, broken
        self.own, self.old = np.random.default_rng(3), np.random.RandomState(4)
        self.torch, self.python = torch.Generator().manual_seed(5), random.Random(6)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.broken is not None and index == 17 and self.broken.exists():
            raise OSError("image file is truncated")
        noise = torch.randn(4) + random.random() + float(np.random.rand())
        if torch.utils.data.get_worker_info() is None:  # workers have copies of the generators that no one reaches
            own = self.own.random() + self.old.rand() + self.python.random()
            noise = noise + torch.rand(4, generator=self.torch) + float(own)
        return 0.3 * noise + index % 3, index % 3


def build(workers: int = 0, fail_at: int = 0, broken: Path | None = None) -> Pipeline:
    """``fail_at``: the training step at which the loss raises."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    calls = [0]

    def loss(output: Tensor, target: Tensor) -> Tensor:
        calls[0] += output.requires_grad
        if fail_at and calls[0] == fail_at:
            raise RuntimeError("interrupted")
        return nn.functional.cross_entropy(output, target)

    return Pipeline(
        model,
        DataLoader(Noisy(88, broken), 8, shuffle=True, num_workers=workers),
        DataLoader(Noisy(24), 8),
        loss,
        optimizer,
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=18),
        "step",
        task="classification",
        num_classes=3,
        accumulate=2,
        epochs=3,
    )


def run(make: Callable[[], Pipeline], folder: Path, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows without what depends on the machine, and the notes."""
    ctx = context(make, set=EVERY)
    rows = train(ctx, folder, **options)
    return [{key: value for key, value in row.items() if key not in MACHINE} for row in rows], ctx.notes


def state(folder: Path) -> dict[str, Any]:
    return checkpoints.read(folder / "checkpoints/latest_checkpoint.pth")


def same_weights(one: Path, other: Path) -> bool:
    a, b = state(one), state(other)
    return all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"]) and a["step"] == b["step"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(build, folder)[0]


@pytest.mark.parametrize("fail_at", [7, 16, 29])
def test_interrupted_within_an_epoch(fail_at: int, whole: Any, tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="interrupted"):
        run(partial(build, fail_at=fail_at), tmp_path)
    assert state(tmp_path)["batch"] > 0
    rows, notes = run(build, tmp_path, resume=True)
    assert rows == whole[1]
    assert same_weights(tmp_path, whole[0])
    assert any("in epoch" in note and "batches" in note for note in notes)


def test_with_workers(tmp_path: Path) -> None:
    expected, _ = run(partial(build, workers=1), tmp_path / "whole")
    with pytest.raises(UserCodeError, match="interrupted"):
        run(partial(build, workers=1, fail_at=17), tmp_path / "parts")
    assert state(tmp_path / "parts")["batch"] > 0
    assert run(partial(build, workers=1), tmp_path / "parts", resume=True)[0] == expected
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def alone(folder: Path) -> None:
    torch.set_num_threads(1)  # a pool of threads does not survive the fork
    run(build, folder)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("moment", [0.0, 0.02, 0.3])
def test_killed(moment: float, whole: Any, tmp_path: Path) -> None:
    """By SIGKILL, some time after the first checkpoint began to be written; in another process, forked from this."""
    process = multiprocessing.get_context("fork").Process(target=alone, args=(tmp_path,))
    process.start()
    while process.is_alive() and not list((tmp_path / "checkpoints").glob("*latest*")):
        time.sleep(0.001)
    time.sleep(moment)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert run(build, tmp_path, resume=True)[0] == whole[1]
    assert same_weights(tmp_path, whole[0])
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_disk_full_keeps_the_last_good_state(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = torch.save, [0]

    def save(value: Any, file: Any, **options: Any) -> None:
        calls[0] += 1
        if calls[0] == 5:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(value, file, **options)

    monkeypatch.setattr("torch.save", save)
    with pytest.raises(UsageError, match=r"No space left on device.*make room.*--resume"):
        run(build, tmp_path)
    assert run(build, tmp_path, resume=True)[0] == whole[1]


def test_deleted_latest_goes_on_from_the_previous_one(whole: Any, tmp_path: Path) -> None:
    run(build, tmp_path, epochs=2)
    (tmp_path / "checkpoints/latest_checkpoint.pth").unlink()
    rows, notes = run(build, tmp_path, resume=True)
    assert rows == whole[1]
    assert any("latest_checkpoint.pth is missing" in note for note in notes)


def test_unreadable_file_within_an_epoch(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    with pytest.raises(UserCodeError, match="reading data raised OSError: image file is truncated"):
        run(partial(build, broken=broken), tmp_path)
    saved = state(tmp_path)["batch"]
    assert saved > 0
    broken.unlink()
    rows, notes = run(partial(build, broken=broken), tmp_path, resume=True)
    assert len(rows) == 3
    assert any(f"after {saved} batches" in note for note in notes)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in range(48):
            yield torch.randn(4) + index % 3, torch.tensor(index % 3)


def test_a_stream_goes_on_at_the_start_of_an_epoch_and_says_so(tmp_path: Path) -> None:
    def stream(fail_at: int = 0) -> Pipeline:
        made = build(fail_at=fail_at)
        made.train = DataLoader(Stream(), 8)
        return made

    with pytest.raises(UserCodeError, match="interrupted"):
        run(partial(stream, fail_at=10), tmp_path)
    assert state(tmp_path)["batch"] == 0
    rows, notes = run(stream, tmp_path, resume=True)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert any("at the start of an epoch" in note for note in notes)
