"""One class outnumbers another many times over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import attempted, class_call, one_label_each, representative, uses_targets
from probes.results import Grade, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

EXTREME = 100.0  # ratio of the most to the least common class; the harder setting of long-tailed benchmarks (CIFAR-LT)
NOTABLE = 10.0  # the milder setting; usually learnable as it is

DOC = ProbeDoc(
    code="DAT112",
    name="class-imbalance",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    grade=Grade.SUSPECTED,
    summary="One class outnumbers another many times over.",
    why="Always answering with the common class already gives a low loss, so rare classes may never be predicted.",
    fix=(
        "Weigh the loss or the sampler by class, and judge by recall per class. Declare the intent "
        "imbalanced if it is meant."
    ),
    before="nn.CrossEntropyLoss()",
    after="nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))",
    references=(
        "Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples",
        "torch.utils.data.WeightedRandomSampler documentation",
    ),
)


def run(ctx: Context) -> Findings:
    """Counts per class; silent where the imbalance is weighted or meant."""
    scan, labels = one_label_each(ctx, "train")
    if not representative(scan):
        raise Skip("train was read in part and in order, so the share of each class is unknown")
    if "imbalanced" in ctx.facts.intents or not uses_targets(ctx):
        raise Skip("the imbalance is declared as meant, or the loss does not use the labels")
    (common, most), (rare, least) = Counter(labels).most_common()[0], Counter(labels).most_common()[-1]
    call = class_call(attempted(ctx))
    if scan.weighted or (call is not None and call.options.get("weight") is not None):
        return f"class counts {least} to {most}, weighted"
    if most >= NOTABLE * least:
        yield DOC.finding(
            "class {common} has {most} samples, class {rare} only {least}: {ratio:.0f} times as many",
            severity=None if most >= EXTREME * least else Severity.NOTE,
            common=common,
            most=most,
            rare=rare,
            least=least,
            ratio=most / least,
        )
    return f"class counts {least} to {most}"
