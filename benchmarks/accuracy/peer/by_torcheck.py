"""torcheck: its registry, over steps of the training."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer.common import LOGITS, NONFINITE, RAISED, UNCHANGED, WATCHED, Answer, fresh, train, warmed_up

NAMES = {
    "^exception": RAISED,
    "should change": UNCHANGED,
    "contains": NONFINITE + " learning-rate-too-high exploding-initialisation",
    "shouldn't all": LOGITS,
    "belong to any optimizer": "parameters-missing-from-optimizer stale-optimizer-parameters",
}


def answer(build: Callable[[], Any], seed: int) -> Answer:
    from torch import Tensor, nn
    from torcheck.registry import Registry  # type: ignore[import-not-found]

    tried, engine = fresh(build, seed)
    try:
        output = engine.forward(next(iter(tried.train))).output
    except Exception:  # the user's own step calls the model in another way, or it fails again below
        output = None
    pipeline, engine = fresh(build, seed)
    registry, model = Registry(), pipeline.model
    held = {id(p) for group in pipeline.optimizer.param_groups for p in group["params"]}
    meant = bool({"partial-optimizer", "multiple-optimizers"} & set(pipeline.intents))
    frozen = not any(p.requires_grad for p in model.parameters())
    try:
        registry.register(pipeline.optimizer)
        for name, p in model.named_parameters():
            if id(p) in held or (p.requires_grad and not meant):
                registry.add_tensor(p, name, "model", p.requires_grad or frozen, check_nan=True, check_inf=True)
        if isinstance(output, Tensor):
            logits = isinstance(pipeline.loss, (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss))
            registry._add_output_check(model, "model", (0, 1) if logits else None, logits, True, True)
        warmed_up(pipeline.optimizer, always=False)
        train(pipeline, engine, WATCHED)
    except Exception as error:
        cause = getattr(error, "original", error)
        frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(cause.__traceback__)]
        told = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, RuntimeError) and "torcheck" in Path(frames[-1]).parts:
            return Answer(fails=[told])
        return Answer(raised=[f"exception: {told}"])
    return Answer()
