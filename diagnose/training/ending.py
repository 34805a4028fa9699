"""What ends a training before its last epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from diagnose.training.rows import Row, best_epoch
from probes.api import Inconclusive

if TYPE_CHECKING:
    from diagnose.training.options import TrainingOptions
    from diagnose.training.ranks import Ranks
    from diagnose.training.watching import Watching

STOP_AFTER_NONFINITE = 20  # steps in a row whose loss is NaN or infinite: the parameters do not come back


class Ending:
    """``epochs``: as planned. ``deadline``: of time.monotonic, None for never. ``nonfinite_run``: steps in a row, up to
    the last one, whose loss was not finite on some rank."""

    def __init__(
        self, options: TrainingOptions, ranks: Ranks, watching: Watching, epochs: int, deadline: float | None
    ) -> None:
        self._patience, self._ranks, self._watching = options.patience, ranks, watching
        self._epochs, self._deadline = epochs, deadline
        self.nonfinite_run = 0

    def saw(self, loss: float | None) -> None:
        """The loss of a step; None where it is not known."""
        is_finite = self._ranks.all(loss is None or math.isfinite(loss))
        self.nonfinite_run = 0 if is_finite else self.nonfinite_run + 1

    @property
    def is_lost(self) -> bool:
        return self.nonfinite_run >= STOP_AFTER_NONFINITE

    def is_due(self) -> bool:
        """Whether this rank is about to end, so that the state should be saved now."""
        return self._is_late() or bool(self._watching.stop)

    def after_epoch(self, history: Sequence[Row]) -> str:
        """Why no further epoch follows; empty where nothing speaks against one."""
        if self.is_lost:
            return f"the loss was not finite for {self.nonfinite_run} steps in a row"
        best = best_epoch(history)
        if self._patience is not None and best is not None and history[-1]["epoch"] - best >= self._patience:
            return f"no epoch since epoch {best} was better (patience {self._patience})"
        return ""

    def check_time(self, step: int, epoch: int, left: Callable[[], str]) -> None:
        """Raises Inconclusive where the time is over on any rank. ``left``: what was done, what is saved."""
        if self._ranks.agree(self._is_late(), step):
            raise Inconclusive(f"the time budget ended in epoch {epoch} of {self._epochs}, {left()}.")

    def check_findings(self, step: int, epoch: int) -> None:
        """Raises Inconclusive where a finding was made that was to end the training."""
        if self._ranks.agree(bool(self._watching.stop), step):
            raise Inconclusive(
                f"--stop-on {self._watching.stop} ended the training in epoch {epoch} of {self._epochs}, after "
                f"{step:,} updates; the last good state is saved."
            )

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline
