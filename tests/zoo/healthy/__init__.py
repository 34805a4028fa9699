"""Healthy look-alikes: programs that a checker of pipelines must stay silent on. See ``families`` for bare models."""

from __future__ import annotations

from zoo.cases import Case
from zoo.healthy import (
    blocks,
    feeding,
    fields,
    games,
    gradients,
    objectives,
    outputs,
    schedules,
    sequences,
    tables,
    training,
)

CASES: tuple[Case, ...] = (
    *training.CASES,
    *blocks.CASES,
    *schedules.CASES,
    *outputs.CASES,
    *feeding.CASES,
    *objectives.CASES,
    *sequences.CASES,
    *fields.CASES,
    *tables.CASES,
    *games.CASES,
    *gradients.CASES,
)
