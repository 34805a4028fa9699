"""Trials side by side: the same curves as in turn, whatever becomes of a fork."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from faults import adam, mlp, of_digits
from probing import context
from small_pipelines import digits_tensors, own_step
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from diagnose.context import MeasuringContext
from diagnose.experiments import side_by_side
from diagnose.experiments.change import AS_CONFIGURED
from diagnose.experiments.knobs import arms, scaled_lr
from diagnose.experiments.trials import Wanted
from probes.records.trials import Trace

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="trials run side by side on Linux only")


def pipeline() -> Pipeline:
    return of_digits(mlp(0.3), adam(1e-3))


def several(build: Callable[[], Pipeline], kept: dict[str, Any] | None = None) -> MeasuringContext:
    ctx = context(build, keep=lambda *_: None, trials=kept)
    ctx.processes = 3
    return ctx


def timeless(trace: Trace) -> Trace:
    return replace(trace, seconds=0.0, points=tuple(replace(point, seconds=0.0) for point in trace.points))


def test_a_trial_is_the_same_in_a_fork_and_in_turn() -> None:
    wanted = [Wanted(change, seed, 30) for change in (AS_CONFIGURED, scaled_lr(10.0)) for seed in range(2)]
    ctx = several(pipeline)
    ctx.trainings.ahead(wanted)
    assert all(ctx.kept.has(key) for key in [ctx.trainings._trials._kept_key(w) for w in wanted])
    alone = context(pipeline)
    with side_by_side.on_one_thread():
        for w in wanted:
            one, other = (c.trainings.trial(w.change, w.seed, w.steps) for c in (ctx, alone))
            assert timeless(one) == timeless(other)


class Endless(Dataset[Any]):
    """Draws a new sample at every reading."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        return torch.rand(1, 8, 8), index % 10


def test_data_that_are_read_anew_are_never_read_by_two_processes() -> None:
    def build() -> Pipeline:
        data = Endless()
        return of_digits(mlp(), adam(1e-3), loaders=(DataLoader(data, 16, shuffle=True), DataLoader(data, 16)))

    ctx = several(build)
    ctx.trainings.ahead(Wanted(AS_CONFIGURED, seed, 10) for seed in range(2))
    assert not any(ctx.kept.has(ctx.trainings._trials._kept_key(Wanted(AS_CONFIGURED, s, 10))) for s in range(2))


class Noisy(Dataset[Any]):
    """Digits, or noise in their place where ``augment`` is set."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels, self.augment = images, labels, True

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        return (torch.rand_like(image) if self.augment else image), self.labels[index]


def test_a_fork_reads_without_augmentation_where_the_arm_does() -> None:
    x, y = digits_tensors()

    def build() -> Pipeline:
        train, val = Noisy(x, y), Noisy(x, y)
        val.augment = False
        return of_digits(mlp(), adam(1e-3), loaders=(DataLoader(train, 32, shuffle=True), DataLoader(val, 32)))

    ctx, alone = several(build), context(build)
    (plain,) = arms(ctx, "augmentation")
    ctx.trainings.ahead(Wanted(plain, seed, 60) for seed in range(2))
    assert ctx.kept.has(ctx.trainings._trials._kept_key(Wanted(plain, 0, 60)))
    with side_by_side.on_one_thread():
        in_turn = alone.trainings.trial(arms(alone, "augmentation")[0], 0, 60)
        assert timeless(ctx.trainings.trial(plain, 0, 60)) == timeless(in_turn)


def test_a_step_of_ones_own_without_a_loss_is_trained_in_turn() -> None:
    ctx = several(own_step)
    assert ctx.trainings.trial(AS_CONFIGURED, 0, 10).steps == 10


def dies(alive: Callable[[], None]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def fails(alive: Callable[[], None]) -> Any:
    raise ValueError("of the user's code")


def leaves(alive: Callable[[], None]) -> Any:
    sys.exit(3)


def answer(alive: Callable[[], None]) -> Any:
    for _ in range(3):
        alive()
    return {"loss": [1.0, None]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking in a process with threads
def test_a_fork_that_gives_no_answer_leaves_the_others_theirs(capfd: pytest.CaptureFixture[str]) -> None:
    found = side_by_side.answers([answer, dies, answer, fails, leaves, answer], at_once=2)
    assert found == [answer(lambda: None), None, answer(lambda: None), None, None, answer(lambda: None)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_that_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "SILENCE", 0.5)
    pids: list[int] = []

    def hangs(alive: Callable[[], None]) -> Any:
        time.sleep(600)

    forked = side_by_side._forked

    def remembering(call: Any) -> Any:
        receiver, process = forked(call)
        pids.append(process.pid)
        return receiver, process

    monkeypatch.setattr(side_by_side, "_forked", remembering)
    assert side_by_side.answers([hangs, answer], at_once=2)[0] is None
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_gpu_is_never_shared() -> None:
    assert side_by_side.processes(torch.device("cuda")) == 1
