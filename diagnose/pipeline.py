"""The pipeline: everything that a training run is made of, as one plain object.

User code imports this module, in spawned loader workers too, so it imports neither torch nor our other packages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from diagnose.errors import UsageError
from diagnose.near_miss import did_you_mean

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

Task = Literal["classification", "multilabel", "regression", "segmentation", "language-model", "custom"]
Interval = Literal["epoch", "step"]
Precision = Literal["fp32", "bf16", "fp16"]

TASKS: tuple[str, ...] = get_args(Task)
INTENTS = (
    "frozen",
    "pretrained",
    "imbalanced",
    "soft-targets",
    "augmented-validation",
    "partial-optimizer",
    "multiple-optimizers",
)


class Unstated(int):
    """A number that nobody gave: what is judged against the length of the run must know that."""


DEFAULT_EPOCHS = Unstated(10)


@dataclass
class Pipeline:
    """One training pipeline. Only ``model`` and ``train`` are required; a part that is None gets a stated default.

    ``train``, ``val``, ``test``: a DataLoader, or any iterable of batches that can be read again and again.
    ``loss``: ``f(output, target) -> scalar``. ``compute_loss``: ``f(model, batch) -> scalar`` or
    ``(scalar, output)``, in place of ``loss``. ``train_step``: ``f(model, batch, optimizer) -> scalar``; it does
    zero_grad, backward and step itself. ``metrics``: name -> ``f(output, target)``. ``expected``: rows of (epoch,
    metric, low, high), accuracies from 0 to 1. ``accumulate``: batches per optimizer step. ``intents``: what is
    meant to be so, see ``INTENTS``.
    """

    model: nn.Module
    train: Iterable[Any]
    val: Iterable[Any] | None = None
    loss: Callable[..., Any] | None = None
    optimizer: Optimizer | None = None
    scheduler: LRScheduler | None = None
    scheduler_interval: Interval = "epoch"
    compute_loss: Callable[..., Any] | None = None
    train_step: Callable[..., Any] | None = None
    task: Task | None = None
    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    metrics: Mapping[str, Callable[..., Any]] | None = None
    expected: Sequence[tuple[int, str, float, float]] = ()
    epochs: int = DEFAULT_EPOCHS
    accumulate: int = 1
    clip_grad_norm: float | None = None
    precision: Precision = "fp32"
    intents: Collection[str] = ()
    test: Iterable[Any] | None = None


def check_fields(pipeline: Pipeline) -> None:
    """Raise one UsageError that tells every field of ``pipeline`` that cannot be meant; parts are not called."""
    problems = [
        *_choice(pipeline, "task", (*TASKS, None)),
        *_choice(pipeline, "scheduler_interval", get_args(Interval)),
        *_choice(pipeline, "precision", get_args(Precision)),
        *(_one_of("intents", intent, INTENTS) for intent in _names(pipeline.intents) if intent not in INTENTS),
        *(_positive(pipeline, name) for name in ("epochs", "accumulate") if not _is_positive(getattr(pipeline, name))),
        *_loaders(pipeline),
        *_callables(pipeline),
    ]
    if problems:
        raise UsageError(*problems)


def _names(intents: Collection[str]) -> Collection[str]:
    return [intents] if isinstance(intents, str) else intents


def _choice(pipeline: Pipeline, name: str, choices: tuple[str | None, ...]) -> list[str]:
    value = getattr(pipeline, name)
    return [] if value in choices else [_one_of(name, value, choices)]


def _one_of(name: str, value: object, choices: tuple[str | None, ...]) -> str:
    words = [choice for choice in choices if choice is not None]
    return f"Pipeline.{name}: got {value!r}, expected {', '.join(words)}.{did_you_mean(str(value), words)}"


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _positive(pipeline: Pipeline, name: str) -> str:
    return f"Pipeline.{name}: got {getattr(pipeline, name)!r}, expected a whole number from 1 up."


def _loaders(pipeline: Pipeline) -> list[str]:
    return [
        problem
        for name in ("train", "val", "test")
        if (name == "train" or getattr(pipeline, name) is not None)
        and (problem := loader_problem(f"Pipeline.{name}", getattr(pipeline, name)))
    ]


def loader_problem(name: str, loader: object) -> str:
    """Why ``loader`` cannot be read as batches, again and again; empty where it can."""
    if loader is None:
        return f"{name} is None; expected a DataLoader, or any iterable of batches."
    if hasattr(loader, "__next__"):
        return (
            f"{name} is a {type(loader).__name__}, which can be read only once; expected a DataLoader or another "
            "iterable that starts anew each epoch: return a list, or an object with __iter__."
        )
    if not hasattr(loader, "__iter__"):
        is_dataset = hasattr(loader, "__getitem__") and hasattr(loader, "__len__")
        advice = ": wrap the dataset in torch.utils.data.DataLoader" if is_dataset else ""
        return f"{name} is a {type(loader).__name__}; expected a DataLoader, or any iterable of batches{advice}."
    return ""


def _callables(pipeline: Pipeline) -> list[str]:
    return [
        f"Pipeline.{name}: got a {type(getattr(pipeline, name)).__name__}, expected a callable."
        for name in ("loss", "compute_loss", "train_step")
        if getattr(pipeline, name) is not None and not callable(getattr(pipeline, name))
    ]
