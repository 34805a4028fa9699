"""What the user's own train_step does in which order, and the optimizer's settings against the planned run."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import context, judge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from diagnose.experiments.knobs import arms
from diagnose.experiments.usual import is_unusual
from diagnose.pipeline import Pipeline
from probes.optimizer.gradient_clip_too_small import norm_limit
from probes.results import Severity, Status

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


def clip(model: nn.Module, norm: float = 1.0) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), norm)


def across_calls(every: int, averaged: bool) -> Step:
    """Steps at every ``every``-th call."""
    calls = [0]

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        loss = loss_of(model, *batch)
        (loss / every if averaged else loss).backward()  # type: ignore[no-untyped-call]
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
            (loss / MICRO if averaged else loss).backward()  # type: ignore[no-untyped-call]
        clip(model)
        optimizer.step()
        return loss.detach()

    return step


def one_backward() -> Step:
    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def signed(sign: float, penalty: float = 0.0) -> Step:
    """``penalty``: of a second loss, that is taken away."""

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        (sign * loss - (penalty * loss_of(model, *batch) if penalty else 0)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def clipped_at(norm: float, optimizer: str = "SGD") -> Pipeline:
    kind, lr = getattr(torch.optim, optimizer), {"SGD": 0.1, "Adam": 1e-3}[optimizer]
    return small.digits_cnn(train_step=clipping(False, norm), optimizer=lambda model: kind(model.parameters(), lr=lr))


def maximizing(make: Callable[..., Step], *arguments: Any) -> Pipeline:
    made = _with_step(make, arguments)
    made.optimizer = torch.optim.SGD(made.model.parameters(), lr=0.05, maximize=True)
    return made


def two_losses() -> Step:
    """As of a discriminator: each half of the loss has a backward of its own, over the same batch."""

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        real = loss_of(model, x, y)
        real.backward()  # type: ignore[no-untyped-call]
        fake = loss_of(model, torch.randn_like(x), torch.zeros_like(y))
        fake.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return (real + fake).detach()

    return step


def clipping(late: bool, norm: float = 1.0) -> Step:
    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if not late:
            clip(model, norm)
        optimizer.step()
        if late:
            clip(model, norm)
        return loss.detach()

    return step


def scaling(unscaled: bool, clipped: bool = True) -> Step:
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if unscaled:
            scaler.unscale_(optimizer)
        if clipped:
            clip(model)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


# -- settings against the run -----------------------------------------------------------------------------------------


def epsilon(eps: float) -> Pipeline:
    return small.digits_cnn(optimizer=lambda net: torch.optim.Adam(net.parameters(), lr=1e-3, eps=eps))


def scheduled(make: Callable[[Any], Any], interval: str, **fields: Any) -> Pipeline:
    net = small.cnn()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    return small.digits_cnn(
        model=lambda: net, optimizer=lambda _: optimizer,
        scheduler=make(optimizer), scheduler_interval=interval, **fields,
    )  # fmt: skip


def warm_up(steps: int, **fields: Any) -> Pipeline:
    """16 batches an epoch."""
    return scheduled(lambda o: lr_scheduler.LinearLR(o, 0.01, total_iters=steps), "step", **fields)


def cosine(length: int, interval: str = "epoch", **fields: Any) -> Pipeline:
    return scheduled(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=length), interval, **fields)


def warm_up_then_cosine(length: int) -> Pipeline:
    def make(o: Any) -> Any:
        first, second = lr_scheduler.LinearLR(o, 0.1, total_iters=5), lr_scheduler.CosineAnnealingLR(o, length)
        return lr_scheduler.SequentialLR(o, [first, second], [5])

    return scheduled(make, "epoch", epochs=50)


def by_hand(factor: Callable[[int], float], interval: str = "step", **fields: Any) -> Pipeline:
    """Of 16 steps an epoch."""
    return scheduled(lambda o: lr_scheduler.LambdaLR(o, factor), interval, **fields)


def half_cosine(step: int, steps: int) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * min(1, step / steps))


def restarts(length: int, **fields: Any) -> Pipeline:
    return scheduled(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, length), "step", **fields)


def batches_of(size: int, n: int = 512, **fields: Any) -> Pipeline:
    images, labels = (part[:n] for part in small.digits_tensors())
    return small.digits_cnn(train=DataLoader(small.Images(images, labels), size, shuffle=True), **fields)


EPSILON, WARM_UP = "adam-epsilon-out-of-range", "warmup-outlasts-training"
PERIOD, SIZE = "schedule-period-mismatch", "batch-size-extreme"
SIGN = "loss-sign-flipped"
FAULTS: dict[str, tuple[str, Build]] = {
    "summed across calls": ("accumulation-not-averaged", stepping(across_calls, MICRO, False)),
    "summed within a call": ("accumulation-not-averaged", stepping(within_a_call, False)),
    "clipped late": ("clip-after-step", stepping(clipping, True)),
    "clipped while scaled": ("clip-before-unscale", stepping(scaling, False)),
    "eps of 1": (EPSILON, partial(epsilon, 1.0)),
    "a warm-up of 500 in 48 steps": (WARM_UP, partial(warm_up, 500, epochs=3)),
    "cosine over 200 of 50 epochs": (PERIOD, partial(cosine, 200, epochs=50)),
    "cosine over 50 steps of 50 epochs": (PERIOD, partial(cosine, 50, "step", epochs=50)),
    "cosine over 300 after a warm-up": (PERIOD, partial(warm_up_then_cosine, 300)),
    "restarts of 3 epochs, in steps": (PERIOD, partial(restarts, 3, epochs=3)),
    "a cosine for ten times the run": (PERIOD, partial(by_hand, lambda step: half_cosine(step, 1600), epochs=10)),
    "a line for fifty times the run": (PERIOD, partial(by_hand, lambda epoch: 1 - epoch / 1000, "epoch", epochs=20)),
    "single samples": (SIZE, partial(batches_of, 1, 100)),
    "a minus before the loss": (SIGN, stepping(signed, -1.0)),
    "a minus, and divided": (SIGN, stepping(signed, -0.25)),
    "an optimizer that maximizes": (SIGN, partial(maximizing, one_backward)),
    "all samples at once": (SIZE, partial(batches_of, 512, epochs=10)),
}
SILENT: dict[str, tuple[str, Build]] = {
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
    "a loss of its own sign": (SIGN, stepping(one_backward)),
    "a minus for an optimizer that maximizes": (SIGN, partial(maximizing, signed, -1.0)),
    "a loss taken away from another": (SIGN, stepping(signed, 1.0, 2.0)),
    "two losses with a sign each": (SIGN, stepping(two_losses)),
    "accumulated with its own sign": (SIGN, stepping(across_calls, MICRO, True)),
    "scaled with its own sign": (SIGN, stepping(scaling, True)),
    "two optimizers with a sign each": (SIGN, small.own_step),
    "eps of 1e-8": (EPSILON, small.plain_cnn),
    "eps of 1e-5": (EPSILON, partial(epsilon, 1e-5)),
    "a warm-up of 20 in 48 steps": (WARM_UP, partial(warm_up, 20, epochs=3)),
    "no warm-up": (WARM_UP, partial(cosine, 3, epochs=3)),
    "cosine over 50 of 50 epochs": (PERIOD, partial(cosine, 50, epochs=50)),
    "cosine over all 800 steps": (PERIOD, partial(cosine, 800, "step", epochs=50)),
    "cosine over 45 after a warm-up of 5": (PERIOD, partial(warm_up_then_cosine, 45)),
    "steps": (PERIOD, partial(scheduled, lambda o: lr_scheduler.StepLR(o, 15), "epoch", epochs=50)),
    "restarts every two epochs": (PERIOD, partial(restarts, 32, epochs=10)),
    "a cosine for the run": (PERIOD, partial(by_hand, lambda step: half_cosine(step, 160), epochs=10)),
    "constant after a warm-up": (PERIOD, partial(by_hand, lambda step: min(1.0, step / 10), epochs=10)),
    "slowly exponential": (PERIOD, partial(by_hand, lambda step: 0.9999**step, epochs=10)),
    "an inverse root": (PERIOD, partial(by_hand, lambda step: (1000 / (1000 + step)) ** 0.5, epochs=10)),
    "32 at a time": (SIZE, partial(batches_of, 32, epochs=10)),
    "all at once, for long": (SIZE, partial(batches_of, 512, epochs=200)),
    "all of a few": (SIZE, partial(batches_of, 60, 60, epochs=10)),
    "single samples, accumulated": (SIZE, partial(batches_of, 1, 100, accumulate=16)),
}


@pytest.mark.parametrize("case", FAULTS)
def test_finds_its_fault(case: str) -> None:
    name, faulty = FAULTS[case]
    judged = judge(name, faulty)
    assert judged.names == [name], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize("case", SILENT)
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_where_all_is_in_order(case: str, seed: int) -> None:
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
    assert where.file.endswith("test_own_step.py")
    assert "clip" in where.text


def test_the_limit_of_a_clip_is_known_and_can_be_lifted() -> None:
    ctx = context(partial(clipped_at, 1e-6))
    assert norm_limit(ctx) == 1e-6
    assert is_unusual(ctx, "clipping")
    assert norm_limit(context(stepping(clipping, False, math.inf))) is None
    assert norm_limit(context(stepping(one_backward))) is None
    (lift,) = arms(ctx, "clipping", ())
    moved = {}
    for lifted in (False, True):
        made = ctx.fresh(0)
        before = [p.detach().clone() for p in made.model.parameters()]
        with lift.apply(made) if lifted else nullcontext():
            assert made.train_step is not None
            made.train_step(made.model, next(iter(made.train)), made.optimizer)
        pairs = zip(before, made.model.parameters(), strict=True)
        moved[lifted] = sum(float((p.detach() - old).norm()) for old, p in pairs)
    assert moved[True] > 1000 * moved[False] > 0


@pytest.mark.slow
def test_a_clip_in_the_own_step_is_convicted_by_its_repair() -> None:
    judged = judge("gradient-clip-too-small", partial(clipped_at, 1e-6))
    assert judged.names == ["gradient-clip-too-small"], judged.result
    assert judged.values["limit"] == 1e-6
    assert judged.findings[0].where[0].file.endswith("test_own_step.py")


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "optimizer"), [(1.0, "SGD"), (1e-6, "Adam")])
def test_a_clip_that_lets_the_model_learn_is_fine(norm: float, optimizer: str) -> None:
    assert judge("gradient-clip-too-small", partial(clipped_at, norm, optimizer)).findings == ()


def test_without_a_step_of_its_own_there_is_no_order_to_judge() -> None:
    for name in ("accumulation-not-averaged", "clip-after-step", "clip-before-unscale"):
        assert judge(name, small.plain_cnn).status is Status.SKIPPED


VALUES: dict[str, dict[str, Any]] = {
    "eps of 1": {"epsilon": 1.0},
    "a warm-up of 500 in 48 steps": {"steps": 48, "epochs": 3},
    "cosine over 200 of 50 epochs": {"length": 200, "available": 50, "unit": "epochs"},
    "cosine over 50 steps of 50 epochs": {"length": 50, "available": 800, "unit": "steps"},
    "cosine over 300 after a warm-up": {"length": 300, "available": 45},
    "single samples": {"samples": 100},
    "all samples at once": {"samples": 512, "epochs": 10, "steps": 10},
}


@pytest.mark.parametrize("case", VALUES)
def test_the_figures_of_a_setting(case: str) -> None:
    values = judge(*FAULTS[case]).values
    assert {key: values[key] for key in VALUES[case]} == VALUES[case]


@pytest.mark.parametrize(
    ("name", "build"),
    [(WARM_UP, partial(warm_up, 500)), (PERIOD, partial(cosine, 50)), (SIZE, partial(batches_of, 512))],
)
def test_nothing_but_a_note_where_the_epochs_are_not_stated(name: str, build: Build) -> None:
    judged = judge(name, build)
    assert judged.status is Status.PASS
    assert {finding.severity for finding in judged.findings} <= {Severity.NOTE}
    assert (name == SIZE) is (not judged.findings)
