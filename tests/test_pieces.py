"""Trials side by side that are killed go on from what was kept; all the parts lost are no more than one trial."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import adam, mlp, of_digits
from probing import context
from small_pipelines import own_step
from test_side_by_side import timeless
from torch import Tensor, nn

from diagnose import Pipeline
from diagnose.context import MeasuringContext
from diagnose.experiments import side_by_side
from diagnose.experiments.change import AS_CONFIGURED, Change
from diagnose.experiments.knobs import arms
from diagnose.experiments.trials import Wanted
from probes.records.trials import Trace

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="trials run side by side on Linux only")
STEPS, AT_ONCE = 60, 3


class Cut(BaseException):
    pass


def plain() -> Pipeline:
    return of_digits(mlp(0.3), lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3))


class Counting(nn.Module):
    """Remembers how often it was called, in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.calls = mlp(0.3), 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.layers(x)


def counting() -> Pipeline:
    return of_digits(Counting(), adam(1e-3))


class Annealed:
    """A loss that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return min(1.0, self.calls / 50) * nn.functional.cross_entropy(output, target)


def annealed() -> Pipeline:
    made = plain()
    made.loss = Annealed()
    return made


def beginning(folder: Path, build: Callable[[], Pipeline] = plain) -> MeasuringContext:
    ctx = context(build)
    ctx.kept.folder, ctx.processes = folder, AT_ONCE
    return ctx


def train(ctx: MeasuringContext, change: Change, *, cut_at: int = 0, seen: list[int] | None = None) -> Trace:
    """As a fork does; ``seen`` gets the number of each step that was trained."""

    def progress(step: int, steps: int, loss: float) -> None:
        if seen is not None:
            seen.append(step)
        if step == cut_at:
            raise Cut

    wanted = Wanted(change, 0, STEPS, to_the_end=True)
    with side_by_side.on_one_thread():
        return ctx.trainings._trials._train(wanted, progress, at_once=AT_ONCE)


@pytest.mark.parametrize("knob", ["", "dropout", "scheduler"])
def test_a_trial_goes_on_as_if_it_had_not_been_cut_off(tmp_path: Path, knob: str) -> None:
    def change_of(ctx: MeasuringContext) -> Change:
        return arms(ctx, knob, ("ReduceLROnPlateau",) if knob == "scheduler" else ())[0] if knob else AS_CONFIGURED

    whole = context(plain)
    expected = train(whole, change_of(whole))
    first = beginning(tmp_path)
    with pytest.raises(Cut):
        train(first, change_of(first), cut_at=45)
    again, seen = beginning(tmp_path), list[int]()
    assert timeless(train(again, change_of(again), seen=seen)) == timeless(expected)
    assert seen[0] == 41
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("build", [counting, annealed, own_step])
def test_what_could_not_be_made_the_same_again_begins_anew(tmp_path: Path, build: Callable[[], Pipeline]) -> None:
    first, again, seen = beginning(tmp_path, build), beginning(tmp_path, build), list[int]()
    with pytest.raises(Cut):
        train(first, AS_CONFIGURED, cut_at=45)
    train(again, AS_CONFIGURED, seen=seen)
    assert seen[0] == 1


def test_a_damaged_piece_is_not_taken_up(tmp_path: Path) -> None:
    first, again, seen = beginning(tmp_path), beginning(tmp_path), list[int]()
    with pytest.raises(Cut):
        train(first, AS_CONFIGURED, cut_at=45)
    (piece,) = tmp_path.iterdir()
    piece.write_bytes(piece.read_bytes()[:-100])
    train(again, AS_CONFIGURED, seen=seen)
    assert seen[0] == 1


def test_a_full_disk_does_not_end_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    alone, ctx = context(plain), beginning(tmp_path)
    expected = train(alone, AS_CONFIGURED)
    monkeypatch.setattr(torch, "save", full)
    assert timeless(train(ctx, AS_CONFIGURED)) == timeless(expected)
    assert list(tmp_path.iterdir()) == []


def trials_until_killed(folder: Path, log: Path) -> None:
    """AT_ONCE trials in forks, slow enough to be killed; each step is a line of ``log``."""
    ctx = beginning(folder)
    with log.open("a", buffering=1) as file:

        def reported(what: str) -> Callable[[int, int, float], None]:
            def report(step: int, steps: int, loss: float) -> None:
                file.write(f"{what} {step}\n")
                time.sleep(0.02)

            return report

        ctx.trainings._trials._reported = reported
        ctx.trainings.ahead(Wanted(AS_CONFIGURED, seed, STEPS, to_the_end=True) for seed in range(AT_ONCE))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking in a process with threads
def test_a_kill_loses_no_more_than_one_trial(tmp_path: Path) -> None:
    log = tmp_path / "steps"

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    folder = tmp_path / "trials"
    folder.mkdir()
    process = multiprocessing.get_context("fork").Process(target=trials_until_killed, args=(folder, log))
    process.start()
    until = time.monotonic() + 60
    while len(lines()) < AT_ONCE * STEPS * 0.75 and time.monotonic() < until:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    time.sleep(0.3)  # its forks end with it
    before = lines()
    assert AT_ONCE * STEPS / 2 < len(before) < AT_ONCE * STEPS
    ctx, again = beginning(folder), list[int]()
    alone = context(plain)
    for seed in range(AT_ONCE):
        wanted = Wanted(AS_CONFIGURED, seed, STEPS, to_the_end=True)
        with side_by_side.on_one_thread():
            found = ctx.trainings._trials._train(wanted, lambda step, steps, loss: again.append(step), at_once=1)
            assert timeless(found) == timeless(alone.trainings.trial(AS_CONFIGURED, seed, STEPS, to_the_end=True))
    assert len(before) + len(again) - AT_ONCE * STEPS <= STEPS
