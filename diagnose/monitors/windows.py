"""Judgements on the last steps of a training, each a pure function of plain figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from probes import catalogue
from probes.data.slow_dataloader import NOTICEABLE, WAIT
from probes.learning.predicts_one_class import COLLAPSED, MARGIN
from probes.model.dead_relu import MIN_SAMPLES, MIN_UNITS
from probes.model.dead_relu import _limit as dead_limit
from probes.model.saturated_activations import FLAT_SHARE
from probes.records.inspection import ActivationRecord
from probes.results import Finding, Severity

FIRST = 20  # steps that tell where the loss began
WINDOW = 200  # steps that are judged together
PATIENCE = 600  # steps without a word on chance level: the budget of the short training on a subset
UNLEARNED = 0.02  # of the loss: a smaller fall is no learning
LEVEL = 0.999  # of the one-sided interval around chance
GROWN = 3.0  # times the first loss, over a whole window: a training that is merely rough stays below
RISING = 1.01  # times the learning rate at the start of the window: warm-up is not over
BALANCED = 2.0  # times 1/C, up to which the largest class counts as one of many
SCATTER = 4.0  # standard deviations by which a class may be counted more often than the mean, and all be equal
MIN_LOOKS = 4  # looks at the activations before they are judged


@dataclass(frozen=True)
class Window:
    """The last ``WINDOW`` steps up to ``step``. ``first``: mean loss of the first steps of all; ``counts``: how often
    each class was the target, ``predicted``: how often it was predicted, both in the samples that were looked at."""

    step: int
    first: float
    losses: Sequence[float]
    correct: int
    judged: int
    lr_then: float | None
    lr_now: float | None
    num_classes: int | None
    counts: Mapping[int, int]
    predicted: Mapping[int, int]

    @property
    def loss(self) -> float:
        return fmean(self.losses)


def stuck_at_chance(w: Window) -> Finding | None:
    """A classification whose accuracy is within the interval of guessing, and whose loss has not fallen."""
    classes, seen = w.num_classes, sum(w.counts.values())
    if classes is None or classes < 2 or w.step < PATIENCE or not w.judged or not seen:
        return None
    if w.lr_then is not None and w.lr_now is not None and w.lr_now > RISING * w.lr_then:
        return None
    shares = [count / seen for count in w.counts.values()]
    each = seen / classes
    even = max(w.counts.values()) <= each + SCATTER * (math.sqrt(each) + 1)
    chance = 1 / classes if even else max(shares)
    if chance > min(BALANCED / classes, (1 + 1 / classes) / 2):  # imbalanced: guessing the largest class may be best
        return None
    deviation = math.sqrt(chance * (1 - chance) / w.judged)
    accuracy = w.correct / w.judged
    guessing = math.log(classes) if even else -sum(share * math.log(share) for share in shares if share)
    unlearned = w.loss >= (1 - UNLEARNED) * min(w.first, guessing)
    if accuracy > chance + NormalDist().inv_cdf(LEVEL) * deviation or not unlearned:
        return None
    return catalogue.doc("stuck-at-chance").finding(
        "After {steps} steps of the full training the loss is {loss:.3f} (start {first:.3f}, guessing {guessing:.3f}) "
        "and the training accuracy {accuracy:.1%} (guessing {chance:.1%}).",
        steps=w.step,
        loss=w.loss,
        first=w.first,
        guessing=guessing,
        accuracy=accuracy,
        chance=chance,
    )


def diverging(w: Window) -> Finding | None:
    if len(w.losses) < WINDOW or w.step < FIRST + WINDOW or not w.first > 0:
        return None
    if min(w.losses) <= w.first or w.loss <= GROWN * w.first:
        return None
    return catalogue.doc("diverging").finding(
        "Over the last {window} steps the training loss is {loss:.4g}, {times:.1f} times that of the first "
        "{first_steps} ({first:.4g}).",
        window=len(w.losses),
        loss=w.loss,
        times=w.loss / w.first,
        first_steps=FIRST,
        first=w.first,
    )


def predicts_one_class(w: Window) -> Finding | None:
    seen, targets = sum(w.predicted.values()), sum(w.counts.values())
    if not seen or not targets or w.step < PATIENCE:
        return None
    top, count = max(w.predicted.items(), key=lambda item: item[1])
    share, own = count / seen, w.counts.get(top, 0) / targets
    if share < COLLAPSED or share <= own + MARGIN:
        return None
    return catalogue.doc("predicts-one-class").finding(
        "{share:.0%} of the training samples get the same prediction; that class has {own:.1%} of them.",
        share=share,
        own=own,
    )


def slow_dataloader(waited: float, seconds: float, batches: int) -> Finding | None:
    """``waited`` of ``seconds`` in ``batches`` steps were spent waiting for the loader."""
    if not batches or seconds <= 0 or waited / batches < NOTICEABLE or waited / seconds < WAIT:
        return None
    return catalogue.doc("slow-dataloader").finding(
        "{share:.0%} of the training time is spent waiting for batches ({wait:.3g} s of {step:.3g} s per step)",
        share=waited / seconds,
        wait=waited / batches,
        step=seconds / batches,
    )


def silent_units(records: Sequence[ActivationRecord], samples: int, looks: int, *, learns: bool) -> list[Finding]:
    """``learns``: the loss has fallen, so that silent units are worth a note and no more."""
    if looks < MIN_LOOKS or samples < MIN_SAMPLES:
        return []
    found = []
    severity = Severity.NOTE if learns else None
    inner = [record for record in records if not record.is_output]
    dead = max((r for r in inner if r.units >= MIN_UNITS), key=lambda r: r.dead_share - dead_limit(r), default=None)
    if dead is not None and dead.dead_share >= dead_limit(dead):
        found.append(
            catalogue.doc("dead-relu").finding(
                "{share:.0%} of {units} units of {module} did not fire once over {samples} training samples",
                share=dead.dead_share,
                units=dead.units,
                module=dead.module or "a ReLU",
                samples=samples,
                where=dead.where,
                severity=severity,
            )
        )
    flat = max((r for r in inner if r.function in {"sigmoid", "tanh"}), key=lambda r: r.flat_share, default=None)
    if flat is not None and flat.flat_share > FLAT_SHARE:
        found.append(
            catalogue.doc("saturated-activations").finding(
                "{share:.0%} of the values of {module} ({function}) lie where it is flat",
                share=flat.flat_share,
                module=flat.module or "an activation",
                function=flat.function,
                where=flat.where,
                severity=severity,
            )
        )
    return found
