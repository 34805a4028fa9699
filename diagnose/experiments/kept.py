"""Finished trials, kept in the run folder, so that an experiment that was interrupted goes on where it stopped.

A kept trial counts only for the very pipeline that it was made of: the same code, data, weights and settings.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

import diagnose
from diagnose.batches import map_tensors
from diagnose.user_code import loaded_user_files
from probes.records.trials import Point, Trace
from probes.results import to_json

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

OnStep = Callable[[str, int, int, int, float], None]  # label, seed, steps done, of how many, the last loss
Keep = Callable[[str, Mapping[str, Any]], None]


class KeptTrials:
    """``earlier``: key -> trace as JSON data, of an earlier part of this run; ``keep(key, trace)`` is told new ones.
    ``folder``: where trials that are under way are kept (see ``pieces``); None: nowhere. ``on_step`` is told from time
    to time how far they are."""

    def __init__(self, earlier: Mapping[str, Mapping[str, Any]], keep: Keep, folder: Path | None = None) -> None:
        self._earlier, self._keep = dict(earlier), keep
        self.folder = folder
        self.on_step: OnStep | None = None

    def place(self, key: str) -> Path | None:
        """The file of a trial that is under way."""
        return None if self.folder is None else self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.pt"

    def once(self, key: str, train: Callable[[], Trace]) -> Trace:
        if key in self._earlier:
            return from_json(self._earlier[key])
        trace = train()
        self._earlier[key] = to_json(trace)
        self._keep(key, self._earlier[key])
        return trace

    def has(self, key: str) -> bool:
        return key in self._earlier

    def add(self, key: str, trace: Mapping[str, Any]) -> None:
        """One that another process has made, and kept."""
        self._earlier[key] = trace


def from_json(data: Mapping[str, Any]) -> Trace:
    """A trace as ``to_json`` left it; where JSON could not hold a loss, it is not a number again."""
    again = data.get("reestimated")
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    fields["losses"] = tuple(_number(loss) for loss in data["losses"])
    fields["points"] = tuple(_point(point) for point in data["points"])
    fields["reestimated"] = None if again is None else _point(again)
    return Trace(**fields)


def _point(data: Mapping[str, Any]) -> Point:
    return Point(**{**data, "train_loss": _number(data["train_loss"])})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def fingerprint(ctx: MeasuringContext) -> str:
    """Of everything that decides how a trial goes, but for the change, the seed and the steps."""
    pipeline = ctx.pipeline
    threads = 1 if ctx.processes > 1 else torch.get_num_threads()  # see ``side_by_side``
    told = hashlib.sha256(f"{diagnose.__version__} {torch.__version__} {threads}".encode())
    for name, value in pipeline.model.state_dict().items():
        known = isinstance(value, torch.Tensor) and not is_lazy(value)
        told.update(f"{name} {_digest(value) if known else repr(value)}".encode())
    written = f"{pipeline.model!r} {pipeline.loss!r} {pipeline.accumulate}"  # p of dropout, momentum and their like
    told.update(re.sub(r" at 0x[0-9a-f]+", "", written).encode())
    told.update(repr([(call.function, call.options) for call in ctx.attempt().loss_calls]).encode())
    for raw in (*ctx.raws()[:1], *ctx.trainings.on_subset()[1].look_train):
        map_tensors(raw, lambda value: told.update(_digest(value).encode()))
    groups = pipeline.optimizer.param_groups if pipeline.optimizer is not None else []
    told.update(repr([sorted((k, repr(v)) for k, v in g.items() if k != "params") for g in groups]).encode())
    told.update(f"{type(pipeline.optimizer)} {pipeline.clip_grad_norm} {pipeline.precision} {ctx.fraction}".encode())
    told.update(f"{ctx.seed} {ctx.device} {tuple(ctx.learning_rates())}".encode())
    for path in loaded_user_files():
        told.update(path.read_bytes())
    return told.hexdigest()[:16]


def _digest(value: torch.Tensor) -> str:
    flat = value.detach().double().flatten()
    sums = f"{float(flat.sum()):.12g} {float(flat.abs().sum()):.12g}" if flat.numel() else ""
    return f"{tuple(value.shape)} {sums}"
