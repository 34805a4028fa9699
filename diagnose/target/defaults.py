"""The parts that nobody gave: chosen by task, and said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.batches import understand
from diagnose.errors import UsageError
from diagnose.pipeline import Pipeline, Task
from diagnose.target.arguments import Call
from diagnose.target.tasks import default_loss, infer_task
from diagnose.user_code import UserCodeError, user_code

LEARNING_RATE = 1e-3  # of the default optimizer


@dataclass
class Choices:
    """What was chosen, for the report. ``notes``: part -> sentence. ``provenance``: part -> where it came from.

    ``task``: as inferred from the first batch, which is read once: it does not change with the seed.
    """

    notes: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    task: Task | None = None

    def by_default(self, part: str, sentence: str) -> None:
        self.notes[part] = sentence
        self.provenance.setdefault(part, "default")

    def add_hints(self, hints: Mapping[str, str]) -> None:
        """Part -> what stands near and could be taken in place of the default."""
        for part, hint in hints.items():
            if self.provenance.get(part) == "default" and not self.notes[part].endswith(hint):
                self.notes[part] += f" {hint}"


def choose_task(pipeline: Pipeline, choices: Choices) -> None:
    """Set ``pipeline.task`` where it is None."""
    if pipeline.task is not None:
        return
    if choices.task is None:
        choices.task = _task_of_first_batch(pipeline, choices)
        choices.by_default(
            "task", f"No task was given: {choices.task}, by the loss and the targets of the first batch."
        )
    pipeline.task = choices.task


def choose_loss(pipeline: Pipeline, choices: Choices) -> None:
    """Set ``pipeline.loss`` by task, where neither a loss nor a function of the user's takes its place."""
    if pipeline.loss is not None or pipeline.compute_loss is not None or pipeline.train_step is not None:
        return
    pipeline.loss = default_loss(pipeline.task)
    if pipeline.loss is not None:
        name = type(pipeline.loss).__name__
        choices.by_default("loss", f"No loss was given: {name}, the usual one for {pipeline.task}.")
    else:
        choices.by_default(
            "loss", "No loss was given, and the data do not tell which one fits: the model's own is used."
        )


def choose_optimizer(pipeline: Pipeline, choices: Choices, settings: Mapping[str, str]) -> None:
    """Adam over all parameters, where no optimizer was given; ``--set optimizer.lr`` and ``.weight_decay`` apply."""
    if pipeline.optimizer is not None:
        return
    if next(pipeline.model.parameters(), None) is None:
        choices.by_default("optimizer", "The model has no parameters: there is nothing for an optimizer to do.")
        return
    call = default_optimizer_call(settings)
    pipeline.optimizer = call(pipeline.model)
    group = pipeline.optimizer.param_groups[0] if pipeline.optimizer else {}
    decay = f", weight decay {group['weight_decay']:g}" if group.get("weight_decay") else ""
    choices.by_default("optimizer", f"No optimizer was given: Adam, lr {group['lr']:g}{decay}.")


def default_optimizer_call(settings: Mapping[str, str]) -> Call:
    return Call(_adam, "optimizer", "the default optimizer (Adam)", settings, leading=1)


def _adam(model: nn.Module, lr: float = LEARNING_RATE, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)


def _task_of_first_batch(pipeline: Pipeline, choices: Choices) -> Task:
    try:
        batch = first_batch(pipeline.train)
    except UserCodeError as error:  # the data stage meets it again, and reports it with its frames
        original = type(error.original).__name__
        choices.notes["first batch"] = f"The first batch could not be read ({original}): the task is by the loss alone."
        batch = None
    if batch is None:
        return "classification" if pipeline.loss is None and pipeline.num_classes else infer_task(pipeline.loss, None)
    try:
        target = understand(batch).target
    except UsageError:
        if pipeline.compute_loss is None and pipeline.train_step is None:
            raise
        return "custom"
    if isinstance(batch, Mapping) and pipeline.loss is None:
        return _task_of_mapping(batch, target)
    return "custom" if target is None else infer_task(pipeline.loss, target)


def _task_of_mapping(batch: Mapping[str, Any], target: Any) -> Task:
    if isinstance(target, Tensor) and any(
        isinstance(value, Tensor) and value is not target and value.shape == target.shape and target.ndim == 2
        for value in batch.values()
    ):
        return "language-model"
    return infer_task(None, target)


def first_batch(train: Iterable[Any]) -> Any:
    """The first batch of ``train``; None where it is empty. Raises UserCodeError where reading it does."""
    with user_code("reading the first batch of the training data"):
        return next(iter(train), None)
