"""torch-audit: its auditor, over steps of the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peer.common import NONFINITE, RAISED, WATCHED, Answer, fresh, train

NAMES = {
    "^exception": RAISED,
    "^TA100": NONFINITE + " learning-rate-too-high exploding-initialisation",
    "^TA102": "exploding-gradient exploding-initialisation learning-rate-too-high gradients-not-cleared "
    "loss-summed unscaled-regression-target",
    "^TA104": "loss-detached graph-cut everything-frozen gradients-cleared-before-step parameters-not-updated",
    "^TA105": "dead-relu vanishing-initialisation saturated-activations",
    "^TA301": "inputs-not-normalised wrong-normalisation-statistics features-on-wild-scales",
    "^TA302": "constant-inputs repeated-samples",
    "^TA303": "channels-last-input",
    "^TA304": "batch-size-extreme batchnorm-on-single-sample batchnorm-statistics-lag",
    "^TA405": "vanishing-initialisation symmetric-initialisation",
    "^TA500": "unused-parameters ignored-input",
}


def answer(build: Callable[[], Any], seed: int) -> Answer:
    from torch_audit import autopatch  # type: ignore[import-not-found]

    pipeline, engine = fresh(build, seed)
    auditor = autopatch(pipeline.model, optimizer=pipeline.optimizer, every_n_steps=1)
    answer = Answer()
    try:
        train(pipeline, engine, WATCHED)
    except Exception as error:
        answer.raised.append(f"exception: {type(error).__name__}: {error}")
    for f in auditor.finish().findings:
        told = f"{f.rule_id}: {f.message}"
        if f.rule_id == "TA000":
            answer.crashed = told
        elif f.severity.value != "INFO":
            (answer.warnings if f.severity.value == "WARN" else answer.fails).append(told)
    return answer
