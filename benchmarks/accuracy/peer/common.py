"""What every adapter starts from: the pipeline as its user trains it, and what a tool may say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

WATCHED = 30  # steps of training for the tools that watch a loop

# The catalogue's names that a message of some kind says, read with good will.
NONFINITE = "nonfinite-inputs nonfinite-activations nonfinite-loss nonfinite-gradient unstable-log exploding-gradient"
UNCHANGED = (
    "parameters-not-updated gradients-cleared-before-step zero-learning-rate graph-cut unused-parameters dead-relu "
    "zero-gradient vanishing-gradient bf16-update-lost everything-frozen adam-epsilon-out-of-range loss-detached"
)
RAISED = (  # what the text of an error of PyTorch or of the user's code tells
    "forward-shape-mismatch input-dtype-mismatch channels-last-input label-dtype-mismatch labels-out-of-range "
    "num-classes-mismatch output-shape-mismatch unreadable-sample empty-loader loss-not-scalar loss-detached graph-cut "
    "everything-frozen batchnorm-on-single-sample target-outside-loss-domain wrong-loss-axis"
)
LOGITS = "softmax-before-cross-entropy activation-on-logits nll-on-probabilities bce-on-probabilities"


@dataclass
class Answer:
    """``fails``, ``warnings``: "check: message". ``raised``: what is an error inside a check, of whomever's code."""

    fails: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    crashed: str = ""


def fresh(build: Callable[[], Any], seed: int) -> tuple[Any, Any]:
    """The pipeline, with the parts that nobody gave, and the engine that runs its steps as it says."""
    import torch

    from diagnose.rng import seed_all
    from diagnose.target import defaults
    from diagnose.training.step import Engine

    seed_all(seed)
    pipeline, choices = build(), defaults.Choices()
    defaults.choose_task(pipeline, choices)
    defaults.choose_loss(pipeline, choices)
    defaults.choose_optimizer(pipeline, choices, {})
    pipeline.model.train()
    engine = Engine(pipeline, torch.device("cpu"))
    engine.close()
    return pipeline, engine


def train(pipeline: Any, engine: Any, steps: int) -> None:
    """``steps`` steps of the pipeline's own training."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    scheduler, done = pipeline.scheduler, 0
    while done < steps:
        before, loss = done, None
        for raw in pipeline.train:
            loss, done = engine.step(raw).loss, done + 1
            if scheduler is not None and pipeline.scheduler_interval == "step":
                scheduler.step()
            if done == steps:
                return
        if done == before:
            raise ValueError("the training loader yields no batch")
        engine.finish_update()
        if scheduler is not None and pipeline.scheduler_interval == "epoch":
            scheduler.step(*([loss] if isinstance(scheduler, ReduceLROnPlateau) else []))


def control(build: Callable[[], Any], seed: int) -> str:
    """The error that a plain training and validation loop meets, if any."""
    import torch

    try:
        pipeline, engine = fresh(build, seed)
        train(pipeline, engine, WATCHED)
        pipeline.model.eval()
        with torch.no_grad():
            for raw in pipeline.val if pipeline.val is not None and engine.has_loss else ():
                engine.loss(raw)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def warmed_up(optimizer: Any, *, always: bool) -> None:
    """The rate that a schedule starts from, where a user would otherwise be told that nothing moves in a warm-up."""
    for group in optimizer.param_groups if optimizer is not None else ():
        if always or group["lr"] == 0:
            group["lr"] = group.get("initial_lr", group["lr"])
