"""Are equal samples copies of one another, or equal by chance?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.records.data import Scan

FINE = 0.3  # different values of a column, per different sample
MANY = 0.2  # different samples, per sample: fewer are a grid that was measured again and again


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
