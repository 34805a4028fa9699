"""The learning rates of an optimizer over its steps."""

from __future__ import annotations

MOST = 2_000


class Rates:
    """``kept``: (step, rate from that step on), changes only. Of very many changes the highest of each few are kept: a
    rate is never taken for lower than it was."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, float]] = []
        self._last: float | None = None
        self._span = 1  # steps that share one entry

    def note(self, step: int, lr: float) -> None:
        if lr == self._last:
            return
        self._last = lr
        if self.kept and step - self.kept[-1][0] < self._span:
            self.kept[-1] = (self.kept[-1][0], max(self.kept[-1][1], lr))
            return
        self.kept.append((step, lr))
        if len(self.kept) > MOST:
            self._span *= 2
            pairs = zip(self.kept[::2], self.kept[1::2], strict=False)
            odd = self.kept[len(self.kept) & ~1 :]
            self.kept = [(first, max(one, other)) for (first, one), (_, other) in pairs] + odd
