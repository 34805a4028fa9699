"""What ranks tell each other outside of their process group: that one is ready to train, and how its run ended.

The words lie in the store that torchrun's agent keeps. Where a launcher has none, nobody is waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch import distributed

from probes.api import Inconclusive

READY = "ready"
PAUSE = 0.5  # seconds between two looks at the store
ANSWER = timedelta(seconds=60)  # in which the store answers


class RankLost(Exception):
    """Another rank died, or did not answer; ``__cause__`` is what torch said."""


class Meeting:
    """This rank among all. ``progress(what, done, of)`` is told again and again while it waits, as a sign of life."""

    def __init__(self, progress: Callable[[str, int, int], None], deadline: float | None = None) -> None:
        self.world, self.rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
        self._progress, self._deadline = progress, deadline
        self._store = agent_store()

    def tell(self, word: str) -> None:
        """``READY``, or what this rank's run came to. Raises RankLost."""
        if self._store is not None:
            try:
                self._store.set(str(self.rank), word)
            except distributed.DistError as error:
                raise _lost() from error

    def all_ready(self) -> None:
        """Wait for the other ranks. Raises Inconclusive where one has ended, or the deadline passes; RankLost."""
        self.tell(READY)
        for rank in range(self.world):
            word = self._word(rank)
            if word not in (READY, None):
                raise Inconclusive(f"rank {rank} ended before the training (its rehearsal: {word})")

    def first_ended(self) -> str | None:
        """What the run of rank 0 came to, once it has ended; None where that cannot be known. Raises RankLost."""
        return self._word(0, last=True)

    def _word(self, rank: int, *, last: bool = False) -> str | None:
        """What a rank has told, waited for; ``last``: how it ended."""
        while self._store is not None:
            try:
                word: str | None = self._store.get(str(rank)).decode() if self._store.check([str(rank)]) else None
            except distributed.DistError as error:
                raise _lost() from error
            if word is not None and not (last and word == READY):
                return word
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise Inconclusive(f"the time budget ended while rank {rank} was waited for")
            self._progress(f"waiting for rank {rank}", rank, self.world)
            time.sleep(PAUSE)
        return None


def agent_store() -> Any:
    """The store of torchrun's agent, apart from what earlier attempts have left there; None where there is none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return None
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # not in every build

    place, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = TCPStore(place, port, is_master=False, wait_for_workers=False, timeout=ANSWER)
    except distributed.DistError as error:
        raise _lost() from error
    return PrefixStore(f"diagnose/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _lost() -> RankLost:
    return RankLost("The store that torchrun keeps for its ranks no longer answers: torchrun died, or its host.")
