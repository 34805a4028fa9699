"""``diagnose.check(pipeline)``: the cheap stages in this process, for notebooks and tests.

The probes work on copies; model, buffers, gradients, optimizer, scheduler, modes, random generators and the loaders'
own generators are left as they were. Not covered: a ``train_step`` or ``compute_loss`` that reaches the model by
another way than its arguments.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diagnose.config import Config
from diagnose.context import MeasuringContext
from diagnose.creation import CreationLog
from diagnose.diagnosis import diagnose as find_causes
from diagnose.diagnosis import verdict
from diagnose.errors import UsageError
from diagnose.judging import crash_finding, run_probe
from diagnose.pipeline import Pipeline
from diagnose.plan import DEPENDS, Plan, barred, make_plan
from diagnose.rng import preserved
from diagnose.target.locate import Located
from diagnose.target.parts import flagged_parts, read_settings
from diagnose.target.source import Source, load_source
from diagnose.user_code import UserCodeError
from diagnose.watch.report import Report
from probes import catalogue
from probes.api import Stage
from probes.results import Result, Severity, StageResult, Status

STAGES = (Stage.DATA, Stage.SMOKE)
Target = Pipeline | Callable[[], Any] | str


def check(target: Target, *, stages: Sequence[str] = STAGES, seed: int = 0, **settings: Any) -> Report:
    """Check a pipeline, a function that returns one (or a model), or a target as on the command line.

    ``stages``: of data, smoke and overfit. ``settings``: fields of the configuration, such as ``ignore`` or ``task``.
    Raises UsageError for what cannot be checked as given; a failure of the pipeline's own code is a finding.
    """
    wanted = _stages(stages)
    config = Config(target=target if isinstance(target, str) else "in this program", seed=seed, **settings)
    plan = make_plan(str(wanted[-1]), config)
    with preserved():
        return _checked(target, config, plan, wanted)


def _stages(names: Sequence[str]) -> list[Stage]:
    allowed = (*DEPENDS[Stage.OVERFIT], Stage.OVERFIT)
    if unknown := [name for name in names if name not in allowed]:
        raise UsageError(f"check: stage {unknown[0]}: expected some of {', '.join(allowed)}.")
    if not names:
        raise UsageError("check: no stage was named.")
    return [stage for stage in allowed if stage in names]


def _checked(target: Target, config: Config, plan: Plan, wanted: Sequence[Stage]) -> Report:
    results: list[Result] = []
    outcomes: list[StageResult] = []
    try:
        ctx = MeasuringContext(_source(target, config), seed=config.seed, device="cpu")
    except UserCodeError as error:
        finding = crash_finding(error)
        code = catalogue.doc(finding.name).code
        results = [Result(code, finding.name, str(wanted[0]), Status.CRASHED, finding.message, (finding,))]
        return _report(results, [StageResult(str(wanted[0]), Status.CRASHED, finding.message)], wanted)
    for stage in wanted:
        started = time.monotonic()
        failed = next((o for o in outcomes if o.status is not Status.PASS), None)
        if failed is not None:
            outcomes.append(StageResult(str(stage), Status.SKIPPED, f"stage {failed.name} came to {failed.status}"))
        elif stage is not Stage.SMOKE and not ctx.source.has_data:
            outcomes.append(StageResult(str(stage), Status.SKIPPED, "no data was given"))
        else:
            found = _stage(ctx, plan, stage, results)
            results += found
            outcomes.append(_outcome(stage, found, time.monotonic() - started))
    return _report(results, outcomes, wanted)


def _stage(ctx: MeasuringContext, plan: Plan, stage: Stage, earlier: Sequence[Result]) -> list[Result]:
    found: list[Result] = []
    for name in plan.probes.get(stage, ()):
        if reason := barred(name, [*earlier, *found]):
            found.append(Result(catalogue.doc(name).code, name, str(stage), Status.SKIPPED, reason))
        else:
            found.append(run_probe(name, ctx, stage=str(stage)))
    return found


def _outcome(stage: Stage, found: Sequence[Result], seconds: float) -> StageResult:
    crashed = next((r for r in found if r.status is Status.CRASHED), None)
    error = next((r for r in found if any(f.severity is Severity.ERROR for f in r.findings)), None)
    if crashed is not None:
        return StageResult(str(stage), Status.CRASHED, crashed.reason, seconds)
    if error is not None:
        return StageResult(str(stage), Status.FAIL, error.reason, seconds)
    internal = next((r for r in found if r.status is Status.INTERNAL), None)
    if internal is not None:
        return StageResult(str(stage), Status.INCONCLUSIVE, f"{internal.name} failed inside the tool", seconds)
    return StageResult(str(stage), Status.PASS, f"{len(found)} checks", seconds)


def _report(results: list[Result], outcomes: list[StageResult], wanted: Sequence[Stage]) -> Report:
    found = find_causes(results, outcomes)
    return Report(verdict(found, results, outcomes, [str(s) for s in wanted]), found, tuple(results), tuple(outcomes))


def _source(target: Target, config: Config) -> Source:
    if isinstance(target, str):
        return load_source(config)
    if isinstance(target, Pipeline):
        build: Callable[[], Any] = _copies(target)
        module = sys.modules[__name__]
        name = "pipeline"
    elif callable(target):
        build, name = target, getattr(target, "__name__", type(target).__name__)
        module = sys.modules.get(getattr(target, "__module__", ""), sys.modules[__name__])
    else:
        raise UsageError(f"check: got {type(target).__name__}, expected a Pipeline, a function or a target's name.")
    scoped = read_settings(config)
    located = Located(module, name, build, name)
    return Source(config, located, flagged_parts(config, scoped, Path.cwd()), scoped, CreationLog())


def _copies(pipeline: Pipeline) -> Callable[[], Pipeline]:
    """A factory of copies, in which optimizer and scheduler belong to the copied model; the loaders are shared."""
    kept = [loader for loader in (pipeline.train, pipeline.val, pipeline.test) if loader is not None]

    def build() -> Pipeline:
        return copy.deepcopy(pipeline, {id(loader): loader for loader in kept})

    return build
