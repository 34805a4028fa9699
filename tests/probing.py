"""Runs one probe on a pipeline made in a test: ``judge("softmax-before-cross-entropy", build).names``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnose.config import Config
from diagnose.context import MeasuringContext
from diagnose.creation import CreationLog
from diagnose.judging import run_probe
from diagnose.target.locate import Located
from diagnose.target.parts import flagged_parts, read_settings
from diagnose.target.source import Source
from probes.results import Finding, Result, Status


@dataclass(frozen=True)
class Judged:
    """What the probe came to. ``values`` are those of its first finding."""

    result: Result

    @property
    def status(self) -> Status:
        return self.result.status

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self.result.findings)

    @property
    def names(self) -> list[str]:
        return [finding.name for finding in self.result.findings]

    @property
    def values(self) -> Any:
        return self.result.findings[0].values if self.result.findings else {}


def context(
    build: Callable[[], Any], seed: int = 0, *, trials: Any = None, keep: Any = lambda key, trace: None, **config: Any
) -> MeasuringContext:
    """A context over a factory defined in a test; ``config`` are fields of diagnose.config.Config, for ``trials`` and
    ``keep`` see KeptTrials."""
    from pathlib import Path

    settings = Config(target="tests:build", seed=seed, **config)
    made = build.func if isinstance(build, partial) else build
    located = Located(sys.modules[made.__module__], made.__name__, build, f"{made.__name__} of the test")
    scoped = read_settings(settings)
    source = Source(settings, located, flagged_parts(settings, scoped, Path.cwd()), scoped, CreationLog())
    fraction = config.get("fraction")
    return MeasuringContext(source, seed=seed, device="cpu", fraction=fraction, trials=trials, keep=keep)


def judge(name: str, build: Callable[[], Any], seed: int = 0, **config: Any) -> Judged:
    return Judged(run_probe(name, context(build, seed, **config)))
