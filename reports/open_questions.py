"""What else it could have been: the rivals that were ruled out with their evidence, and what was not checked."""

from __future__ import annotations

from collections.abc import Sequence

from probes.results import Because, RunResults, Status
from reports.numbers import one_line, plural
from reports.shapes import Group, RuledOut, Unchecked
from reports.words import OUTCOMES, doc

LEARNING = ("fails-on-reference-data", "cannot-overfit", "stuck-at-chance", "no-generalisation")
"""Symptoms whose absence acquits a part of the pipeline: a stage that learned."""

USUAL = (
    "labels-out-of-range", "constant-labels", "unshuffled-training-data", "constant-inputs",
    "train-val-preprocessing-mismatch", "train-val-leakage", "num-classes-mismatch", "initial-loss-off",
    "softmax-before-cross-entropy", "activation-on-logits", "wrong-loss-axis", "vanishing-initialisation", "graph-cut",
    "vanishing-gradient", "exploding-gradient", "parameters-missing-from-optimizer", "parameters-not-updated",
    "zero-learning-rate", "schedule-collapses",
)  # fmt: skip
"""What a reader suspects first when a training does not learn."""


def ruled_out(results: RunResults) -> RuledOut | None:
    """Experiments, stages that learned, usual suspects; the rest as a number. None where nothing was ruled out."""
    diagnosis = results.diagnosis
    passed = {result.name for result in results.results if result.status is Status.PASS}
    checks = [item for item in diagnosis.ruled_out if item.name in passed]
    argued = [item for item in diagnosis.ruled_out if item.name not in passed]
    asked = bool({*diagnosis.symptoms, *(cause.name for cause in diagnosis.causes)} & _learning_names(results))
    tried = [item for item in checks if asked and (known := doc(item.name)) and known.experiment]
    learned = [item for item in checks if asked and item.name in LEARNING]
    usual = sorted((i for i in checks if asked and i.name in USUAL), key=lambda item: USUAL.index(item.name))
    shown = {item.name for item in (*tried, *learned, *usual)}
    rest = len({r.name for r in results.results if r.status is Status.PASS and not r.findings} - shown)
    if not (argued or shown):
        return None
    return RuledOut(
        experiments=groups([*argued, *tried]),
        learned=groups(learned),
        usual=groups(usual),
        rest=_rest(rest),
    )


def _learning_names(results: RunResults) -> set[str]:
    """Names that say that the pipeline does not learn, or why."""
    names = {"predicts-one-class", "slow-to-learn", "plateau", "below-expected-curve", *LEARNING}
    return names | {cause.name for cause in results.diagnosis.causes if names & set(cause.consequences)}


def _rest(count: int) -> str:
    if not count:
        return ""
    more = plural(count, "more defect").replace("1 more", "One more")
    was = "was" if count == 1 else "were"
    return f'{more} {was} looked for and not found; the folded lists under "What was checked" hold the figures.'


def not_checked(results: RunResults) -> Unchecked:
    """What came to no verdict stands open; checks that were skipped, as a rule since they do not apply, are folded."""
    listed = list(results.diagnosis.not_checked)
    names = {item.name for item in listed}
    undecided = (Status.SKIPPED, Status.INCONCLUSIVE, Status.INTERNAL)
    listed += [
        Because(result.name, f"{OUTCOMES[result.status]}: {result.reason or 'no reason was recorded'}")
        for result in results.results
        if result.status in undecided and result.name not in names
    ]
    skipped = {result.name for result in results.results if result.status is Status.SKIPPED}
    skipped -= {name for name in skipped if (known := doc(name)) and known.experiment}
    shown = [item for item in listed if item.name not in skipped]
    stages = [item for item in shown if item.name.startswith("stage ")]
    return Unchecked(
        shown=groups([*stages, *(item for item in shown if item not in stages)]),
        skipped=groups([item for item in listed if item.name in skipped]),
    )


def groups(items: Sequence[Because]) -> tuple[Group, ...]:
    """Names by their reason, in order of first appearance."""
    grouped: dict[str, list[str]] = {}
    for item in items:
        grouped.setdefault(one_line(item.because), []).append(one_line(item.name))
    return tuple(Group(because, tuple(dict.fromkeys(names))) for because, names in grouped.items())
