"""Samples whose label contradicts that of all their neighbours."""

from __future__ import annotations

from statistics import fmean, pvariance
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data import labels_unrelated_to_inputs
from probes.results import Grade, Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Association

DOC = ProbeDoc(
    code="DAT129",
    name="noisy-labels",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    grade=Grade.SUSPECTED,
    summary="Many labels seem to be wrong: they contradict those of nearly identical samples.",
    why="A network first learns what the labels have in common and then their errors by heart; validation against "
    "wrong "
    "labels has a ceiling below 100 %.",
    fix="Look at the listed samples; clean the labels, or use a robust loss, label smoothing and early stopping.",
    consequences=("overfitting", "plateau", "below-expected-curve"),
    references=("Northcutt et al. 2021, Confident Learning", "Zhang et al. 2017, Understanding deep learning requires "
                "rethinking generalization"),
)  # fmt: skip
AGREED = 0.9  # of a sample's nearest neighbours that share one label
ENOUGH = 40  # samples with such neighbours
NOISE = 0.12  # share of them that are labelled otherwise; on clean data that can be told apart it is 0 to 4 %
CERTAIN = 0.08  # what the lower end of the 99 % interval of that share must exceed
CLEAN = 0.5  # share of the data in which one class each would be, if wrong labels alone made neighbours differ
PREFERENCE = 0.3  # of a contradicting label for some neighbours: Cohen's w, of which 0.3 is a medium effect
STRENGTH = 0.3  # of the way from guessing to perfect that the neighbours' labels predict a sample's
NEIGHBOURS = 10  # that are asked
UNEVEN = 1.3  # variance of the agreement over that of as many independent draws
SHORT = 0.01  # by which the agreement may fall short of what wrong labels alone would leave


def run(ctx: Context) -> Findings:
    """Do samples contradict neighbours that agree? In hard data a majority is right more often than one neighbour, and
    the more so the larger it is; a wrong label depends on nothing."""
    slipped = list(labels_unrelated_to_inputs.slipped(ctx))
    if slipped:
        yield from slipped
        return ""
    found = ctx.association()
    if not found.agreement:
        raise Skip("judged for one class label per sample")
    score = found.scores["nearest neighbours"]
    if score < found.chance + STRENGTH * (1 - found.chance):
        raise Skip(f"nearest neighbours tell {score:.0%} of the labels: too little to judge single ones")
    agreed = [i for i, share in enumerate(found.agreement) if share >= AGREED]
    wrong = [i for i in agreed if found.labels[i] != found.predicted[i]]
    share = len(wrong) / max(1, len(agreed))
    typical = fmean(found.agreement)
    surely = len(agreed) >= ENOUGH and share >= NOISE and _surely(len(wrong), len(agreed))
    if surely and _clean(found, len(agreed), share) >= CLEAN:
        yield DOC.finding(
            "of {agreed} samples whose nearest neighbours agree on a label, {share:.0%} carry another one",
            agreed=len(agreed),
            share=share,
            first=wrong[:10],
            evidence=(Number("share of contradicted labels", share, f"below {NOISE:.0%}"),),
        )
    elif found.classes > 2 and typical <= 1 - NOISE and _by_chance(found, score, typical):
        yield DOC.finding(
            "samples carry the label of most of their nearest neighbours in {score:.0%} of the cases, no more "
            "often than "
            "one neighbour carries that of another ({typical:.0%}), however many of them agree",
            score=score,
            typical=typical,
            evidence=(Number("agreement with the majority", score, f"above {typical:.2f}"),),
        )
    return f"{share:.1%} of {len(agreed)} labels contradict those of neighbours that agree"


def _surely(count: int, of: int) -> bool:
    from scipy.stats import binomtest

    return float(binomtest(count, of).proportion_ci(0.99).low) > CERTAIN


def _by_chance(found: Association, score: float, typical: float) -> bool:
    """Whether wrong labels, drawn among all classes, explain how often neighbours agree. Where classes lie over one
    another, the label that contradicts depends on the neighbours' own."""
    return _as_by_wrong_labels(found, score, typical) and _alike(found) and _preference(found) < PREFERENCE


def _preference(found: Association) -> float:
    """How far the labels that contradict their neighbours' depend on these, from 0 (as drawn among all classes at
    random); of two classes, none can be preferred."""
    import numpy as np

    labels, predicted = np.asarray(found.labels), np.asarray(found.predicted)
    usual = np.bincount(labels, minlength=int(predicted.max()) + 1) / len(labels)
    surplus = 0.0
    for kind in set(predicted.tolist()):
        seen = np.bincount(labels[(predicted == kind) & (labels != kind)], minlength=len(usual)).astype(float)
        others = np.where(np.arange(len(usual)) == kind, 0.0, usual)
        expected = others / others.sum() * seen.sum()
        asked = expected > 0
        if seen.any():
            surplus += float(((seen - expected)[asked] ** 2 / expected[asked]).sum()) - (asked.sum() - 1)
    return float(np.sqrt(max(0.0, surplus) / max(1, int((labels != predicted).sum()))))


def _clean(found: Association, agreed: int, wrong: float) -> float:
    """The share of the data that neighbourhoods of one class each would make up, with ``wrong`` of all labels drawn
    anew: so many neighbours agree. Where classes lie over one another, a few neighbourhoods agree by chance."""
    from scipy.stats import binom

    alike = float(binom.sf(AGREED * NEIGHBOURS - 1, NEIGHBOURS, 1 - wrong))
    return agreed / len(found.agreement) / alike if alike > 0 else 0.0


def _as_by_wrong_labels(found: Association, score: float, typical: float) -> bool:
    """Whether neighbours agree as they would if every neighbourhood were of one class and ``1 - score`` of the labels
    wrong at random. In hard data they agree less: neighbourhoods are of several classes."""
    import numpy as np

    others = (1 - score) / (found.classes - 1)
    draws = np.random.default_rng(0).multinomial(NEIGHBOURS, [score, *[others] * (found.classes - 1)], size=4_000)
    return typical >= float(draws.max(axis=1).mean()) / NEIGHBOURS - SHORT


def _alike(found: Association) -> bool:
    """Whether neighbourhoods agree no more unevenly than by chance: hard data have easy corners."""
    share = fmean(found.agreement)
    return pvariance(found.agreement) <= UNEVEN * share * (1 - share) / NEIGHBOURS
