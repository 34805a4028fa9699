"""What a training writes beside its checkpoints: history.csv and TensorBoard event files."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnose.store import write_atomically

if TYPE_CHECKING:
    from probes.records.trials import Ablation

POINTS_PER_EPOCH = 50  # training losses within an epoch, for TensorBoard


class Journal:
    """``step``: the update after which the training goes on; later points of an earlier attempt are hidden. ``run``: a
    name of its own among the event files."""

    def __init__(self, folder: Path, step: int, run: str = "") -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds, and only training needs it

        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with _nameless_host():
            purge = step + 1 if step else None
            self._writer = SummaryWriter(str(folder / "tensorboard" / run), purge_step=purge)

    def point(self, step: int, loss: float | None) -> None:
        """A training loss within an epoch."""
        if loss is not None:
            self._writer.add_scalar("step/train_loss", loss, step)

    def row(self, history: Sequence[Mapping[str, Any]]) -> None:
        """The last row of ``history`` is new."""
        import pandas as pd

        text: str = pd.DataFrame(list(history)).to_csv(index=False, lineterminator="\n")
        write_atomically(self._folder / "history.csv", text.encode())
        row = history[-1]
        for key, value in row.items():
            if value is not None and key != "step":
                self._writer.add_scalar(f"epoch/{key}", value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def arms_on_board(folder: Path, ablation: Ablation) -> None:
    """Every trial of an experiment as a run of its own in TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    for arm in (ablation.control, *ablation.arms):
        for trace in arm.traces:
            name = "".join(c if c.isalnum() or c in "-." else "_" for c in f"{arm.label}-seed-{trace.seed}")
            with _nameless_host():
                writer = SummaryWriter(str(folder / "tensorboard" / name))
            for point in trace.points:
                writer.add_scalar("trial/train_loss", point.train_loss, point.step)
                if point.val_score is not None:
                    writer.add_scalar("trial/val_accuracy", point.val_score, point.step)
                if point.lr is not None:
                    writer.add_scalar("trial/lr", point.lr, point.step)
            writer.close()


@contextmanager
def _nameless_host() -> Iterator[None]:
    """TensorBoard puts the host's name into the name of its files, and a run folder must not tell it."""
    original = socket.gethostname
    socket.gethostname = lambda: "local"
    try:
        yield
    finally:
        socket.gethostname = original
