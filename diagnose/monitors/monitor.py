"""Watches a training of any loop, step by step and epoch by epoch, and says since when something is wrong."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from diagnose.judging import run_probe
from diagnose.monitors import windows
from diagnose.monitors.activations import ActivationLooks
from diagnose.monitors.gradients import GradientWatch
from diagnose.monitors.memory import EVERY, MemoryWatch
from diagnose.monitors.names import OF_EPOCHS
from diagnose.monitors.nonfinite import Origin
from probes import catalogue
from probes.results import Expected, Finding, Severity

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

JUDGE_EVERY = 50  # steps
LOOK_EVERY = 100  # steps between two looks at activations and the size of the update
CLASSES_EVERY = 10  # steps between two countings of classes: with hundreds of them, fewer samples say little


@dataclass(frozen=True)
class Step:
    """What one step came to. ``correct`` of ``judged`` predictions were right; ``waited`` of ``seconds`` went by until
    the batch was there; ``output`` and ``target`` are looked at now and then, for the classes in them."""

    loss: float | None
    correct: int = 0
    judged: int = 0
    lr: float | None = None
    waited: float = 0.0
    seconds: float = 0.0
    output: Tensor | None = None
    target: Any = None


class Monitor:
    """``watched()`` surrounds a step; then ``observe_step``, and ``observe_epoch`` after each epoch.

    Both return the findings that are new; their values tell ``since_step`` or ``since_epoch``, and what to do is the
    ``fix`` of their name in the catalogue. ``findings`` holds those of steps that still stand. Without ``model`` or
    ``optimizer`` what needs them is not watched. ``locate`` replays the last batch, and is called at most once.
    ``validation``: the loader, for the size of its data. ``num_classes``: read from the outputs where it is None.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        *,
        task: str = "custom",
        num_classes: int | None = None,
        expected: Sequence[Expected] = (),
        validation: Any = None,
        scaled: bool = False,
        locate: Callable[[], Origin] | None = None,
    ) -> None:
        self.step = 0
        self.findings: dict[str, Finding] = {}
        self._task, self._num_classes = task, num_classes
        self._scaled, self._locate = scaled, locate
        self._origin: Origin | None = None
        self._bad_gradient = False
        self._looks = None if model is None else ActivationLooks(model)
        self._gradients = None if optimizer is None else GradientWatch(optimizer, self._nonfinite_gradient)
        self._memory = MemoryWatch()
        self._first: list[float] = []
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=windows.WINDOW)
        self._rates: deque[float | None] = deque(maxlen=windows.WINDOW // JUDGE_EVERY)
        self._targets: Counter[int] = Counter()
        self._predicted: deque[Counter[int]] = deque(maxlen=windows.PATIENCE // CLASSES_EVERY)
        self._rows: list[Mapping[str, Any]] = []
        self._since: dict[str, int] = {}  # step
        self._epochs: dict[str, int] = {}
        facts = SimpleNamespace(task=task, num_classes=num_classes)
        self._context: Any = SimpleNamespace(
            facts=facts, pipeline=SimpleNamespace(val=validation), history=lambda: self._rows, expected=lambda: expected
        )
        self._new_epoch()

    def close(self) -> None:
        """Leave the optimizer without hooks."""
        if self._gradients is not None:
            self._gradients.close()

    def _new_epoch(self) -> None:
        self._norms = self._ratios = self._worst = 0.0
        self._norm_count = self._ratio_count = self._batches = 0
        self._waited = self._seconds = 0.0
        if self._looks is not None:
            self._looks.reset()

    # -- steps --------------------------------------------------------------------------------------------------

    def watched(self) -> AbstractContextManager[None]:
        """Surrounds the next step; free but for one in ``LOOK_EVERY``."""
        looks = (self.step + 1) % LOOK_EVERY == 0
        if self._gradients is not None:
            self._gradients.norm = self._gradients.ratio = None
            self._gradients.measures_updates = looks
        return self._looks.look() if looks and self._looks is not None else nullcontext()

    def observe_step(self, done: Step) -> list[Finding]:
        self.step += 1
        self._batches += 1
        self._waited += done.waited
        self._seconds += done.seconds
        self._take_gradients()
        new = self._judge_finite(done)
        if done.loss is not None and math.isfinite(done.loss):
            if len(self._first) < windows.FIRST:
                self._first.append(done.loss)
            self._recent.append((done.loss, done.correct, done.judged))
        if self.step % CLASSES_EVERY == 0:
            self._take_classes(done)
        if self.step % EVERY == 0:
            new += self._settled({"graph-retained": self._memory.look(self.step, done.output)})
        if self.step % JUDGE_EVERY == 0:
            new += self._judge_window(done.lr)
        return new

    def _take_gradients(self) -> None:
        watch = self._gradients
        if watch is None:
            return
        if watch.norm is not None and math.isfinite(watch.norm):
            self._norms += watch.norm
            self._worst = max(self._worst, watch.norm)
            self._norm_count += 1
        if watch.ratio is not None and math.isfinite(watch.ratio):
            self._ratios += watch.ratio
            self._ratio_count += 1

    def _nonfinite_gradient(self) -> None:
        """Just before an update that would spoil the parameters: the last moment to look for the origin."""
        if self._scaled or "nonfinite-training" in self.findings:
            return
        self._bad_gradient = True
        self._find_origin()

    def _find_origin(self) -> Origin:
        if self._origin is None:
            self._origin = Origin("none") if self._locate is None else self._locate()
        return self._origin

    def _judge_finite(self, done: Step) -> list[Finding]:
        bad_loss = done.loss is not None and not math.isfinite(done.loss)
        if "nonfinite-training" in self.findings or not (bad_loss or self._bad_gradient):
            return []
        origin = self._find_origin()
        what = f"loss was {done.loss}" if bad_loss else "gradient was not finite, though the loss was"
        finding = catalogue.doc("nonfinite-training").finding(
            "At step {since_step} the {what}. {origin}",
            since_step=self.step,
            what=what,
            origin="" if origin.phase == "none" else origin.told(),
            phase=origin.phase,
            module=origin.module,
            operation=origin.operation,
            where=origin.where,
        )
        self.findings["nonfinite-training"] = finding
        return [finding]

    def _take_classes(self, done: Step) -> None:
        import torch

        from diagnose.training.metrics import class_targets

        if self._task != "classification" or done.output is None or not isinstance(done.target, torch.Tensor):
            return
        pair = class_targets(done.output.detach(), done.target, self._task)
        if pair is not None:
            if self._num_classes is None:  # nobody said: one logit per class, or one for both of two
                self._num_classes = max(2, done.output.shape[1]) if done.output.ndim == 2 else 2
            self._predicted.append(Counter(pair[0].tolist()))
            self._targets.update(pair[1].tolist())

    def _judge_window(self, lr: float | None) -> list[Finding]:
        self._rates.append(lr)
        if not self._recent or not self._first or self._task == "custom":
            return self._judge_speed()
        losses, correct, judged = zip(*self._recent, strict=True)
        seen = windows.Window(
            self.step, fmean(self._first), losses, sum(correct), sum(judged), self._rates[0], lr,
            self._num_classes if self._task == "classification" else None, self._targets,
            sum(self._predicted, Counter()),
        )  # fmt: skip
        found = {
            "stuck-at-chance": windows.stuck_at_chance(seen),
            "diverging": windows.diverging(seen),
            "predicts-one-class": windows.predicts_one_class(seen),
        }
        learns = seen.loss < (1 - windows.UNLEARNED) * seen.first
        if self._looks is not None and self.step % LOOK_EVERY == 0 and self._looks.looks >= windows.MIN_LOOKS:
            silent = windows.silent_units(self._looks.records(), self._looks.samples, self._looks.looks, learns=learns)
            found |= dict.fromkeys(("dead-relu", "saturated-activations")) | {f.name: f for f in silent}
        return self._settled(found) + self._judge_speed()

    def _judge_speed(self) -> list[Finding]:
        if self._batches < windows.WINDOW // 2:
            return []
        found = windows.slow_dataloader(self._waited, self._seconds, self._batches)
        return self._settled({"slow-dataloader": found})

    def _settled(self, found: Mapping[str, Finding | None]) -> list[Finding]:
        """Keep what holds now, forget what no longer does; those that are new."""
        new = []
        for name, finding in found.items():
            if finding is None:
                self.findings.pop(name, None)
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, self.step)
            told = replace(finding, values={"since_step": since, **finding.values})
            if name not in self.findings:
                new.append(told)
            self.findings[name] = told
        return new

    # -- epochs -------------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, float]:
        """Of the epoch so far, for its row: means, but for ``gradient_norm_max``; ``data_wait`` is a share of time."""
        found: dict[str, float] = {}
        if self._norm_count:
            found |= {"gradient_norm": self._norms / self._norm_count, "gradient_norm_max": self._worst}
        if self._ratio_count:
            found["update_ratio"] = self._ratios / self._ratio_count
        if self._seconds > 0:
            found["data_wait"] = self._waited / self._seconds
        found["memory_mb"] = self._memory.megabytes()
        return found

    def observe_epoch(self, row: Mapping[str, Any]) -> list[Finding]:
        """``row`` as in the history of results.json, the figures of this epoch among them where they are wanted."""
        self._rows.append(row)
        self._memory.settle()
        self._new_epoch()
        new = []
        for name in OF_EPOCHS:
            result = run_probe(name, self._context)
            for finding in result.findings:
                if finding.severity is not Severity.NOTE and name not in self._epochs:
                    self._epochs[name] = int(row.get("epoch", len(self._rows)))
                    new.append(replace(finding, values={**finding.values, "since_epoch": self._epochs[name]}))
        return new

    def memory_growth(self) -> str:
        """A sentence where memory grows steadily, and no finding tells why; "" otherwise."""
        return "" if "graph-retained" in self.findings else self._memory.growth()

    # -- state --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint, so that a resumed training goes on being watched; looks at units begin anew."""
        return {name: _packed(getattr(self, name)) for name in _KEPT}

    def restore(self, state: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        for name, value in state.items():
            held = getattr(self, name)
            if isinstance(held, deque):
                held.extend(_unpacked(item) for item in value)
            elif isinstance(held, Counter):
                held.update(value)
            else:
                setattr(self, name, value)
        self._rows = list(rows)


_KEPT = (
    "step", "_first", "_recent", "_rates", "_targets", "_predicted", "_norms", "_ratios", "_worst", "_norm_count",
    "_ratio_count", "_batches", "_waited", "_seconds", "_since", "_epochs",
)  # fmt: skip


def _unpacked(item: Any) -> Any:
    return Counter(item) if isinstance(item, dict) else tuple(item) if isinstance(item, list) else item


def _packed(value: Any) -> Any:
    if isinstance(value, (deque, list)):
        return [_packed(item) for item in value]
    return dict(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
