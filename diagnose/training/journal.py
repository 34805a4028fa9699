"""What a training writes beside its checkpoints: history.csv, history.json and TensorBoard event files."""

from __future__ import annotations

import csv
import io
import json
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
        text = io.StringIO()
        columns = dict.fromkeys(key for row in history for key in row)
        table = csv.DictWriter(text, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        write_atomically(self._folder / "history.csv", text.getvalue().encode())
        write_atomically(self._folder / "history.json", json.dumps(list(history), indent=1).encode())
        row = dict(history[-1])
        train, val = row.get("train_accuracy"), row.get("val_accuracy")
        row["gap"] = None if train is None or val is None else train - val
        for key, value in row.items():
            if value is not None and key not in ("step", "epoch"):
                self._writer.add_scalar(f"epoch/{key}", value, row["step"])
        self._writer.flush()

    def picture(self, name: str, path: Path, step: int) -> None:
        """A picture that was drawn before; nothing where there is none."""
        if path.is_file():
            import numpy as np
            from PIL import Image

            with Image.open(path) as opened:
                self._writer.add_image(name, np.asarray(opened.convert("RGB")), step, dataformats="HWC")

    def matrix(self, name: str, matrix: Sequence[Sequence[int]], step: int) -> None:
        """A confusion matrix as an image: light where many samples of a class (row) are."""
        import numpy as np

        counts = np.asarray(matrix, dtype=float)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        size = max(1, 256 // len(shares))
        self._writer.add_image(name, shares.repeat(size, 0).repeat(size, 1), step, dataformats="HW")

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
