"""Training samples come sorted by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import one_label_each, uses_targets
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context

ENTROPY_SHARE = 0.75  # mean label entropy of a batch, relative to a random order of the same labels
PERMUTATIONS = 100  # random orders that the order seen is compared with; all must be more mixed
MIN_SEEN = 32  # samples

DOC = ProbeDoc(
    code="DAT113",
    name="unshuffled-training-data",
    stage=Stage.DATA,
    summary="The training samples come sorted by class.",
    why=(
        "Each batch pulls the model towards its few classes and the next batch pulls it away; batch "
        "statistics swing with it."
    ),
    fix="Shuffle the training loader, or the data once before they are written.",
    before="DataLoader(train_set, batch_size=64)",
    after="DataLoader(train_set, batch_size=64, shuffle=True)",
    consequences=("stuck-at-chance", "no-generalisation", "predicts-one-class", "loss-spike"),
)


def run(ctx: Context) -> Findings:
    """Label entropy within batches, against random orders of the same labels."""
    import numpy as np

    scan, _ = one_label_each(ctx, "train")
    if not uses_targets(ctx):
        raise Skip("the loss is not known to use the labels")
    if len(scan.batch_sizes) < 2 or scan.seen < MIN_SEEN:
        raise Skip("an epoch has one batch, or too few samples to judge")
    if scan.shuffles is None and scan.planned is None and hasattr(ctx.pipeline.train, "batch_sampler"):
        raise Skip("the loader composes its batches with a sampler of its own")
    classes, labels = np.unique(np.asarray(scan.labels), return_inverse=True)
    if len(classes) < 2:
        raise Skip("all labels seen are the same")
    batch = np.repeat(np.arange(len(scan.batch_sizes)), scan.batch_sizes)
    seen = _entropy(labels, batch, len(classes))
    random = np.random.default_rng(0)
    shuffled = [_entropy(random.permutation(labels), batch, len(classes)) for _ in range(PERMUTATIONS)]
    expected = float(np.mean(shuffled))
    if seen < min(shuffled) and seen < ENTROPY_SHARE * expected:
        yield DOC.finding(
            "a batch holds {seen:.2f} nats of label entropy on average; in random order it would be {expected:.2f}",
            evidence=(Number("label entropy within a batch (nats)", seen, f"about {expected:.2f}"),),
            seen=seen,
            expected=expected,
        )
    return f"labels mixed within batches ({seen:.2f} nats, random order {expected:.2f})"


def _entropy(labels: Any, batch: Any, classes: int) -> float:
    """Mean over the samples of the label entropy of their batch, in nats."""
    import numpy as np

    counts = np.zeros((int(batch[-1]) + 1, classes))
    np.add.at(counts, (batch, labels), 1)
    sizes = counts.sum(1, keepdims=True)
    share = counts / np.maximum(sizes, 1)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    return float((entropy * sizes[:, 0]).sum() / sizes.sum())
