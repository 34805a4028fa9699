"""What the pipeline is: for probes (task, splits, intents) and for the report (sizes, names, rates)."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from diagnose.experiments.dropout import DROPOUTS
from diagnose.measure.scan import total_samples
from diagnose.pipeline import Unstated
from diagnose.training.metrics import yardsticks
from diagnose.user_code import loaded_user_files, relative_name
from probes.measurements import Facts

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline
    from diagnose.target.source import Source
    from probes.records.trials import Trace

SETTINGS = ("momentum", "nesterov", "betas", "eps", "alpha", "amsgrad", "dampening")  # of a parameter group
LONGEST = 500  # characters of what a transform says of itself


def known_facts(pipeline: Pipeline, source: Source, device: str, notes: Sequence[str]) -> Facts:
    """What probes may know without measuring. ``notes``: what was done otherwise than asked, besides the source's."""
    splits = [name for name in ("train", "val", "test") if getattr(pipeline, name) is not None]
    loss = pipeline.compute_loss or pipeline.loss
    return Facts(
        task=pipeline.task or "custom",
        num_classes=pipeline.num_classes,
        class_names=tuple(pipeline.class_names or ()),
        intents=frozenset(pipeline.intents),
        has_data=source.has_data,
        epochs=pipeline.epochs,
        epochs_stated=not isinstance(pipeline.epochs, Unstated),
        task_stated=source.provenance.get("task") != "default",
        device=device,
        loss_name=getattr(loss, "__name__", type(loss).__name__),
        splits=tuple(splits if source.has_data else ()),
        notes=(*source.notes, *notes),
        custom_step=pipeline.train_step is not None,
    )


def pipeline_facts(ctx: MeasuringContext) -> dict[str, Any]:
    """The ``pipeline`` object of results.json."""
    pipeline, facts = ctx.pipeline, ctx.known
    parameters = list(pipeline.model.parameters())
    optimizer = pipeline.optimizer
    return {
        "task": facts.task,
        "model": type(pipeline.model).__name__,
        "mode": "train" if pipeline.model.training else "eval",
        "device": str(next((p.device for p in parameters), ctx.device)),
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "modules": dict(Counter(type(m).__name__ for m in pipeline.model.modules() if not list(m.children()))),
        "dropout": sorted({float(m.p) for m in pipeline.model.modules() if isinstance(m, DROPOUTS) and m.p}),
        "num_classes": facts.num_classes,
        "class_names": list(facts.class_names)[:1000],
        "batch_size": getattr(pipeline.train, "batch_size", None),
        "workers": getattr(pipeline.train, "num_workers", 0),
        "train_samples": total_samples(pipeline.train) if ctx.source.has_data else 0,
        "val_samples": total_samples(pipeline.val) if pipeline.val is not None else 0,
        "test_samples": total_samples(pipeline.test) if pipeline.test is not None else 0,
        "loss": facts.loss_name,
        "optimizer": type(optimizer).__name__ if optimizer is not None else None,
        "param_groups": [
            {
                "lr": float(group.get("lr", 0.0)),
                "weight_decay": float(group.get("weight_decay") or 0.0),
                **{key: value for key, value in group.items() if key in SETTINGS and value not in (None, False)},
            }
            for group in (optimizer.param_groups if optimizer is not None else ())
        ],
        "scheduler": type(pipeline.scheduler).__name__ if pipeline.scheduler is not None else None,
        "epochs": pipeline.epochs,
        "accumulate": pipeline.accumulate,
        "clip_grad_norm": pipeline.clip_grad_norm,
        "precision": pipeline.precision,
        "transforms": {name: text for name in facts.splits if (text := _transforms(getattr(pipeline, name)))},
        "files": {relative_name(path): _digest(path.read_bytes()) for path in loaded_user_files()},
        "provenance": ctx.source.provenance,
        "warnings": list(facts.notes),
    }


def guess_facts(ctx: MeasuringContext) -> dict[str, Any]:
    """``chance``: the accuracy of always naming the most frequent class of the samples that the accuracy is of, those
    of validation where there are any; ``guess_loss``: the lowest loss that does not look at the inputs. Empty where the
    task has no such figure. Joined to the ``pipeline`` object of results.json."""
    import torch

    task, calls = ctx.facts.task, ctx.attempt().loss_calls
    if task not in {"classification", "multilabel"} or len(calls) != 1:
        return {}
    scan = ctx.scan("val" if "val" in ctx.facts.splits else "train")
    labels = torch.tensor(scan.labels)
    if not len(labels) or (task == "multilabel" and len(labels) != scan.seen):  # several labels have a chance each
        return {}
    labels = labels if task == "classification" else labels.float()
    options = {**calls[0].options, "reduction": "mean"}
    found = yardsticks(labels, task, calls[0].function, options, ctx.facts.num_classes, 1)
    is_mean = calls[0].options.get("reduction", "mean") == "mean"
    told = {"chance": found.chance, "guess_loss": found.constant if is_mean else None}
    return {key: value for key, value in told.items() if value is not None}


def _transforms(loader: Any) -> str:
    """What a data set, also below a ``Subset``, says of its ``transform``, on one line."""
    dataset = getattr(loader, "dataset", None)
    while dataset is not None and getattr(dataset, "transform", None) is None:
        dataset = getattr(dataset, "dataset", None)
    if dataset is None:
        return ""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(dataset.transform).split()))[:LONGEST]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def short_history(trace: Trace) -> Iterator[dict[str, Any]]:
    """Rows of ``training.history`` from a short training; epochs are passes over the part of the data it used."""
    before = None
    for point in trace.points[1:]:
        epoch = point.step / trace.steps_per_epoch if trace.steps_per_epoch else point.step
        seconds = point.seconds - (before.seconds if before else 0.0)
        per_step = (trace.trained_on or 0) / (trace.steps_per_epoch or 1)
        steps = point.step - (before.step if before else 0)
        yield {
            "epoch": int(epoch) if epoch == int(epoch) else round(epoch, 2),
            "step": point.step,
            "lr": point.lr,
            "train_loss": point.train_loss,
            "val_loss": point.val_loss,
            "train_accuracy": point.train_score,
            "val_accuracy": point.val_score,
            "seconds": seconds,
            "samples_per_second": steps * per_step / seconds if seconds and per_step else None,
        }
        before = point
