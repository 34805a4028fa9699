"""Lightning: a callback that watches ``Trainer.fit``, and a module with its data as a pipeline.

Needs ``lightning`` (``pip install 'torch-diagnose[lightning]'``). Not covered: modules with manual optimisation as a
pipeline (the callback watches them), and strategies with several processes.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import lightning.pytorch as pl
from torch import nn

from diagnose.errors import UsageError
from diagnose.pipeline import Pipeline
from diagnose.watch.hooks import recording
from diagnose.watch.library import report
from diagnose.watch.recorder import Recorder
from diagnose.watch.report import Report


class DiagnoseCallback(pl.Callback):
    """``Trainer(callbacks=[DiagnoseCallback()])``; ``callback.report`` after ``fit``. ``stop=True`` raises where it is
    faulty, so that nothing is done with the model."""

    def __init__(self, *, stop: bool = False) -> None:
        self.stop = stop
        self.report: Report | None = None
        self._stack = ExitStack()
        self._recorder: Recorder | None = None
        self._started = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._started = time.monotonic()
            self._recorder = Recorder()
            self._stack.enter_context(recording(self._recorder))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._end("end")
            if self.stop and self.report is not None and not self.report:
                raise RuntimeError(f"diagnose: {self.report!r}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._end("exception")

    def _end(self, ended: str) -> None:
        self._stack.close()
        if self._recorder is not None:
            self.report = report(self._recorder, ended, time.monotonic() - self._started)
            self._recorder = None


def pipeline(module: pl.LightningModule, data: Any = None, *, epochs: int = 10) -> Pipeline:
    """A LightningModule with a DataModule (or its own loaders) as a pipeline of ``diagnose``.

    ``training_step`` gives the loss; the first optimizer and scheduler of ``configure_optimizers`` are taken. Raises
    UsageError for manual optimisation and for several optimizers, whose steps only the callback can watch.
    """
    if not module.automatic_optimization:
        raise UsageError("a LightningModule with manual optimisation has no loss of its own: use DiagnoseCallback.")
    source = module if data is None else data
    if data is not None:
        data.prepare_data()
        data.setup("fit")
    optimizer, scheduler, interval = _optimizer(module.configure_optimizers())
    module.log = module.log_dict = _silent  # type: ignore[method-assign]  # there is no trainer to log to

    def compute_loss(model: nn.Module, batch: Any) -> Any:
        told = model.training_step(batch, 0)  # type: ignore[operator]
        return told["loss"] if isinstance(told, dict) else told

    return Pipeline(
        model=module, train=source.train_dataloader(), val=_optional(source, "val_dataloader"), optimizer=optimizer,
        scheduler=scheduler, scheduler_interval="step" if interval == "step" else "epoch", compute_loss=compute_loss,
        epochs=epochs,
    )  # fmt: skip


def _silent(*args: Any, **kwargs: Any) -> None: ...


def _optional(source: Any, name: str) -> Any:
    try:
        return getattr(source, name)()
    except Exception as error:  # Lightning's own default raises its MisconfigurationException
        if type(error).__name__ != "MisconfigurationException":
            raise
        return None


def _optimizer(configured: Any) -> tuple[Any, Any, str]:
    """(optimizer, scheduler, interval) of what ``configure_optimizers`` returned, in any of its forms."""
    if isinstance(configured, tuple) and len(configured) == 2 and isinstance(configured[0], (list, tuple)):
        optimizers, schedulers = configured
        if len(optimizers) != 1:
            raise UsageError(f"configure_optimizers returned {len(optimizers)} optimizers: use DiagnoseCallback.")
        scheduler = schedulers[0] if schedulers else None
        return _optimizer({"optimizer": optimizers[0], "lr_scheduler": scheduler})
    if isinstance(configured, (list, tuple)):
        if len(configured) != 1:
            raise UsageError(f"configure_optimizers returned {len(configured)} optimizers: use DiagnoseCallback.")
        return _optimizer(configured[0])
    if isinstance(configured, dict):
        scheduler = configured.get("lr_scheduler")
        if isinstance(scheduler, dict):
            return configured["optimizer"], scheduler["scheduler"], scheduler.get("interval", "epoch")
        return configured["optimizer"], scheduler, "epoch"
    return configured, None, "epoch"
