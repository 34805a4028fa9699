"""The ordinary probes on a captured step: a pipeline is made of it, tried out, and judged as any other.

It is judged only if repeating the step gives the very loss that the program had. Whatever fails here failed in a
repetition, not in the program, and is never told as its fault.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diagnose.config import Config
from diagnose.context import MeasuringContext
from diagnose.errors import UsageError
from diagnose.judging import run_probe
from diagnose.pipeline import Pipeline
from diagnose.plan import barred
from diagnose.rng import preserved
from diagnose.target.locate import Located
from diagnose.target.parts import flagged_parts, read_settings
from diagnose.target.source import Source
from diagnose.training.metrics import main_output
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError
from diagnose.watch import judge
from diagnose.watch.between import applied
from diagnose.watch.capture import StepCapture
from diagnose.watch.loss_seen import LossSeen
from diagnose.watch.outputs import tensors_of
from diagnose.watch.recorder import Recorder
from probes import catalogue
from probes.api import Skip, Stage
from probes.results import Finding, Result, Status, Where

MOST_SECONDS = 120.0  # of all checks together; what has not begun by then is not checked
# To judge the ranges of classes: one class of iris seems to lie apart in 9 of 100 draws of 60 samples, in 1 of 100 of
# 100 samples, and in none of 120.
LEAST_SAMPLES = 200
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 1e-2}  # relative difference of two losses of the same step


class TorchLoss:
    """The loss of the program: one function of torch, on what the program makes of the model's output."""

    def __init__(self, seen: LossSeen) -> None:
        self._seen = seen
        self.__name__ = seen.function

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        main = main_output(output)
        assert main is not None, "the loss was captured with a tensor"
        if self._seen.flat:
            target = target.reshape(-1)
        value: Tensor = getattr(functional, self._seen.function)(
            applied(self._seen.links, main), target, **self._seen.settings
        )
        return self._seen.sign * value


def check_capture(capture: StepCapture, names: Sequence[str], seconds: float = MOST_SECONDS) -> list[Result]:
    """A result for each of ``names``; the random generators and the standard streams are left as they were."""
    if not capture.done:
        return not_checked(names, capture.reason)
    deadline = time.monotonic() + seconds
    with preserved(), torch.enable_grad(), _silent():
        try:
            ctx = _context(capture)
            if why := _differs(ctx, capture):
                return not_checked(names, why)
        except (UsageError, UserCodeError, Skip) as error:
            return not_checked(names, f"the step could not be repeated: {error}")
        results: list[Result] = []
        unknown = capture.loss.unknown if capture.loss is not None else ""
        for name in names:
            if unknown and name not in judge.WITHOUT_LOSS:
                results += not_checked([name], unknown)
            elif time.monotonic() > deadline:
                results += not_checked([name], f"checking the captured step took longer than {seconds:.0f} s")
            elif why := barred(name, results):
                results += not_checked([name], why)
            else:
                results.append(_placed(_judged(name, ctx), capture))
    return results


class Batches(list[Any]):
    """The captured batches; ``batch_size`` as the program's loader has it, None where there was no loader."""

    def __init__(self, batches: Sequence[Any], batch_size: int | None) -> None:
        super().__init__(batches)
        self.batch_size = batch_size


def check_parts(recorder: Recorder, config: Config, *, until: str = "") -> list[Result]:
    """How the training went, and what its captured step tells. ``until``: why no step is to be repeated."""
    recorder.losses.settle()
    stepped = sum(watch.steps > 0 for watch in recorder.optimizers)
    loss = recorder.capture.loss
    trained = [loader.samples for loader in recorder.passes.loaders if loader.steps]
    going = recorder.progress.results(
        judge.chosen(judge.PROGRESS, config), stepped, loss.where if loss is not None else (),
        trained[0] if len(trained) == 1 else None,
    )  # fmt: skip
    wanted = judge.chosen(judge.CHECKS, config)
    if until or recorder.failure:
        return [*going, *not_checked(wanted, until or "the recording failed")]
    return [*going, *check_capture(recorder.capture, wanted)]


def check_apart(recorder: Recorder, config: Config) -> list[Result]:
    """``check_parts`` in a thread of its own, so that no line of the caller is taken for one of the program's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(check_parts, recorder, config).result()


def not_checked(names: Sequence[str], reason: str) -> list[Result]:
    return [
        Result(catalogue.doc(name).code, name, str(Stage.WATCH), Status.SKIPPED, f"not checked: {reason}")
        for name in names
    ]


def _judged(name: str, ctx: MeasuringContext) -> Result:
    result = run_probe(name, ctx, stage=str(Stage.WATCH))
    if result.status is Status.CRASHED:
        return not_checked([name], f"it failed on the repeated step: {result.reason}")[0]
    if result.findings and (why := _too_few(name, result, ctx)):
        return not_checked([name], why)[0]
    return result


def _too_few(name: str, result: Result, ctx: MeasuringContext) -> str:
    """Why a finding that holds for a data set is none of a few batches; "" where it is."""
    if name == "repeated-samples" and not _one_with_many_targets(result, ctx):
        return "a few batches may well hold few different samples"
    seen = ctx.scan("train").seen
    if name == "target-leaked-into-input" and ctx.facts.task == "classification" and seen < LEAST_SAMPLES:
        return f"{seen} samples do not tell how widely the values of a class are spread"
    return ""


def _one_with_many_targets(result: Result, ctx: MeasuringContext) -> bool:
    """Whether all samples have the same inputs, plain numbers too, and different targets: few kinds of inputs, as of
    words or states, and a sample that is learned on purpose are no fault."""
    parts = [batch if isinstance(batch, Mapping) else batch[0] for batch in ctx.pipeline.train]
    inputs = [tensor for part in parts for tensor in tensors_of(part) if tensor.ndim]
    alike = all(bool((tensor == tensor[:1]).all()) for tensor in inputs)
    varied = any(bool((tensor[0] != tensor[0].flatten()[0]).any()) for tensor in inputs if tensor.numel())
    return alike and varied and result.findings[0].values["unique"] == 1 and bool(ctx.scan("train").label_std)


def _placed(result: Result, capture: StepCapture) -> Result:
    """A finding without a line of its own points at the call of the loss, or of the model."""
    loss, call = capture.loss, capture.call
    at: tuple[Where, ...] = (loss.where if result.code.startswith("LOS") and loss else ()) or (
        call.where if call is not None else ()
    )

    def told(finding: Finding) -> Finding:
        return finding if finding.where else replace(finding, where=at)

    return replace(result, findings=tuple(told(finding) for finding in result.findings))


def _context(capture: StepCapture) -> MeasuringContext:
    assert capture.snapshot is not None
    config = Config(target="the watched program", intents=("pretrained",) if capture.pretrained else ())
    located = Located(sys.modules[__name__], "pipeline", lambda: pipeline(capture), "the captured step")
    settings = read_settings(config)
    source = Source(config, located, flagged_parts(config, settings, Path.cwd()), settings, capture.log)
    return MeasuringContext(source, device=str(capture.snapshot.device))


def pipeline(capture: StepCapture) -> Pipeline:
    """The captured step as a pipeline, anew each time."""
    assert capture.snapshot is not None
    assert capture.loss is not None
    model, optimizer = capture.snapshot.restore()
    capture.log.copied(capture.snapshot.model, model)
    for where in capture.optimizer_at:
        capture.log.made(optimizer, where)
    _keep_modes(model)
    for group in optimizer.param_groups:  # of a schedule that begins low, the rate that it rises to
        group["lr"] = max(group.get("lr", 0.0), group.get("initial_lr", 0.0))
    seen = capture.loss
    made = Pipeline(
        model, Batches(capture.batches(), capture.batch_size), optimizer=optimizer, precision=_precision(capture)
    )
    if seen.function:
        made.loss = TorchLoss(seen)
    elif not seen.unknown:
        made.compute_loss = _own_loss(seen)
    else:
        made.compute_loss, made.task = _stand_in, "custom"
    return made


def _precision(capture: StepCapture) -> Any:
    return (capture.call.autocast if capture.call is not None else "") or "fp32"


def _called(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, Mapping) else model(batch[0])


def _stand_in(model: nn.Module, batch: Any) -> tuple[Tensor, Any]:
    """Something to differentiate, where the loss is not known: nothing of the loss or its gradient is judged then."""
    output = _called(model, batch)
    main = main_output(output)
    return (torch.zeros(()) if main is None else main.float().pow(2).mean()), output


def _own_loss(seen: LossSeen) -> Any:
    def compute_loss(model: nn.Module, batch: Any) -> tuple[Tensor, Any]:
        leaf = output = _called(model, batch)
        for key in seen.path:
            leaf = leaf[key]
        return seen.sign * leaf, output

    return compute_loss


def _keep_modes(model: nn.Module) -> None:
    """Modules that the program had in eval mode while it trained the model stay so in train mode."""
    asleep = tuple(name for name, module in model.named_modules() if not module.training)
    if asleep and model.training:
        model.__dict__["train"] = MethodType(_train_but(asleep), model)


def _train_but(asleep: tuple[str, ...]) -> Any:
    def train(model: nn.Module, mode: bool = True) -> nn.Module:
        type(model).train(model, mode)
        for name, module in model.named_modules():
            if name in asleep:
                module.training = False
        return model

    return train


def _differs(ctx: MeasuringContext, capture: StepCapture) -> str:
    """Why the repeated step is not the program's; "" where it gives the same loss."""
    assert capture.loss is not None
    assert capture.call is not None
    fresh = ctx.fresh(ctx.seed)
    fresh.model.train(fresh.model.training)
    engine = Engine(fresh, ctx.device)
    try:
        torch.set_rng_state(capture.call.random[0])
        if capture.call.random[1] is not None:
            torch.cuda.set_rng_state_all(capture.call.random[1])
        if capture.loss.unknown:
            engine.forward(fresh.train[0])  # type: ignore[index]
            return ""
        value = float(engine.loss(fresh.train[0]).loss.detach())  # type: ignore[index]
    finally:
        engine.close()
    wanted = capture.loss.sign * capture.loss.value
    if value == wanted or (math.isnan(value) and math.isnan(wanted)):
        return ""
    if abs(value - wanted) <= TOLERANCE[_precision(capture)] * max(abs(wanted), 1e-6):
        return ""
    return f"the step could not be repeated: its loss was {wanted:.4g}, and {value:.4g} when it was repeated"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What the user's code prints, it printed already."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
