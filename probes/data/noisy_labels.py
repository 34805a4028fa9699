"""Samples whose label contradicts that of all their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

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
STRENGTH = 0.3  # of the way from guessing to perfect that the neighbours' labels predict a sample's


def run(ctx: Context) -> Findings:
    """Where nine of ten neighbours agree, is the sample labelled otherwise? In hard data such neighbours are right;
    with wrong labels a sample's own error does not depend on what its neighbours agree on."""
    from scipy.stats import binomtest

    found = ctx.association()
    if not found.agreement:
        raise Skip("judged for one class label per sample")
    agreed = [i for i, share in enumerate(found.agreement) if share >= AGREED]
    score = found.scores["nearest neighbours"]
    if len(agreed) < ENOUGH or score < found.chance + STRENGTH * (1 - found.chance):
        return f"nearest neighbours tell {score:.0%} of the labels: too little to judge single ones"
    wrong = [i for i in agreed if found.labels[i] != found.predicted[i]]
    share = len(wrong) / len(agreed)
    low = float(binomtest(len(wrong), len(agreed)).proportion_ci(0.99).low)
    if share >= NOISE and low > CERTAIN:
        yield DOC.finding(
            "of {agreed} samples whose nearest neighbours agree on a label, {share:.0%} carry another one",
            agreed=len(agreed),
            share=share,
            first=wrong[:10],
            evidence=(Number("share of contradicted labels", share, f"below {NOISE:.0%}"),),
        )
        return ""
    return f"{share:.1%} of {len(agreed)} labels contradict those of their neighbours"
