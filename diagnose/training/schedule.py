"""Steps the scheduler when its interval says so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diagnose.user_code import UserCodeError, user_code

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline


class Schedule:
    """``extended``: the training is longer than the pipeline plans, so a schedule that ends is nobody's fault."""

    def __init__(self, pipeline: Pipeline, extended: bool, say: Callable[[str], None]) -> None:
        self._scheduler, self._interval = pipeline.scheduler, pipeline.scheduler_interval
        self._scaled = pipeline.precision == "fp16"
        self._extended, self._say = extended, say
        self._ended = self._scheduler is None

    def after_update(self, loss: float | None) -> None:
        if self._interval == "step":
            self._step(loss)

    def after_epoch(self, loss: float | None) -> None:
        """``loss``: of the validation split, or of training where there is none; None is not told to the scheduler."""
        if self._interval == "epoch":
            self._step(loss)

    def _step(self, loss: float | None) -> None:
        if self._ended:
            return
        scheduler: Any = self._scheduler
        try:
            with user_code("scheduler step"), warnings.catch_warnings():
                if self._scaled:  # the scaler skips updates whose gradients overflowed, the very first ones above all
                    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step")
                if _follows_metric(scheduler):
                    if loss is not None:
                        scheduler.step(loss)
                else:
                    scheduler.step()
        except UserCodeError as error:
            if not self._extended or not isinstance(error.original, ValueError):
                raise
            self._ended = True
            self._say(
                f"The schedule is shorter than this training ({error.original}): the learning rate stays as it was."
            )


def _follows_metric(scheduler: Any) -> bool:
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    return isinstance(scheduler, ReduceLROnPlateau)
