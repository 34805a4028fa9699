"""The whole state of a training as a checkpoint holds it, and back again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diagnose import __version__
from diagnose.redact import redact
from diagnose.training import checkpoints
from diagnose.training.generators import set_state, state_of
from diagnose.training.step import move_optimizer_state
from diagnose.user_code import user_code

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.training.batch_stream import BatchStream
    from diagnose.training.step import Engine

NAMES_TOLD = 10


class Saved:
    """Captures and restores what a training consists of: model, loss, optimizer, scheduler, scaler, generators."""

    def __init__(self, ctx: MeasuringContext, engine: Engine, streams: list[BatchStream]) -> None:
        self._ctx, self._engine, self._streams = ctx, engine, streams

    def generators(self) -> list[Any]:
        """The states of the generators of all loaders."""
        return [state_of(generator) for stream in self._streams for generator in stream.generators]

    def put_back(self, states: list[Any]) -> None:
        found = [generator for stream in self._streams for generator in stream.generators]
        for generator, state in zip(found, states, strict=False):
            set_state(generator, state)

    def capture(self, **progress: Any) -> tuple[dict[str, Any], list[str]]:
        """(the state of a checkpoint, the names of what could not go into it). ``progress``: where the training is."""
        pipeline, dropped = self._engine.pipeline, list[str]()
        with user_code("saving a checkpoint"):
            model = self._engine.model.state_dict()
            optimizer = pipeline.optimizer.state_dict() if pipeline.optimizer is not None else None
            scheduler = pipeline.scheduler.state_dict() if pipeline.scheduler is not None else None
            loss = pipeline.loss.state_dict() if isinstance(pipeline.loss, torch.nn.Module) else None
        for key, value in model.items():
            if not isinstance(value, torch.Tensor):  # what get_extra_state gives may be anything
                model[key] = checkpoints.portable(value, dropped, f"model.{key}")
        state = {
            "format": checkpoints.FORMAT,
            "seed": self._ctx.seed,
            "model": model,
            "loss": checkpoints.portable(loss, dropped, "loss"),
            "optimizer": checkpoints.portable(optimizer, dropped, "optimizer"),
            "scheduler": checkpoints.portable(scheduler, dropped, "scheduler"),
            "scaler": self._engine.scaler.state_dict(),
            "random": checkpoints.random_states(),
            "loaders": self.generators(),
            "config": redact(self._ctx.source.config.to_dict(), Path.cwd()),
            "versions": {
                "torch-diagnose": __version__,
                "torch": str(torch.__version__),  # it is a class of its own
                "python": platform.python_version(),
            },
            **progress,
        }
        return state, dropped[:NAMES_TOLD]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Fails in any way where ``state`` is that of another model, optimizer or scheduler."""
        pipeline = self._engine.pipeline
        self._engine.model.load_state_dict(state["model"])
        if isinstance(pipeline.loss, torch.nn.Module) and state.get("loss") is not None:
            pipeline.loss.load_state_dict(state["loss"])
        if pipeline.optimizer is not None and state.get("optimizer") is not None:
            pipeline.optimizer.load_state_dict(state["optimizer"])
            move_optimizer_state(pipeline.optimizer, self._engine.device)
        if pipeline.scheduler is not None and state.get("scheduler") is not None:
            pipeline.scheduler.load_state_dict(state["scheduler"])
        if state.get("scaler"):
            self._engine.scaler.load_state_dict(state["scaler"])
        checkpoints.restore_random(state["random"])
        self.put_back(state["loaders"])
