"""What the pipeline is, for the report: sizes, names, rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnose.measure.scan import total_samples

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext


def pipeline_facts(ctx: MeasuringContext) -> dict[str, Any]:
    """The ``pipeline`` object of results.json."""
    pipeline, facts = ctx.pipeline, ctx.facts
    parameters = list(pipeline.model.parameters())
    optimizer = pipeline.optimizer
    return {
        "task": facts.task,
        "model": type(pipeline.model).__name__,
        "mode": "train" if pipeline.model.training else "eval",
        "device": str(next((p.device for p in parameters), ctx.device)),
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
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
            {"lr": float(group.get("lr", 0.0)), "weight_decay": float(group.get("weight_decay") or 0.0)}
            for group in (optimizer.param_groups if optimizer is not None else ())
        ],
        "scheduler": type(pipeline.scheduler).__name__ if pipeline.scheduler is not None else None,
        "epochs": pipeline.epochs,
        "accumulate": pipeline.accumulate,
        "clip_grad_norm": pipeline.clip_grad_norm,
        "precision": pipeline.precision,
        "provenance": ctx.source.provenance,
        "warnings": list(facts.notes),
    }
