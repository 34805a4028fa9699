"""The missing parts of a pipeline: those that were given for it, then defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from diagnose.config import Config
from diagnose.creation import CreationLog
from diagnose.errors import UsageError
from diagnose.pipeline import Pipeline, Unstated
from diagnose.rng import seed_all
from diagnose.target.defaults import Choices, choose_loss, choose_optimizer, choose_task
from diagnose.target.parts import Parts, Settings, check_loss, check_optimizer, check_scheduler
from diagnose.user_code import user_code

_STEPWISE = (OneCycleLR, CyclicLR)
_CHECKS = {"loss": check_loss, "optimizer": check_optimizer, "scheduler": check_scheduler}


def complete(
    pipeline: Pipeline,
    seed: int,
    *,
    config: Config,
    parts: Parts,
    settings: Settings,
    choices: Choices,
    log: CreationLog,
) -> Pipeline:
    """``pipeline`` itself, with the flags laid over it and every missing part filled in; ``choices`` says how.

    Seeds the global generators, and leaves them so.
    """
    if config.task is not None:
        pipeline.task = config.task  # type: ignore[assignment]
    pipeline.epochs = config.epochs or pipeline.epochs
    if isinstance(pipeline.epochs, Unstated):
        choices.by_default("epochs", f"No number of epochs was given: {pipeline.epochs}.")
    pipeline.intents = tuple(dict.fromkeys((*pipeline.intents, *config.intents)))
    known = {} if pipeline.num_classes is None else {"num_classes": pipeline.num_classes}
    seed_all(seed)
    _place("loss", pipeline, (), known=known, parts=parts, choices=choices)
    choose_task(pipeline, choices)
    choose_loss(pipeline, choices)
    seed_all(seed)
    with log.recording():
        given = pipeline.optimizer
        _place("optimizer", pipeline, (pipeline.model,), known=known, parts=parts, choices=choices)
        choose_optimizer(pipeline, choices, settings["optimizer"])
        if given is not None and pipeline.optimizer is not given and pipeline.scheduler is not None:
            pipeline.scheduler = None  # it steers the optimizer that was replaced
            choices.notes["scheduler"] = "The pipeline's scheduler belongs to its own optimizer: left out."
        _place_scheduler(pipeline, parts, choices, known)
    choices.add_hints(parts.hints)
    return pipeline


def _place(
    scope: str, pipeline: Pipeline, leading: Sequence[Any], *, known: Mapping[str, Any], parts: Parts, choices: Choices
) -> None:
    part = parts.by_scope.get(scope)
    if part is not None:
        setattr(pipeline, scope, _CHECKS[scope](part.make(*leading, known=known), part.label))
        choices.provenance[scope] = part.origin


def _place_scheduler(pipeline: Pipeline, parts: Parts, choices: Choices, known: Mapping[str, Any]) -> None:
    part = parts.by_scope.get("scheduler")
    if part is None:
        return
    if part.call is not None:
        required = part.call.required()
        known = {**known, **{name: n for name, n in _lengths(pipeline).items() if name in required}}
        if problems := part.call.problems(tuple(known)):
            raise UsageError(*problems)
    _place("scheduler", pipeline, (pipeline.optimizer,), known=known, parts=parts, choices=choices)
    if parts.interval is not None:
        pipeline.scheduler_interval = parts.interval  # type: ignore[assignment]
    elif isinstance(pipeline.scheduler, _STEPWISE):
        pipeline.scheduler_interval = "step"
        name = type(pipeline.scheduler).__name__
        choices.notes["scheduler_interval"] = f"{name} is stepped after every batch, as it is made for."


def _lengths(pipeline: Pipeline) -> dict[str, int]:
    lengths = {"epochs": pipeline.epochs}
    if isinstance(pipeline.train, Sized):
        with user_code("the length of the training data"):
            lengths["steps_per_epoch"] = math.ceil(len(pipeline.train) / pipeline.accumulate)
    return lengths
