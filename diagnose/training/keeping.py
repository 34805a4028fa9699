"""When a training is saved, what goes into the checkpoint, and where a resumed one goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnose.errors import UsageError
from diagnose.training import checkpoints
from diagnose.training.weights import initialise

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.training.batch_stream import BatchStream
    from diagnose.training.ranks import Ranks
    from diagnose.training.state import Saved
    from diagnose.training.watching import Watching

OF_A_RANK = ("random", "loaders", "meter", "at_start", "monitor")  # what each rank has of its own


class Keeper:
    """Keeps one training in ``folder``. ``say`` takes sentences on what was done otherwise than asked."""

    def __init__(
        self,
        ctx: MeasuringContext,
        folder: Path,
        ranks: Ranks,
        saved: Saved,
        stream: BatchStream,
        watching: Watching,
        say: Callable[[str], None],
    ) -> None:
        self._ctx, self._folder, self._ranks, self._saved = ctx, folder, ranks, saved
        self._stream, self._watching, self._say = stream, watching, say
        self._options = ctx.source.training
        self._at, self.step = time.monotonic(), 0

    def first_state(self, resume: bool, init_from: str | None, model: Any) -> Mapping[str, Any] | None:
        """The checkpoint that was restored, or None where the training begins; then ``init_from`` is loaded.

        Raises UsageError where the checkpoints or ``init_from`` do not fit.
        """
        if self._ranks.is_main:
            checkpoints.sweep(self._folder)
        found = checkpoints.newest(self._folder) if resume else None
        if found is not None:
            path, state, note = found
            try:
                state = self._restored(state)
            except Exception as error:  # the state of another model, optimizer or scheduler fails in any way
                raise UsageError(
                    f"--resume: {path.name} does not fit this pipeline ({error}). Resume with the configuration it was "
                    "made with, or start from its weights with --init-from."
                ) from error
            self._say(note or f"Resumed from {path.name}, {checkpoints.position(state)}.")
            return state
        if resume:
            self._say("There was no checkpoint to resume from: the training started at epoch 1.")
        if init_from is not None:
            for note in initialise(model, Path(init_from).expanduser()):
                self._say(note)
        return None

    def _restored(self, state: dict[str, Any]) -> dict[str, Any]:
        own = state.get("ranks") or []
        if self._ranks.rank < len(own):
            state = {**state, **own[self._ranks.rank]}
        self._saved.restore(state)
        self._watching.restore(state.get("monitor"), state["history"])
        self.step = int(state["step"])
        if (seed := state.get("seed")) != self._ctx.seed:
            self._say(f"The checkpoint was made with seed {seed}, the training went on with seed {self._ctx.seed}.")
        if not self._stream.has_position:
            self._say(
                "The training loader is no DataLoader over items, so its position within an epoch is not known: "
                "the training went on at the start of an epoch."
            )
        if self._stream.keeps_workers:
            self._say(
                "The training loader keeps its workers over epochs (persistent_workers): what they draw at random "
                "differs from an uninterrupted training."
            )
        return state

    def save(self, step: int, history: Sequence[Any], *, best: bool = False, keep: bool = False, **within: Any) -> None:
        """``within``: where an epoch stands, if it has begun. Raises UsageError where it cannot be written."""
        self._at, self.step = time.monotonic(), step
        state, dropped = self._saved.capture(
            epoch=len(history),
            step=step,
            history=history,
            monitor=self._watching.state(),
            **{"batch": 0, **within},
        )
        if self._ranks.several:
            state["ranks"] = self._ranks.gather({key: state[key] for key in OF_A_RANK if key in state})
        if not self._ranks.is_main:
            return
        if dropped:
            self._say(f"Not in the checkpoints, as it is neither a tensor nor plain data: {', '.join(dropped)}.")
        checkpoints.save(self._folder, state, best=best, keep=keep)

    def keeps(self, epoch: int) -> bool:
        """Whether the checkpoint of this epoch is kept for good."""
        return epoch % self._options.checkpoint_every == 0

    def is_due(self, step: int, *, at_once: bool) -> bool:
        """Whether the state within an epoch should be saved after update ``step``, on all ranks alike."""
        every = self._options.checkpoint_steps
        wanted = at_once or (every is not None and step - self.step >= every)
        wanted = wanted or time.monotonic() - self._at > 60 * self._options.checkpoint_minutes
        return self._ranks.agree(wanted, step)
