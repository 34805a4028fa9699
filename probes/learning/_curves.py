"""Traces as evidence: curves and tables that a report can draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.results import Evidence, Series, Table

if TYPE_CHECKING:
    from probes.records.trials import Ablation, Arm, Trace


def loss_curve(trace: Trace, name: str = "") -> Series:
    """Training loss of the looks, by step."""
    return Series(
        name or trace.name,
        [point.step for point in trace.points],
        [point.train_loss for point in trace.points],
        y_label="training loss",
    )


def curves(trace: Trace, name: str = "") -> list[Series]:
    """Loss and, where there is one, validation accuracy (else training accuracy)."""
    found = [loss_curve(trace, name)]
    scores = [point.val_score if point.val_score is not None else point.train_score for point in trace.points]
    if any(score is not None for score in scores):
        label = "validation accuracy" if trace.val_samples else "training accuracy"
        found.append(Series(name or trace.name, [point.step for point in trace.points], scores, y_label=label))
    return found


def proof(ablation: Ablation, *, compared: bool = False) -> list[Evidence]:
    """The proof table (arm x seed) and the curves of every trial. ``compared``: on purpose, there is nothing to fix."""
    rows: list[list[str | int | float | None]] = []
    drawn: list[Evidence] = []
    longer = [(f"{ablation.control.label}, for longer", [ablation.waited])] if ablation.waited else []
    for label, traces in [*((arm.label, arm.traces) for arm in (ablation.control, *ablation.arms)), *longer]:
        for trace in traces:
            last = trace.points[-1]
            rows.append(
                [
                    label, trace.seed, trace.steps, trace.points[0].train_loss, last.train_loss, last.train_score,
                    last.val_score, _learns(trace),
                ]
            )  # fmt: skip
            drawn += curves(trace, f"{label}, seed {trace.seed}")
    title = f"Each row is one short training on {_part(ablation)}"
    columns = ["change", "seed", "steps", "loss at start", "loss at end", "train accuracy", "val accuracy", "learns?"]
    if compared:
        return [Table(columns, rows, title), *drawn]
    return [Table(columns, rows, f"{title}; one that has clearly learned ends early"), *drawn]


def _part(ablation: Ablation) -> str:
    """How many samples, so that nobody takes their steps for epochs of all the data."""
    trained_on = next((trace.trained_on for trace in ablation.control.traces), None)
    return "the same samples" if trained_on is None else f"the same {trained_on:,} training samples"


def _learns(trace: Trace) -> str:
    return in_words(trace.outcome, trace.share, trace.val_above_chance)


def in_words(outcome: str, share: float | None, val_above_chance: bool | None = None) -> str:
    """Whether a training learned. One that guesses better at times, while its loss stays at chance, did not."""
    if outcome == "learns" and val_above_chance is False:
        return "on training samples only"
    stayed = outcome == "slow" and share is not None and share < AT_CHANCE
    return WORDS["stuck"] if stayed else WORDS.get(outcome, outcome)


def learned_of(arm: Arm) -> str:
    """How many seeds learned, as "3 of 3"."""
    return f"{sum(outcome == 'learns' for outcome in arm.outcomes)} of {len(arm.outcomes)}"


AT_CHANCE = 0.02  # share of the way below which a loss is still that of guessing, even if some guesses are better


def failed(arm: Arm) -> int:
    """Seeds whose loss stayed at chance. One that is only slow has not failed: what is merely faster mends nothing."""
    return sum(
        outcome == "nonfinite" or in_words(outcome, share) == WORDS["stuck"]
        for outcome, share in zip(arm.outcomes, arm.shares, strict=True)
    )


def shares(arms: Sequence[Arm]) -> str:
    """How far each arm got, for a sentence on what was ruled out."""
    return "; ".join(f"{arm.label}: {', '.join(map(in_words, arm.outcomes, arm.shares))}" for arm in arms)


WORDS = {"learns": "yes", "slow": "hardly", "stuck": "no", "nonfinite": "no (not finite)", "unknown": "cannot be told"}
