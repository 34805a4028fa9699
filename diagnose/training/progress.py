"""Progress is told a few times a second, and at the end of a pass."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

EVERY = 0.3  # seconds


def throttled(progress: Callable[[str, int, int], None]) -> Callable[..., None]:
    """A function (what, done, of, loss=None) that hands on to ``progress`` what is worth showing."""
    last = [0.0]

    def report(what: str, done: int, of: int, loss: float | None = None) -> None:
        if time.monotonic() - last[0] > EVERY or done == of:
            last[0] = time.monotonic()
            progress(what if loss is None or not math.isfinite(loss) else f"{what}, loss {loss:.3f}", done, of)

    return report
