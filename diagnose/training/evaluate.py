"""What a trained model gets right and wrong on one split."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diagnose.errors import UsageError
from diagnose.rng import loader_untouched, preserved, seed_all
from diagnose.store import write_atomically
from diagnose.training import checkpoints
from diagnose.training.batch_stream import PASS_BATCHES, BatchStream
from diagnose.training.binary_scores import BinaryScores, is_yes_or_no
from diagnose.training.journal import Journal
from diagnose.training.meter import Meter, aligned, run_pass
from diagnose.training.metrics import decision_threshold
from diagnose.training.pictures import write_evaluation_pictures
from diagnose.training.progress import throttled
from diagnose.training.scores import ClassScores, Scores, scores_for
from diagnose.training.step import Engine
from diagnose.training.task_pictures import write_task_picture
from diagnose.training.validation import with_validation
from diagnose.training.weights import load_exactly
from probes.api import Inconclusive, Skip
from reports.stage_facts import UNTRAINED

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline

SPLITS = ("val", "test", "train")


def evaluate(
    ctx: MeasuringContext, folder: Path, *, checkpoint: str | None = None, split: str = "val"
) -> dict[str, Any]:
    """The ``evaluation`` object of results.json; writes predictions.csv and pictures into ``folder``.

    ``checkpoint``: a path, or the name of one of the run's; by default the run's best, else its latest, else the
    model as built. Raises UsageError where the split or the checkpoint cannot be used.
    """
    ctx.source.require_data("evaluate")
    with preserved():
        pipeline = ctx.fresh(ctx.seed)
        loader = _loader(ctx, pipeline, split)
        name = _load(ctx, pipeline, folder, checkpoint)
        ignored = ctx.trainings.ignore_index()
        shifted = ctx.trainings.shifts_targets()
        meter = Meter(pipeline, ctx.facts.task, ignored, shifted=shifted)
        scores = _scores(ctx, ignored)
        seed_all(ctx.seed)
        with loader_untouched(loader):
            _run(ctx, pipeline, loader, meter, scores, shifted=shifted)
    if not meter.samples:
        raise Skip(f"the {split} loader is empty")
    found = meter.figures() | ({} if scores is None else scores.result())
    found |= {"split": split, "samples": meter.samples, "checkpoint": name}
    if scores is not None:
        _write_predictions(folder, scores)
    if "confusion_matrix" in found:
        journal = Journal(folder, 0, run="evaluation")
        journal.matrix("confusion_matrix", found["confusion_matrix"], 0)
        journal.close()
    if isinstance(scores, ClassScores):
        write_evaluation_pictures(scores, folder)
    elif scores is not None:
        write_task_picture(scores, folder)
    return {key: _plain(value) for key, value in found.items()}


def _scores(ctx: MeasuringContext, ignore_index: int) -> Scores | None:
    task, names, first = ctx.facts.task, ctx.facts.class_names, ctx.attempt()
    is_binary = task in {"classification", "multilabel"} and is_yes_or_no(first.output, first.target)
    if is_binary and first.output is not None:
        functions = {call.function for call in first.loss_calls}
        known = functions & {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
        are_shares = "binary_cross_entropy" in known if known else decision_threshold(first.output) > 0
        return BinaryScores(names, ignore_index, are_shares=are_shares)
    return scores_for(task, ctx.facts.num_classes, names, ignore_index)


def _loader(ctx: MeasuringContext, pipeline: Pipeline, split: str) -> Any:
    if split not in SPLITS:
        raise UsageError(f"--split: got {split!r}, expected {', '.join(SPLITS)}.")
    note = "" if split == "test" else with_validation(pipeline, ctx.seed)
    if note and note not in ctx.notes:
        ctx.notes.append(note)
    loader = getattr(pipeline, split)
    if loader is None:
        there = [name for name in SPLITS if getattr(pipeline, name) is not None]
        raise UsageError(
            f"--split {split}: the pipeline has no such split, it has {', '.join(there)}. Let the data function "
            "return it, or choose another with --split."
        )
    return loader


def _load(ctx: MeasuringContext, pipeline: Pipeline, folder: Path, checkpoint: str | None) -> str:
    """Load the weights; the checkpoint's name, relative to the run folder or the project where it lies in one."""
    own = folder / checkpoints.FOLDER
    if checkpoint is not None:
        given = Path(checkpoint).expanduser()
        inside = own / checkpoint
        path = inside if inside.is_file() and not given.is_file() else given
        load_exactly(pipeline.model, path)
        return _relative(path, folder)
    for name in (checkpoints.BEST, checkpoints.LATEST):
        path = own / name
        if not path.is_file():
            continue
        try:
            checkpoints.read(path)
        except checkpoints.Unreadable as problem:
            ctx.notes.append(f"{name} cannot be read ({problem}), so it was not evaluated.")
            continue
        load_exactly(pipeline.model, path)
        return _relative(path, folder)
    ctx.notes.append("There is no checkpoint: the model was evaluated as built, untrained.")
    return UNTRAINED


def _relative(path: Path, folder: Path) -> str:
    path = path.resolve()
    for root in (folder.resolve(), Path.cwd()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


def _run(
    ctx: MeasuringContext, pipeline: Pipeline, loader: Any, meter: Meter, scores: Scores | None, *, shifted: bool
) -> None:
    engine = Engine(pipeline, ctx.device)
    stream = BatchStream(loader, "evaluation", PASS_BATCHES, ctx.notes.append)
    report = throttled(ctx.progress)
    pipeline.model.eval()
    try:
        with torch.no_grad():
            for index, raw in enumerate(stream.epoch()):
                if ctx.deadline is not None and time.monotonic() > ctx.deadline:
                    raise Inconclusive(f"the time budget ended after {index} batches of the evaluation")
                done = run_pass(engine, raw)
                meter.add(done)
                main = done.main
                if scores is not None and main is not None:
                    main = main.float() if main.is_floating_point() else main
                    pair = aligned(main, done.batch.target, ctx.facts.task, shifted=shifted)
                    scores.add(*pair, done.batch.inputs)
                report("evaluating", index + 1, stream.most)
    finally:
        engine.close()


def _write_predictions(folder: Path, scores: Scores) -> None:
    import pandas as pd

    columns: Mapping[str, list[Any]] = scores.predictions()
    if not columns:
        return
    table = pd.DataFrame(columns)
    table.insert(0, "index", range(len(table)))
    folder.mkdir(parents=True, exist_ok=True)
    text: str = table.to_csv(index=False, lineterminator="\n")
    write_atomically(folder / "predictions.csv", text.encode("utf-8", "backslashreplace"))


def _plain(value: Any) -> Any:
    """Numbers that JSON cannot hold are None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
