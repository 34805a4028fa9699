"""Class numbers taken for quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import ran
from probes.results import Severity

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context
    from probes.records.forward import LossCall

DOC = ProbeDoc(
    code="LOS408",
    name="mse-for-classification",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="Class labels are compared by a distance, as if they were quantities.",
    why="A distance takes class 3 for nearer to 4 than to 9, and gives small gradients where the model is surely "
    "wrong.",
    fix="Use CrossEntropyLoss with one output per class, and integer labels.",
    consequences=("target-broadcast", "unscaled-regression-target", "slow-to-learn", "below-expected-curve"),
    before="F.mse_loss(model(x).squeeze(1), y.float())",
    after="F.cross_entropy(model(x), y)",
)
DISTANCES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
MIN_CLASSES = 2


def run(ctx: Context) -> Findings:
    import torch

    attempt = ran(ctx)
    labels = attempt.target
    if not isinstance(labels, torch.Tensor) or labels.is_complex():
        raise Skip("the targets are not numbers")
    binary = labels.is_floating_point() and _answers_yes_or_no(ctx)
    if labels.is_floating_point() and not binary:
        raise Skip("the targets are not integers")
    classes = ctx.facts.num_classes
    declared = binary or (classes or 0) >= MIN_CLASSES or ctx.facts.task == "classification"
    for call in attempt.loss_calls:
        how = _how(call, labels) if call.function in DISTANCES else ""
        if how and (declared or how == "one-hot labels"):
            yield DOC.finding(
                "{function} compares outputs of shape {shape} with {how}",
                function=call.function,
                shape=str(tuple(call.input.shape)),
                how=how,
                classes=classes,
                where=call.where,
            )
            return ""
    return "no distance is taken to class labels"


def _answers_yes_or_no(ctx: Context) -> bool:
    """Whether all targets are one real 0 or 1 per sample, and nobody calls that a quantity."""
    if ctx.facts.task not in {"classification", "multilabel"} and ctx.facts.task_stated:
        return False
    try:
        return set(ctx.scan("train").labels) == {0, 1}
    except Skip:
        return False


def _how(call: LossCall, labels: Tensor) -> str:
    """What the labels were made into, if the call's target is made of them."""
    import torch

    target = call.target
    if target.numel() == labels.numel() and torch.equal(target.reshape(-1).double(), labels.reshape(-1).double()):
        return "class numbers"
    one_hot = target.ndim == labels.ndim + 1 and bool(((target == 0) | (target == 1)).all())
    if one_hot and target.shape[0] == labels.shape[0] and torch.equal(target.argmax(-1), labels):
        return "one-hot labels"
    return ""
