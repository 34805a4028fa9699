"""An activation after the last layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.class_scores import SUM_TOLERANCE, are_probabilities, calls, rows
from probes.measurements import placed
from probes.results import Grade, Number

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context
    from probes.records.forward import LossCall

DOC = ProbeDoc(
    code="MOD205",
    name="activation-on-logits",
    stage=Stage.SMOKE,
    summary="An activation function limits the logits before they reach the loss.",
    why="The loss needs logits of any sign and size. Behind a ReLU a class whose logit is 0 gets no gradient at all; "
    "behind a sigmoid or tanh the loss cannot get near 0; nor behind a softmax, where a sample has several labels.",
    fix="Remove the activation after the last layer.",
    consequences=(
        "zero-gradient", "dead-relu", "initial-loss-off", "slow-to-learn", "cannot-overfit", "stuck-at-chance",
        "fails-on-reference-data", "predicts-one-class", "plateau",
    ),
    before="return F.relu(self.head(x))",
    after="return self.head(x)",
    references=("torch.nn.CrossEntropyLoss documentation: input is expected to contain unnormalised logits",),
)  # fmt: skip
LIMITS = {  # function -> the range of its values
    "relu": (0.0, float("inf")),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, float("inf")),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
}
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
DISTANCES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
MISSED = 0.1  # share of the targets that an activation cannot reach
SLACK = 0.5  # standard deviations of the targets, by which noise may carry them out of the range that is meant
SEVERAL = 0.05  # of the samples
SIGMOIDS = ("sigmoid", "hardsigmoid")


def run(ctx: Context) -> Findings:
    found = calls(ctx, "cross_entropy", *BINARY, *DISTANCES)
    for call in found:
        several = _several(call) if call.function in BINARY else 0.0
        if several > SEVERAL:
            yield DOC.finding(
                "the scores that reach {function} sum to 1 over {labels} labels, as softmax makes them, and "
                "{several:.0%} of the samples carry more than one label",
                function=call.function,
                labels=call.input.shape[1],
                several=several,
                where=(placed(ctx, call.origin) if call.origin is not None else ()) or call.where,
            )
            return ""
        origin = call.origin if call.function != "binary_cross_entropy" else None
        if origin is None or origin.function not in LIMITS or not _within(call.input, *LIMITS[origin.function]):
            continue
        if call.function in DISTANCES:
            is_task = ctx.facts.task == "regression" and _is_of_the_batch(ctx, call)
            if is_task and (missed := _out_of_reach(call, *LIMITS[origin.function])) > MISSED:
                yield DOC.finding(
                    "the outputs that reach {function} come straight out of {activation}, and {missed:.0%} of the "
                    "targets, which go from {low:.3g} to {high:.3g}, lie where it does not reach",
                    function=call.function,
                    activation=origin.function,
                    missed=missed,
                    low=float(call.target.min()),
                    high=float(call.target.max()),
                    grade=str(Grade.SUPPORTED),
                    where=placed(ctx, origin) or call.where,
                )
                return ""
            continue
        if call.function != "cross_entropy" and origin.function in SIGMOIDS:
            return "a sigmoid before a loss with its own: see bce-on-probabilities"
        table = rows(call.input)
        yield DOC.finding(
            "the scores that reach {function} come straight out of {activation}: they lie in [{low:.3g}, {high:.3g}]",
            function=call.function,
            activation=origin.function,
            low=float(table.min()),
            high=float(table.max()),
            where=placed(ctx, origin) or call.where,
            evidence=(Number("share of scores that are exactly 0", float((table == 0).float().mean()), "0"),),
        )
        return ""
    scores = found[0].input
    if all(call.function == "binary_cross_entropy" for call in found):
        return f"scores from {float(scores.min()):.3g} to {float(scores.max()):.3g}, as this loss takes them"
    return f"scores from {float(scores.min()):.3g} to {float(scores.max()):.3g}, no activation behind the last layer"


def _out_of_reach(call: LossCall, low: float, high: float) -> float:
    """The share of the targets that lie clearly outside of a range; 0 where all of these are one value, as that which
    stands for a missing label."""
    target = call.target.float()
    slack = SLACK * float(target.std()) if target.numel() > 1 else 0.0
    missed = (target < low - slack) | (target > high + slack)
    return float(missed.float().mean()) if len(set(target[missed].tolist())) > 1 else 0.0


def _is_of_the_batch(ctx: Context, call: LossCall) -> bool:
    """Whether the loss compares the output with the target of the batch, and not parts inside of the model."""
    import torch

    output, target = ctx.attempt().output, ctx.attempt().target
    if output is None or not isinstance(target, torch.Tensor) or call.input.numel() != output.numel():
        return False
    return call.target.numel() == target.numel() and bool((call.target.flatten() == target.flatten()).all())


def _several(call: LossCall) -> float:
    """Of samples whose scores are one distribution over the labels, the share that has several of these."""
    if call.input.ndim != 2 or call.target.shape != call.input.shape or not are_probabilities(call.input):
        return 0.0
    return float((call.target.float().sum(1) > 1 + SUM_TOLERANCE).float().mean())


def _within(scores: Tensor, low: float, high: float) -> bool:
    return bool(((scores >= low) & (scores <= high)).all())
