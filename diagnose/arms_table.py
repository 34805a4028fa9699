"""Short trainings as they go: one row for each arm, with its curve, seeds, verdict and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from probes.learning._curves import WORDS, in_words
from reports.numbers import duration

if TYPE_CHECKING:
    from rich.table import Table

LEAST_SPAN = 0.1
BARS = "▁▂▃▄▅▆▇█"
WIDEST = 16  # blocks of a curve


@dataclass
class _UnderWay:
    seed: int
    since: float
    """time.monotonic() at its first report"""
    first: int
    done: int
    of: int

    def left(self, now: float) -> float:
        """Seconds, by its pace so far; 0 before that is known."""
        steps = self.done - self.first
        return (now - self.since) / steps * (self.of - self.done) if steps > 0 else 0.0


@dataclass
class _Row:
    losses: list[float | None] = field(default_factory=list)
    """of the trial that reported last, finished or not"""
    outcomes: dict[int, str] = field(default_factory=dict)
    """seed -> how its trial ended, in words"""
    going: dict[int, _UnderWay] = field(default_factory=dict)
    last: int | None = None
    """the seed whose losses these are"""


class ArmsTable:
    """Rows in the order in which arms are met. ``expect`` says beforehand which there will be, where that is known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: dict[str, _Row] = {}
        self._expected = 0
        self._began = clock()
        self._finished = 0

    def __bool__(self) -> bool:
        return bool(self._rows)

    def expect(self, arms: Sequence[str], seeds: int) -> None:
        """Each arm will be run with so many seeds."""
        for arm in arms:
            self._row(arm)
        self._expected, self._began = len(arms) * seeds, self._clock()

    def step(self, arm: str, seed: int, done: int, of: int, loss: float | None) -> None:
        row = self._row(arm)
        now = self._clock()
        known = row.going.get(seed)
        if known is None or done < known.done:
            row.going[seed] = known = _UnderWay(seed, now, done, done, of)
        known.done = done
        if row.last != seed:
            row.last, row.losses = seed, []
        row.losses.append(loss)

    def finished(self, trace: dict[str, Any]) -> None:
        """``trace``: as the events hold it."""
        row, seed = self._row(str(trace["name"])), int(trace["seed"])
        row.going.pop(seed, None)
        row.outcomes[seed] = in_words(str(trace["outcome"]), trace.get("share"), trace.get("val_above_chance"))
        row.last, row.losses = seed, [point["train_loss"] for point in trace["points"]]
        self._finished += 1

    def table(self, rows: int | None = None) -> Table:
        """The last ``rows`` rows, all of them where None."""
        from rich.markup import escape
        from rich.table import Table as RichTable

        shown = RichTable("change", "training loss", "", "seeds", "learns?", "left", box=None, pad_edge=False)
        shown.columns[0].overflow = "ellipsis"
        arms = list(self._rows.items())
        for label, row in arms if rows is None else arms[-max(1, rows) :]:
            ends = " to ".join(
                "not finite" if loss is None else f"{loss:.3f}" for loss in (row.losses[:1] + row.losses[-1:])
            )
            seeds = len(row.outcomes | row.going)
            shown.add_row(
                escape(label), sparkline(_thinned(row.losses)), ends, str(seeds or ""), _verdict(row), self._left(row)
            )
        return shown

    @property
    def total(self) -> str:
        """How far all of them are, where it is known how many there will be."""
        if not self._expected:
            return ""
        rest = self._expected - self._finished
        left = (self._clock() - self._began) / self._finished * rest if self._finished else None
        about = f", about {duration(left)} left" if left is not None and rest > 0 else ""
        return f"{self._finished} of {self._expected} short trainings{about}"

    def _row(self, arm: str) -> _Row:
        return self._rows.setdefault(arm, _Row())

    def _left(self, row: _Row) -> str:
        now = self._clock()
        seconds = max((under_way.left(now) for under_way in row.going.values()), default=0.0)
        return duration(seconds) if seconds else ""


def _verdict(row: _Row) -> str:
    """ "yes", or "2 of 3" where the seeds differ."""
    outcomes = list(row.outcomes.values())
    if not outcomes:
        return ""
    if len(set(outcomes)) == 1:
        return outcomes[0]
    return f"{outcomes.count(WORDS['learns'])} of {len(outcomes)}"


def _thinned(losses: Sequence[float | None]) -> list[float | None]:
    """No more than fit into a curve, evenly, the last one among them."""
    every = -(-len(losses) // WIDEST) if losses else 1
    return list(losses[::-1][::every][::-1])


def sparkline(values: Sequence[float | None]) -> str:
    """One block per value, from the lowest to the highest; a gap where a value is missing. A flat curve looks flat: the
    blocks span at least a tenth of the values."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    height = max(high - low, LEAST_SPAN * abs(high))
    return "".join(
        " " if value is None else BARS[min(len(BARS) - 1, int((value - low) / height * len(BARS))) if height else 0]
        for value in values
    )
