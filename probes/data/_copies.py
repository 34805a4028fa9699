"""Are equal samples copies of one another, or equal by chance?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan

COPIED, HARDLY = 0.5, 0.05  # shares of a class that have a twin, where one class was copied and another was not
EACH = 20  # different samples of a class
FINE = 0.3  # different values of a column, per different sample
MANY = 0.2  # different samples, per sample: fewer are a grid that was measured again and again


def told_apart_by_a_mask(ctx: Context, split: str) -> bool:
    """Whether the split is the one batch of train once more (the nodes of a graph, say), with another mask: what counts
    in train and in the split are other samples then."""
    train, other = ctx.scan("train"), ctx.scan(split)
    return (
        train.target_dtype == other.target_dtype == "bool"
        and train.batches == other.batches == 1
        and train.complete
        and other.complete
        and list(train.hashes) == list(other.hashes)
    )


def oversampled(scan: Scan) -> bool:
    """Whether most samples of one class have a twin, and hardly any of another: rare ones that were copied."""
    if len(scan.labels) != len(scan.hashes):
        return False
    counts = Counter(scan.hashes)
    held: dict[int, list[int]] = {}
    for label, content in zip(scan.labels, scan.hashes, strict=True):
        held.setdefault(label, []).append(content)
    copied = hardly = False
    for contents in held.values():
        twins = [content for content in contents if counts[content] > 1]
        # Many readings of a device that is off are equal too, but not copies of many different ones.
        copied |= len(twins) >= COPIED * len(contents) and len(set(twins)) >= EACH
        hardly |= len(twins) <= HARDLY * len(contents) and len(contents) >= EACH
    return copied and hardly


def fine_grained(scan: Scan) -> bool:
    """Whether a single column takes so many values that equal rows are no coincidence."""
    if scan.rows is None or scan.rows.bag or "float" not in scan.input_dtype:
        return False
    x = scan.rows.features
    seen: dict[tuple[float, ...], object] = {}
    for row, target in zip(x.tolist(), scan.rows.targets.tolist(), strict=True):
        if seen.setdefault(tuple(row), target) != target:
            return False  # measured again: the same input, and another target
    different = len(seen)
    fine = any(len(set(x[:, column].tolist())) > FINE * different for column in range(x.shape[1]))
    return fine and different > MANY * len(x)
