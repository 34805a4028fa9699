"""How the full training runs, beside what the pipeline says: ``--set train.KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from diagnose.errors import UsageError
from diagnose.target.arguments import Call

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline


CHECKPOINT_EVERY = 5  # epochs
CHECKPOINT_MINUTES = 10.0


@dataclass(frozen=True)
class TrainingOptions:
    """None: as the pipeline says.

    ``checkpoint_every``: epochs between the checkpoints that are kept. ``checkpoint_minutes``, ``checkpoint_steps``:
    how often the state is saved within an epoch. ``patience``: epochs without a better validation figure after which
    the training ends. ``monitors``: watch while it trains. ``deterministic``: only algorithms that give the same result
    each time. ``channels_last``: memory format of image models.
    """

    checkpoint_every: int = CHECKPOINT_EVERY
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    checkpoint_steps: int | None = None
    patience: int | None = None
    monitors: bool = True
    deterministic: bool = False
    channels_last: Literal["auto", "yes", "no"] = "auto"
    accumulate: int | None = None
    clip_grad_norm: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None


def training_options(settings: Mapping[str, str]) -> TrainingOptions:
    """Raises UsageError that tells every setting that does not fit."""
    call = Call(TrainingOptions, "train", "the training", settings)
    if problems := call.problems():
        raise UsageError(*problems)
    made: TrainingOptions = call()
    least = {"checkpoint_every": 1, "checkpoint_minutes": 0, "checkpoint_steps": 1, "patience": 1, "accumulate": 1}
    wrong = [
        f"--set train.{name}={getattr(made, name)}: expected a number from {low} up."
        for name, low in least.items()
        if getattr(made, name) is not None and getattr(made, name) < low
    ]
    if made.clip_grad_norm is not None and made.clip_grad_norm <= 0:
        wrong.append(f"--set train.clip_grad_norm={made.clip_grad_norm}: expected a norm greater than 0.")
    if wrong:
        raise UsageError(*wrong)
    return made


def laid_over(pipeline: Pipeline, options: TrainingOptions) -> None:
    """What the options say about the steps themselves holds for every stage, so it goes into the pipeline."""
    for name in ("accumulate", "clip_grad_norm", "precision"):
        value = getattr(options, name)
        if value is not None:
            setattr(pipeline, name, value)
