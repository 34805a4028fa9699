"""Two classes that cannot be told apart."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Severity, Table

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT130",
    name="classes-overlap",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    grade=Grade.SUSPECTED,
    summary="Two classes look exactly alike, while all others can be told apart.",
    why="Samples of one class were probably filed under two labels; half of their predictions will always count as "
    "wrong.",
    fix="Look at samples of both classes side by side; merge them, or correct their labels.",
    consequences=("plateau", "below-expected-curve"),
)
EACH = 20  # samples of either class
CLEAR = 0.85  # accuracy of the nearest neighbours on all other classes
TOLD = 0.5  # of all labels, overlapping classes included: below, no pair could stand out
CLOSED = 0.8  # of the two classes' samples that are taken for one of the two
EVEN = 2 / 3  # share of the larger class of a pair: beyond, nearest neighbours vote for it whatever they see
LEVEL = 0.05  # chance that a pair that can be told apart at 60 % looks like guessing is far below it


def run(ctx: Context) -> Findings:
    """Within a pair the nearest neighbours only guess; outside it they know."""
    from scipy.stats import binomtest

    found = ctx.association()
    if not found.predicted or found.classes < 3:
        raise Skip("judged for three classes and more, with one label per sample")
    pairs = Counter(zip(found.labels, found.predicted, strict=True))
    sizes = Counter(found.labels)
    classes = sorted(sizes)
    all_right = sum(pairs[c, c] for c in classes)
    if found.scores["nearest neighbours"] < TOLD:
        raise Skip(
            f"nearest neighbours tell {all_right / len(found.labels):.0%} of the classes: too little to judge two"
        )
    for a in classes:
        for b in classes:
            if a >= b or min(sizes[a], sizes[b]) < EACH:
                continue
            right, mixed = pairs[a, a] + pairs[b, b], pairs[a, b] + pairs[b, a]
            known = (all_right - right) / max(1, len(found.labels) - sizes[a] - sizes[b])
            if known < CLEAR or right + mixed < CLOSED * (sizes[a] + sizes[b]) or not right + mixed:
                continue
            guess = max(sizes[a], sizes[b]) / (sizes[a] + sizes[b])
            if guess <= EVEN and binomtest(right, right + mixed, guess, alternative="greater").pvalue > LEVEL:
                yield DOC.finding(
                    "classes {first} and {second}: their nearest neighbours tell them apart in {right:.0%} of the "
                    "cases, guessing gives {guess:.0%}; all other classes are told at {known:.0%}",
                    first=a, second=b, right=right / (right + mixed), guess=guess, known=known,
                    evidence=(
                        Table(("label", f"taken for {a}", f"taken for {b}"),
                              [(a, pairs[a, a], pairs[a, b]), (b, pairs[b, a], pairs[b, b])], "The two classes"),
                    ),
                )  # fmt: skip
                return ""
    return "no two classes look alike to nearest neighbours"
