"""How the training goes: the monitors of the full training, fed from the user's loop.

Not covered: units that fall silent and the size of gradients, which cannot be followed for what a step may cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from diagnose.judging import run_probe
from diagnose.monitors import windows
from diagnose.monitors.monitor import LOOK_EVERY, Monitor, Step
from diagnose.watch.course import Course
from diagnose.watch.scale import TargetScale
from diagnose.watch.validation import Validation, at_chance, judged
from probes import catalogue
from probes.api import Stage
from probes.results import Finding, Result, Severity, Status, Where

OF_STEPS = ("nonfinite-training", "stuck-at-chance", "diverging", "predicts-one-class")
OF_EPOCHS = ("diverging", "loss-spike", "plateau", "overfitting")
LOOKED_EVERY = 20  # steps of which one is asked for its accuracy; divides LOOK_EVERY
MOST_ROWS = 512  # of its outputs
MOST_ELEMENTS = 65_536
LASTING = 0.5  # of the steps since the first loss that was not finite: fewer, and the program got over it

TASKS = {
    "cross_entropy": "classification", "nll_loss": "classification", "mse_loss": "regression", "l1_loss": "regression",
    "smooth_l1_loss": "regression", "huber_loss": "regression",
}  # fmt: skip


class Progress:
    """``losses`` in order of the steps; in between ``lost`` and ``epoch``. Judged at the end, by ``results``."""

    def __init__(self, validation: Validation | None = None) -> None:
        self._validation = validation or Validation()
        self.task = ""  # "" unknown yet, "custom" where a falling loss is not to be expected
        self.classes: int | None = None
        self._monitor: Monitor | None = None
        self._waiting: list[tuple[float, Step | None, int]] = []  # lr, look and optimizer of steps without a loss yet
        self._looked: Step | None = None
        self._steps = self._losses_in_step = 0
        self._first_bad, self._bad_since = 0, 0
        self._seen = 0
        self._rows: list[dict[str, Any]] = []
        self._loaders: set[int] = set()
        self._epoch: list[float] = []
        self._ends: list[tuple[int, int]] = []  # (steps, loader) at the end of each pass
        self._correct: list[tuple[int, int]] = []
        self.course = Course()
        self._scale = TargetScale()

    # -- while it runs ------------------------------------------------------------------------------------------

    def lost(self, name: str, given: Any, target: Any, result: Any = None, reduction: Any = "mean") -> None:
        """A loss of torch's was computed for training."""
        if self.task == "custom":
            return
        self._losses_in_step += 1
        task = TASKS.get(name, "custom")
        if not isinstance(given, Tensor) or not isinstance(target, Tensor) or target.requires_grad:
            task = "custom"
        if self.task and task != self.task:
            task = "custom"
        self.task = task
        if self.classes is None and task == "classification" and given.ndim == 2:
            self.classes = int(given.shape[1])  # before the first losses are told, which may be early
        if self._steps % LOOKED_EVERY == LOOKED_EVERY - 1:
            if task == "classification":
                self._look(given, target)
            elif name == "mse_loss" and task == "regression" and reduction == "mean" and result is not None:
                self._scale.look(given, target, result)

    def give_up(self) -> None:
        """What is given to backward is not the loss of torch's alone: whether it should fall is not known."""
        self.task = "custom"

    def _look(self, given: Tensor, target: Tensor) -> None:
        if given.ndim != 2 or target.ndim != 1 or target.is_floating_point():
            return
        with torch.no_grad():
            rows = min(MOST_ROWS, max(8, MOST_ELEMENTS // given.shape[1]))
            output, labels = given.detach()[:rows], target.detach()[:rows]
            known = labels >= 0
            correct = (output.argmax(1) == labels) & known
            kept = (self._steps + 1) % LOOK_EVERY == 0
            self._looked = Step(
                None, int(correct.sum()), int(known.sum()),
                output=output[known].clone() if kept else None, target=labels[known].clone() if kept else None,
            )  # fmt: skip

    def stepped(self, lr: float, under_loader: bool, optimizer: int = 0) -> None:
        """The optimizer that is known by this number was stepped."""
        if self._losses_in_step > 1:  # several losses, or several batches for one step: what to expect is not known
            self.task = "custom"
        if self.task == "regression" and not under_loader:  # targets that the program computes may well grow
            self.task = "custom"
        self._losses_in_step = 0
        self._steps += 1
        self._waiting.append((lr, self._looked, optimizer))
        self._looked = None

    def losses(self, values: Sequence[float]) -> None:
        """The losses of the steps since the last call."""
        if self._monitor is None:
            self._monitor = Monitor(task=self.task or "custom", num_classes=self.classes)
        steps, self._waiting = self._waiting[: len(values)], self._waiting[len(values) :]
        for (lr, looked, optimizer), value in zip(steps, values, strict=False):
            self._seen += 1
            if not math.isfinite(value):
                self._first_bad = self._first_bad or self._seen
                self._bad_since += 1
            step = Step(value, lr=lr) if looked is None else replace(looked, loss=value, lr=lr)
            self._monitor.observe_step(step)
            self._epoch.append(value)
            self.course.add(value, optimizer)
            if step.judged:
                self._correct.append((step.correct, step.judged))
            while self._ends and self._ends[0][0] <= self._seen:
                self._row(lr)

    def epoch(self, loader: int) -> None:
        """A pass over a loader ended under which steps were made."""
        self._loaders.add(loader)
        self._ends.append((self._steps, loader))

    def _row(self, lr: float | None) -> None:
        self._ends.pop(0)
        if self._epoch:
            judged = sum(of for _, of in self._correct)
            accuracy = sum(right for right, _ in self._correct) / judged if judged else None
            self._rows.append(
                {"epoch": len(self._rows) + 1, "step": self._seen, "lr": lr, "train_loss": fmean(self._epoch),
                 "train_accuracy": accuracy}
            )  # fmt: skip
            self.course.epoch(self._rows[-1])
        self._epoch, self._correct = [], []

    # -- at the end ---------------------------------------------------------------------------------------------

    def history(self) -> list[dict[str, Any]]:
        """Rows of ``training.history``, as far as they are known."""
        return self.course.rows(self._validation.of_one_split(self._loaders))

    def results(
        self, names: Sequence[str], optimizers: int, where: tuple[Where, ...], samples: int | None = None
    ) -> list[Result]:
        """One for each of ``names``; ``optimizers``: how many were stepped; ``where``: the line of the loss;
        ``samples``: of the training data."""
        found = dict(self._monitor.findings) if self._monitor is not None else {}
        since = self._seen - self._first_bad + 1
        if self._first_bad and self._bad_since < LASTING * since:
            found.pop("nonfinite-training", None)
        plain = optimizers == 1 and self.task in {"classification", "regression"}
        results = []
        failed = "nonfinite-training" in found
        for name in names:
            if name == "nonfinite-training":
                results.append(self._of_steps(name, found.get(name), where))
            elif failed:
                results.append(_result(name, Status.SKIPPED, "the training has failed before"))
            elif plain and name in OF_STEPS and name in found:
                results.append(self._of_steps(name, found[name], where))
            elif not plain:
                results.append(_result(name, Status.SKIPPED, "what its loss should come to is not known"))
            elif why := self._too_little(name):
                results.append(_result(name, Status.SKIPPED, why))
            elif name == "unscaled-regression-target":
                results.append(self._of_scale(name, where))
            elif name == "no-generalisation":
                results.append(self._of_validation(name, samples))
            elif name in OF_EPOCHS:
                results.append(self._of_epochs(name, found))
            else:
                results.append(self._of_steps(name, None, where))
        return results

    def _of_steps(self, name: str, finding: Finding | None, where: tuple[Where, ...]) -> Result:
        if finding is None:
            return _result(name, Status.PASS, f"{self._seen:,} steps")
        message = f"{finding.message.rstrip('. ')} (since step {finding.values['since_step']:,})"
        told = replace(finding, message=message, where=finding.where or where)
        status = Status.PASS if finding.severity is Severity.NOTE else Status.FAIL
        return replace(_result(name, status, message), findings=(told,))

    def _of_scale(self, name: str, where: tuple[Where, ...]) -> Result:
        if self.task != "regression":
            return _result(name, Status.SKIPPED, "the loss is none of numbers")
        finding = self._scale.finding(self._seen)
        if finding is None:
            return _result(name, Status.PASS, f"{self._seen:,} steps")
        return replace(_result(name, Status.FAIL, finding.message), findings=(replace(finding, where=where),))

    def _too_little(self, name: str) -> str:
        """Why the course of the steps does not tell yet; "" where it does."""
        if name not in {"stuck-at-chance", "predicts-one-class"}:
            return ""
        if self.task != "classification" or self.classes is None:
            return "the loss is not one of classes"
        least = windows.PATIENCE
        return "" if self._seen >= least else f"{self._seen:,} of the at least {least:,} steps that it takes"

    def _of_epochs(self, name: str, found: Mapping[str, Finding]) -> Result:
        if len(self._loaders) > 1:
            return _result(name, Status.SKIPPED, "its epochs are over several loaders, and cannot be compared")
        if "diverging" in found and name != "diverging":
            return _result(name, Status.SKIPPED, "the training has failed before")
        evaluations = {e.step: e for e in self._validation.of_one_split(self._loaders)}
        rows = self._rows
        if name == "overfitting":
            rows = [
                {**row, "val_loss": e.loss, "val_accuracy": e.accuracy}
                for row in rows if (e := evaluations.get(row["step"])) is not None
            ]  # fmt: skip
        split = SimpleNamespace(dataset=range(max((e.samples for e in evaluations.values()), default=0)))
        facts = SimpleNamespace(task=self.task, num_classes=self.classes)
        context: Any = SimpleNamespace(
            facts=facts, history=lambda: rows, expected=lambda: (), pipeline=SimpleNamespace(val=split)
        )
        return run_probe(name, context, stage=str(Stage.WATCH))

    def _of_validation(self, name: str, samples: int | None) -> Result:
        """Is what was learned of any use on other samples?"""
        if len(self._loaders) != 1 or not self._rows:
            return _result(name, Status.SKIPPED, "no passes over one loader were seen")
        evaluations = self._validation.of_one_split(self._loaders)
        if not any(e.accuracy is not None for e in evaluations):
            return _result(name, Status.SKIPPED, "no evaluation with a loss of classes was seen")
        per_class = samples / self.classes if samples and self.classes else None
        figures = at_chance(evaluations, self._rows[-1]["train_accuracy"], per_class)
        if figures is None and any(e.lopsided for e in judged(evaluations)):
            return _result(name, Status.SKIPPED, "most validation samples are of one class: accuracy tells too little")
        if figures is None:
            best = max(e.accuracy or 0.0 for e in evaluations)
            return _result(name, Status.PASS, f"validation accuracy {best:.1%} at its best")
        finding = catalogue.doc(name).finding(
            "After {steps} steps the training accuracy is {train_accuracy:.1%}, the validation accuracy {accuracy:.1%} "
            "of {samples} samples, which is what guessing gives ({chance:.1%}).",
            **figures,
        )
        return replace(_result(name, Status.FAIL, finding.message), findings=(finding,))


def _result(name: str, status: Status, reason: str) -> Result:
    return Result(catalogue.doc(name).code, name, str(Stage.WATCH), status, reason)
