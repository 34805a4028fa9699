"""The output does not have the shape that the loss and the targets need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE
from probes.data._labels import scores_one_class
from probes.loss.wrong_loss_axis import swapped_call
from probes.model.batch_mixing import swapped_axes

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD201",
    name="output-shape-mismatch",
    stage=Stage.SMOKE,
    summary="The shape of the model's output does not fit the targets or the loss.",
    why="The loss fails, or is constant: cross-entropy over a single output is exactly 0, whatever the model computes.",
    fix="Give the last layer one output per class; for a single output use BCEWithLogitsLoss or MSELoss.",
    consequences=("zero-gradient", "initial-loss-off", "cannot-overfit", "stuck-at-chance", "fails-on-reference-data"),
    before="self.head = nn.Linear(256, 1)      # with nn.CrossEntropyLoss",
    after="self.head = nn.Linear(256, num_classes)",
    references=("torch.nn.CrossEntropyLoss documentation: input of shape (N, C) or (N, C, d1, ...)",),
)

DISTANCES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


def run(ctx: Context) -> Findings:
    attempt = ctx.attempt()
    single = next((c for c in attempt.loss_calls if c.function in PICKS_ONE and scores_one_class(c)), None)
    if single is not None and attempt.failure is not None:
        head = attempt.head
        yield DOC.finding(
            "{function} is given scores of shape {shape}, one for each sample, which leaves no class but 0 to tell; "
            "the targets go up to {last}",
            function=single.function,
            shape=str(tuple(single.input.shape)),
            last=int(single.target.max()),
            where=(ctx.created_at(head.path) if head else ()) or single.where,
        )
        return ""
    if attempt.failure is not None:
        if attempt.failure.name != DOC.name:
            raise Skip(f"{attempt.failure.phase} raised {attempt.failure.type}")
        if swapped_call(attempt) is not None:
            return "the classes are on the wrong axis: see wrong-loss-axis"
        if swapped_axes(attempt):
            return "the output has the steps where its samples should be: see batch-mixing"
        yield attempt.failure.finding(DOC)
        return ""
    for call in attempt.loss_calls:
        if call.function in PICKS_ONE and scores_one_class(call):
            head = attempt.head
            yield DOC.finding(
                "{function} is given scores of shape {shape}: with a single class the loss is always {loss:g}",
                function=call.function,
                shape=str(tuple(call.input.shape)),
                loss=attempt.loss,
                where=(ctx.created_at(head.path) if head else ()) or call.where,
            )
            return ""
    for call in attempt.loss_calls:
        if (
            call.function in DISTANCES
            and call.input.ndim == call.target.ndim == 2
            and call.input.shape != call.target.shape
        ):
            head = attempt.head
            yield DOC.finding(
                "{function} is given outputs of shape {shape} and targets of shape {target}, and repeats one to "
                "fit the "
                "other",
                function=call.function,
                shape=str(tuple(call.input.shape)),
                target=str(tuple(call.target.shape)),
                where=(ctx.created_at(head.path) if head else ()) or call.where,
            )
            return ""
    if attempt.output is None:
        raise Skip(f"the model returns no tensor but {attempt.output_type}")
    return f"outputs {tuple(attempt.output.shape)}"
