"""The first loss is far above that of a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE, calls, has_tied_head, mean_loss
from probes.results import Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import LossCall

DOC = ProbeDoc(
    code="LOS404",
    name="initial-loss-off",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    symptom=True,
    summary="The loss starts far above that of a model that knows nothing.",
    why="A new model should be unsure: ln C for C classes, ln 2 for a yes or no. A higher loss means that it is "
    "certain of "
    "wrong answers, and the first steps go into unlearning them.",
    fix="Check the scale of the inputs and of the last layer's weights.",
    consequences=("slow-to-learn",),
    references=("Karpathy, A Recipe for Training Neural Networks: verify loss at init",),
)
FACTOR = 2.0  # times the loss of a guess; default layers start within a few per cent of it
MARGIN = 1.5  # nats above it, at least: for few classes twice a small number is still small
# A head that is a little too large on features of ordinary size corrects itself in a few steps; torchvision's mnasnet
# starts so (spread 8.1 to 9.8 for 10 classes, over five seeds). A head that does harm has names of its own.
HEAD_SPREAD = 12.0  # of the scores
HEAD_INPUT = 2.0  # standard deviation, between samples, of what the last layer gets


def run(ctx: Context) -> Findings:
    import math

    import torch

    known = calls(ctx, *PICKS_ONE, "binary_cross_entropy_with_logits")
    if "pretrained" in ctx.facts.intents:
        raise Skip("the model is pretrained: it may start anywhere")
    if has_tied_head(ctx):
        raise Skip("the head shares its weights with an embedding, and starts with its scale")
    seen = []
    for call in known:
        loss, classes = mean_loss(call, weighted=False), _classes(call)
        if loss is None or classes < 2:
            continue
        expected = math.log(classes)
        seen.append(f"loss {loss:.2f} at the start, ln {classes} = {expected:.2f}")
        if loss > max(FACTOR * expected, expected + MARGIN):
            inputs = [x for x in ctx.attempt().inputs if isinstance(x, torch.Tensor) and x.is_floating_point()]
            scale = f"; the inputs reach {float(inputs[0].abs().max()):.3g}" if inputs else ""
            spread = float(call.input.float().std()) if call.input.numel() > 1 else 0.0
            layers = ctx.inspection().layers
            harmless = spread < HEAD_SPREAD and bool(layers) and layers[-1].input_std < HEAD_INPUT
            yield DOC.finding(
                "the loss starts at {loss:.2f}, a guess has ln {classes} = {expected:.2f}: the scores are spread by "
                "{spread:.3g}{scale}",
                loss=loss,
                classes=classes,
                expected=expected,
                spread=spread,
                scale=scale,
                where=call.where,
                evidence=(Number("initial loss", loss, f"about {expected:.2f}"),),
                severity=Severity.NOTE if harmless else None,
            )
            return ""
    if not seen:
        raise Skip("the loss of the first batch is not known per sample")
    return seen[0]


def _classes(call: LossCall) -> int:
    if call.function.startswith("binary"):
        return 2
    return int(call.input.shape[1 if call.input.ndim > 1 else 0])
