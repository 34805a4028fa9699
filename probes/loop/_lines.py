"""What the probes of a watched loop share: reading names from the user's lines, and whether training goes well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.records.loop import Loop
    from probes.results import Where

MIN_STEPS_SEEN = 100  # of a run whose loss is to say that a fault does no visible harm
FALLEN = 0.7  # of the loss of its first quarter


def receiver(where: Sequence[Where], method: str, default: str) -> str:
    """The variable whose ``method`` a line calls: "opt" for "opt.step()"."""
    for place in where:
        if found := re.search(rf"([A-Za-z_][\w.]*)\.{method}\(", place.text):
            return found[1]
    return default


def goes_well(loop: Loop) -> bool:
    """Whether the training loss fell all along: the last quarter of the run is the lowest, well below the first."""
    losses = [value for _, value in loop.losses if value is not None]
    if len(losses) < len(loop.losses) or loop.steps < MIN_STEPS_SEEN or len(losses) < 8:
        return False
    size = len(losses) // 4
    means = [sum(losses[i * size : (i + 1) * size]) / size for i in range(4)]
    return means[-1] == min(means) and 0 <= means[-1] < FALLEN * means[0]
