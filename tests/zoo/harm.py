"""The kill test of the zoo: an honest, plain training of a case and of its healthy base, and whether the fault hurts.

Nothing of the product is used but ``Pipeline``, so that no blind spot is shared with what is measured here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diagnose.pipeline import Pipeline
from zoo.cases import Case

MAX_STEPS = 400
SEEDS = (0, 1)
MIN_DROP = 0.03  # of accuracy (or of any other share)
MIN_LOSS_SHARE = 0.10  # of what the healthy base gains in validation loss


@dataclass(frozen=True)
class Result:
    """On validation: ``score`` is accuracy or minus the error; ``start`` and ``loss`` the loss before and after."""

    score: float
    loss: float
    start: float
    share: bool
    """whether ``score`` is a share from 0 to 1"""


def score(pipeline: Pipeline, steps: int, seed: int) -> float:
    """Validation accuracy after ``steps`` batches of training, or minus the mean squared error of a regression."""
    return train(pipeline, steps, seed).score


def planned_steps(pipeline: Pipeline) -> int:
    """The whole planned run in batches, no more than ``MAX_STEPS``."""
    try:
        return min(MAX_STEPS, pipeline.epochs * len(pipeline.train))  # type: ignore[arg-type]
    except TypeError:
        return MAX_STEPS


def hurts(case: Case, base_build: Callable[[], Pipeline]) -> bool:
    """Whether the faulty case ends clearly below its healthy base, or does not run, over two seeds."""
    return all(_hurts(case, base_build, seed) for seed in SEEDS)


def measure(build: Callable[[], Pipeline], seed: int) -> Result:
    """Build under ``seed`` and train over the planned run; whatever is raised is the caller's."""
    torch.manual_seed(seed)
    pipeline = build()
    return train(pipeline, planned_steps(pipeline), seed)


def _hurts(case: Case, base_build: Callable[[], Pipeline], seed: int) -> bool:
    base = measure(base_build, seed)
    try:
        faulty = measure(case.build, seed)
    except Exception:  # whatever a user's program may raise
        return True
    return harmed(faulty, base)


def harmed(faulty: Result, base: Result) -> bool:
    """Whether ``faulty`` is clearly worse than ``base``."""
    if not (math.isfinite(faulty.score) and math.isfinite(faulty.loss)):
        return True
    drop = base.score - faulty.score
    return (base.share and drop >= MIN_DROP) or faulty.loss - base.loss >= MIN_LOSS_SHARE * (base.start - base.loss)


def train(pipeline: Pipeline, steps: int, seed: int) -> Result:
    """The plain loop; raises FloatingPointError at the first loss that is not finite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _train(pipeline, steps, seed)


def _train(pipeline: Pipeline, steps: int, seed: int) -> Result:
    torch.manual_seed(seed)
    model, optimizer = pipeline.model, pipeline.optimizer
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start, _, _ = evaluate(pipeline)
    model.train()
    optimizer.zero_grad()
    for number, (batch, last_of_epoch) in enumerate(_batches(pipeline, steps), 1):
        if pipeline.train_step is not None:
            value = pipeline.train_step(model, batch, optimizer)
        else:
            loss = loss_of(pipeline, batch)[0]
            (loss / pipeline.accumulate).backward()  # type: ignore[no-untyped-call]
            value = loss.detach()
            if number % pipeline.accumulate == 0 or last_of_epoch:
                if pipeline.clip_grad_norm is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), pipeline.clip_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
        if value is not None and not math.isfinite(float(value)):
            raise FloatingPointError(f"the loss of step {number} is {float(value)}")
        if pipeline.scheduler is not None and (pipeline.scheduler_interval == "step" or last_of_epoch):
            pipeline.scheduler.step()
    loss_value, result, share = evaluate(pipeline)
    return Result(result, loss_value, start, share)


def _batches(pipeline: Pipeline, steps: int) -> Iterator[tuple[Any, bool]]:
    """``steps`` batches over as many epochs as that takes, with whether each is the last of its epoch."""
    done = 0
    while done < steps:
        batches = iter(pipeline.train)
        batch = next(batches, None)
        if batch is None:
            raise ValueError("the training loader yields no batch")
        while batch is not None and done < steps:
            following = next(batches, None)
            yield batch, following is None
            batch, done = following, done + 1


def loss_of(pipeline: Pipeline, batch: Any) -> tuple[Tensor, Any, Any]:
    """Loss, output and target of a batch, as the pipeline says."""
    if pipeline.compute_loss is not None:
        answer = pipeline.compute_loss(pipeline.model, batch)
        loss, output = answer if isinstance(answer, tuple) else (answer, None)
    else:
        loss, output = None, None
    if isinstance(batch, Mapping):
        target = batch.get("labels")
        if output is None and pipeline.loss is None:  # the model computes its own
            answer = pipeline.model(**batch)
            loss, output = answer.loss, answer.logits
        if output is None:
            answer = pipeline.model(**{key: value for key, value in batch.items() if key != "labels"})
            output = getattr(answer, "logits", answer)
    else:
        target = batch[-1]
        if output is None:
            output = pipeline.model(*batch[:-1])
    if loss is None:
        assert pipeline.loss is not None
        loss = pipeline.loss(output, target)
    return loss, output[0] if isinstance(output, tuple) else output, target


@torch.no_grad()
def evaluate(pipeline: Pipeline) -> tuple[float, float, bool]:
    """Loss and score on validation by a yardstick of our own (the loss may be what is faulty), and if it is a share."""
    assert pipeline.val is not None
    pipeline.model.eval()
    outputs, targets = [], []
    for batch in pipeline.val:
        _, output, target = loss_of(pipeline, batch)
        outputs.append(output.float())
        targets.append(target)
    pipeline.model.train()
    return judge(torch.cat(outputs), torch.cat(targets), pipeline.task)


def judge(output: Tensor, target: Tensor, task: str | None) -> tuple[float, float, bool]:
    """Loss and score of all outputs against all targets."""
    if not torch.isfinite(output).all():
        return math.nan, math.nan, True
    if not target.is_floating_point() and output.ndim == target.ndim + 1 and target.ndim > 1:  # a class per place
        output = output if task == "language-model" else output.movedim(1, -1)
        output, target = output.flatten(0, -2), target.flatten()
        known = (target != 255) & (target != -100)
        output, target = output[known], target[known]
    if output.ndim == 2 and not target.is_floating_point() and task != "multilabel" and output.shape[1] > 1:
        if output.min() >= 0 and torch.allclose(output.sum(1), torch.ones(len(output)), atol=1e-3):
            output = output.clamp_min(1e-12).log()
        correct = (output.argmax(1) == target).float().mean()
        return float(F.cross_entropy(output, target)), float(correct), True
    if task == "regression" or not target.is_floating_point() or not ((target == 0) | (target == 1)).all():
        error = F.mse_loss(output.reshape(len(output), -1), target.reshape(len(target), -1).float())
        return float(error), -float(error), False
    output, target = output.reshape(-1), target.reshape(-1)
    if output.min() >= 0 and output.max() <= 1:
        output = torch.logit(output.clamp(1e-6, 1 - 1e-6))
    loss = F.binary_cross_entropy_with_logits(output, target.float())
    return float(loss), float(((output > 0) == (target > 0.5)).float().mean()), True
