"""What the user's own train_step does in which order: each fault of it, and steps that are in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import judge
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.pipeline import Pipeline
from probes.results import Status

Step = Callable[[nn.Module, Any, Any], Any]
Build = Callable[[], Pipeline]
MICRO = 4  # batches, or parts of one, behind each step


def stepping(make: Callable[..., Step], *arguments: Any) -> Build:
    """A digits CNN with the step that ``make`` gives; each pipeline gets a step of its own."""
    return partial(_with_step, make, arguments)


def _with_step(make: Callable[..., Step], arguments: tuple[Any, ...]) -> Pipeline:
    return small.digits_cnn(train_step=make(*arguments))


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def clip(model: nn.Module) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def across_calls(every: int, averaged: bool) -> Step:
    """Steps at every ``every``-th call."""
    calls = [0]

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        loss = loss_of(model, *batch)
        (loss / every if averaged else loss).backward()
        calls[0] += 1
        if calls[0] % every == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return step


def within_a_call(averaged: bool) -> Step:
    """Takes each batch in parts."""

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        for x, y in zip(batch[0].chunk(MICRO), batch[1].chunk(MICRO), strict=True):
            loss = loss_of(model, x, y)
            (loss / MICRO if averaged else loss).backward()
        clip(model)
        optimizer.step()
        return loss.detach()

    return step


def one_backward() -> Step:
    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def two_losses() -> Step:
    """As of a discriminator: each half of the loss has a backward of its own, over the same batch."""

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        real = loss_of(model, x, y)
        real.backward()
        fake = loss_of(model, torch.randn_like(x), torch.zeros_like(y))
        fake.backward()
        optimizer.step()
        return (real + fake).detach()

    return step


def clipping(late: bool) -> Step:
    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        if not late:
            clip(model)
        optimizer.step()
        if late:
            clip(model)
        return loss.detach()

    return step


def scaling(unscaled: bool, clipped: bool = True) -> Step:
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        scaler.scale(loss).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        if clipped:
            clip(model)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


FAULTS = {
    "summed across calls": ("accumulation-not-averaged", stepping(across_calls, MICRO, False)),
    "summed within a call": ("accumulation-not-averaged", stepping(within_a_call, False)),
    "clipped late": ("clip-after-step", stepping(clipping, True)),
    "clipped while scaled": ("clip-before-unscale", stepping(scaling, False)),
}
SILENT = {
    "averaged across calls": ("accumulation-not-averaged", stepping(across_calls, MICRO, True)),
    "averaged within a call": ("accumulation-not-averaged", stepping(within_a_call, True)),
    "two losses of one batch": ("accumulation-not-averaged", stepping(two_losses)),
    "one backward": ("accumulation-not-averaged", stepping(one_backward)),
    "scaled loss": ("accumulation-not-averaged", stepping(scaling, True)),
    "two optimizers": ("accumulation-not-averaged", small.own_step),
    "no step of its own": ("accumulation-not-averaged", small.plain_cnn),
    "clipped in time": ("clip-after-step", stepping(clipping, False)),
    "clipped in time, in parts": ("clip-after-step", stepping(within_a_call, True)),
    "clipped between two optimizers": ("clip-after-step", small.own_step),
    "never clipped": ("clip-after-step", stepping(one_backward)),
    "clipped when unscaled": ("clip-before-unscale", stepping(scaling, True)),
    "scaled and not clipped": ("clip-before-unscale", stepping(scaling, False, False)),
    "clipped without a scaler": ("clip-before-unscale", stepping(clipping, False)),
    "accumulated over 4 calls": ("gradients-not-cleared", stepping(across_calls, MICRO, True)),
    "accumulated over 8 calls": ("gradients-not-cleared", stepping(across_calls, 8, True)),
    "accumulated within a call": ("gradients-not-cleared", stepping(within_a_call, True)),
    "a step every 8 calls": ("parameters-not-updated", stepping(across_calls, 8, True)),
}


@pytest.mark.parametrize("case", FAULTS)
def test_finds_its_fault(case: str) -> None:
    name, faulty = FAULTS[case]
    judged = judge(name, faulty)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL
    assert judged.findings[0].where[0].file.endswith("test_own_step.py")


@pytest.mark.parametrize("case", SILENT)
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_where_the_step_is_in_order(case: str, seed: int) -> None:
    name, healthy = SILENT[case]
    judged = judge(name, healthy, seed)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}


@pytest.mark.parametrize("case", ["summed across calls", "summed within a call"])
def test_tells_how_many_losses_are_added_up(case: str) -> None:
    values = judge(*FAULTS[case]).values
    assert values["count"] == MICRO
    assert values["total"] == pytest.approx(MICRO)


def test_a_late_clip_is_told_for_every_step() -> None:
    assert judge(*FAULTS["clipped late"]).values["steps"] >= 3


def test_names_the_line_of_the_clip() -> None:
    where = judge(*FAULTS["clipped while scaled"]).findings[0].where[0]
    assert "clip" in where.text


def test_without_a_step_of_its_own_there_is_no_order_to_judge() -> None:
    for name in ("accumulation-not-averaged", "clip-after-step", "clip-before-unscale"):
        assert judge(name, small.plain_cnn).status is Status.SKIPPED
