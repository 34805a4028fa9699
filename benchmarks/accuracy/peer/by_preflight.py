"""preflight-ml: its checks over both loaders, the model and the loss."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from peer.common import RAISED, Answer, fresh

NAMES = {
    "^exception|failed|Could not": RAISED,
    "^nan_inf": "nonfinite-inputs",
    "^normalisation": "inputs-not-normalised wrong-normalisation-statistics features-on-wild-scales "
    "constant-inputs inputs-normalised-twice unscaled-regression-target",
    "^channel_ordering": "channels-last-input",
    "^label_leakage": "train-val-leakage",
    "^class_imbalance": "class-imbalance missing-classes",
    "^gradient_check.*(no gradient|zero)": "graph-cut unused-parameters dead-relu zero-gradient ignored-input",
    "^gradient_check.*exploding": "exploding-gradient exploding-initialisation inputs-not-normalised "
    "features-on-wild-scales unscaled-regression-target loss-summed",
}


def answer(build: Callable[[], Any], seed: int) -> Answer:
    from preflight.runner import run_checks  # type: ignore[import-not-found]

    pipeline, _ = fresh(build, seed)
    loss = pipeline.loss if pipeline.compute_loss is None else None
    results = run_checks(pipeline.train, pipeline.model, loss, {"val_dataloader": pipeline.val})
    told = Answer()
    for r in results:
        if not r.passed and r.severity.value != "info":
            own = re.search("^Could not|pass failed|unexpected error", r.message)
            into = told.raised if own else told.fails if r.severity.value == "fatal" else told.warnings
            into.append(f"{r.name}: {r.message}")
    return told
