"""Learning-rate schedulers: when they are stepped, against the steps of their optimizer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from probes.optimizer.schedule_period_mismatch import LENGTHS
from probes.records.loop import SchedulerSeen
from probes.results import Where

FIRST_CALLS = 40


class _Schedule:
    def __init__(self, scheduler: Any, created: tuple[Where, ...]) -> None:
        self.ref = weakref.ref(scheduler)
        self.kind = type(scheduler).__name__
        self.created = created
        self.length = _length(scheduler)
        self.optimizer = -1
        self.where: tuple[Where, ...] = ()
        self.steps = self.early = 0
        self.at: list[int] = []


class ScheduleWatch:
    def __init__(self) -> None:
        self._by_id: dict[int, _Schedule] = {}
        self._all: list[_Schedule] = []

    def step(self, scheduler: Any, steps: int, index: int, where: Callable[[], tuple[Where, ...]]) -> None:
        """``steps``: of its optimizer, before this call; ``index``: of that optimizer."""
        seen = self._by_id.get(id(scheduler))
        if seen is None or seen.ref() is not scheduler:
            seen = self._by_id[id(scheduler)] = _Schedule(scheduler, ())
            self._all.append(seen)
        seen.steps += 1
        seen.optimizer = index
        if steps == 0:
            seen.early += 1
        if len(seen.at) < FIRST_CALLS:
            seen.at.append(steps)
            seen.where = seen.where or where()

    def records(self) -> tuple[SchedulerSeen, ...]:
        return tuple(
            SchedulerSeen(s.kind, s.optimizer, s.where, s.created, s.steps, s.early, tuple(s.at), s.length)
            for s in self._all
        )


def _length(scheduler: Any) -> int:
    length = getattr(scheduler, LENGTHS.get(type(scheduler).__name__, ""), 0)
    return int(length) if isinstance(length, (int, float)) else 0
