"""Are equal samples copies of one another, or equal by chance?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.records.data import Scan

FINE = 0.3  # different values of a column, per different sample


def fine_grained(scan: Scan) -> bool:
    """Whether a single column takes so many values that equal rows are no coincidence."""
    if scan.rows is None or scan.rows.bag or "float" not in scan.input_dtype:
        return False
    x = scan.rows.features
    different = len({tuple(row) for row in x.tolist()})
    return any(len(set(x[:, column].tolist())) > FINE * different for column in range(x.shape[1]))
