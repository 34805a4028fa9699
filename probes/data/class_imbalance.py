"""One class outnumbers another many times over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import PICK_ONE, attempted, one_label_each, representative, uses_targets
from probes.results import Grade, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import Attempt
    from probes.records.trials import Trace

NOTABLE = 10.0  # ratio of the most to the least common class; the milder setting of long-tailed benchmarks (CIFAR-LT)
EXTREME = 100.0  # its harder setting: a warning even where the recall cannot be judged
WEAK = 0.5  # recall of the rare classes, in units of that of the others
KNOWN = 0.5  # recall of the others: below, little is learned of any class yet
ENOUGH = 10  # val samples of the rare classes

DOC = ProbeDoc(
    code="DAT112",
    name="class-imbalance",
    stage=Stage.SUBSET,
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
    consequences=("no-generalisation", "predicts-one-class"),
    references=(
        "Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples",
        "torch.utils.data.WeightedRandomSampler documentation",
    ),
)


def run(ctx: Context) -> Findings:
    """Counts per class, and after a short training how many val samples of the rare classes are recognised."""
    scan, labels = one_label_each(ctx, "train")
    if not representative(scan):
        raise Skip("train was read in part and in order, so the share of each class is unknown")
    if "imbalanced" in ctx.facts.intents or not uses_targets(ctx):
        raise Skip("the imbalance is declared as meant, or the loss does not use the labels")
    counts = Counter(labels)
    (common, most), (rare, least) = counts.most_common()[0], counts.most_common()[-1]
    if scan.weighted or _weighs_classes(attempted(ctx)):
        return f"class counts {least} to {most}, weighted"
    if most < NOTABLE * least:
        return f"class counts {least} to {most}"
    few = {label for label, count in counts.items() if most >= NOTABLE * count}
    rare_recall, others, seen = _recalls(ctx, few, set(counts) - few)
    if seen < ENOUGH or others < KNOWN:
        yield DOC.finding(
            "class {common} has {most} samples, class {rare} only {least}: {ratio:.0f} times as many; too few val "
            "samples of the rare classes to judge their recall",
            severity=None if most >= EXTREME * least else Severity.NOTE,
            common=common,
            most=most,
            rare=rare,
            least=least,
            ratio=most / least,
        )
        return ""
    if rare_recall < WEAK * others:
        yield DOC.finding(
            "class {common} has {most} samples, class {rare} only {least}: {ratio:.0f} times as many; after a short "
            "training {rare_recall:.0%} of the val samples of rare classes are recognised, {others:.0%} of the others",
            common=common,
            most=most,
            rare=rare,
            least=least,
            ratio=most / least,
            rare_recall=rare_recall,
            others=others,
        )
        return ""
    return f"class counts {least} to {most}; {rare_recall:.0%} of the rare classes are recognised"


def _weighs_classes(attempt: Attempt | None) -> bool:
    calls = attempt.loss_calls if attempt is not None else ()
    return any(
        call.options.get("pos_weight") is not None
        or (call.function in PICK_ONE and call.options.get("weight") is not None)
        for call in calls
    )


def _recalls(ctx: Context, few: set[int], others: set[int]) -> tuple[float, float, int]:
    """(recall of the rare classes on val, of the others, val samples of the rare ones), after a short training."""
    if "val" not in ctx.facts.splits:
        return 0.0, 0.0, 0
    trace = ctx.subset()
    rare, seen = _recall(trace, few)
    return rare, _recall(trace, others)[0], seen


def _recall(trace: Trace, classes: set[int]) -> tuple[float, int]:
    """(share of the val samples of these classes that are recognised, how many there are)."""
    pairs = [p for p in zip(trace.val_labels, trace.val_predicted, strict=True) if p[0] in classes]
    return sum(a == b for a, b in pairs) / max(1, len(pairs)), len(pairs)
