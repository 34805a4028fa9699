"""Lightning: fast_dev_run, and overfit_batches judged by us."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

from peer.common import NONFINITE, RAISED, Answer, fresh

OVERFITTED = 100  # steps on one batch
NAMES = {"^exception": RAISED, "not finite": NONFINITE + " learning-rate-too-high", "no step": "empty-loader"}


def answer(build: Callable[[], Any], seed: int) -> Answer:
    import logging

    import lightning as pl  # type: ignore[import-not-found]
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from torch.utils.data import DataLoader

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, pipeline: Any, engine: Any) -> None:
            super().__init__()
            self.net, self.pipeline, self.engine, self.losses = pipeline.model, pipeline, engine, list[float]()
            self.automatic_optimization = pipeline.train_step is None

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.engine.loss(batch).loss if self.automatic_optimization else self.engine.step(batch).loss
            self.losses.append(float(loss) if loss is not None else 0.0)
            self.log("loss", self.losses[-1], batch_size=1)
            return loss if self.automatic_optimization else None

        def validation_step(self, batch: Any, _: int) -> None:
            if self.engine.has_loss:
                self.engine.loss(batch)

        def configure_optimizers(self) -> Any:
            made: dict[str, Any] = {"optimizer": self.pipeline.optimizer}
            if (scheduler := self.pipeline.scheduler) is not None and self.automatic_optimization:
                interval = self.pipeline.scheduler_interval
                made["lr_scheduler"] = {"scheduler": scheduler, "interval": interval, "monitor": "loss"}
            return made

        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            scheduler.step(*([metric] if isinstance(scheduler, ReduceLROnPlateau) else []))

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    answer = Answer()
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    asked: tuple[dict[str, Any], ...] = (
        {"fast_dev_run": True},
        {"overfit_batches": 1, "max_epochs": OVERFITTED, "limit_val_batches": 0},
    )
    for options in asked:
        pipeline, engine = fresh(build, seed)
        module, own = Module(pipeline, engine), pipeline.train_step is None
        options |= {"accumulate_grad_batches": pipeline.accumulate if own else 1, **dict.fromkeys(quiet, False)}
        trainer = pl.Trainer(accelerator="cpu", gradient_clip_val=pipeline.clip_grad_norm if own else None, **options)
        val = pipeline.val if pipeline.val is not None and "fast_dev_run" in options else None
        # a list would be taken for several loaders
        loaders = [
            DataLoader(cast(Any, x), batch_size=None) if isinstance(x, list) else x for x in (pipeline.train, val)
        ]
        try:
            trainer.fit(module, *loaders)
        except Exception as error:
            answer.raised.append(f"exception: {type(error).__name__}: {error}")
            return answer
        if not all(map(math.isfinite, module.losses)):
            answer.fails.append("loss: not finite")
    if module.losses and min(module.losses[-10:]) > module.losses[0] - abs(module.losses[0]) / 2:
        answer.fails.append(f"overfit: the loss went from {module.losses[0]:.4g} to {module.losses[-1]:.4g}")
    elif not module.losses:
        answer.fails.append("overfit: no step was made")
    return answer
