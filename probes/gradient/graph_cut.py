"""The graph is cut: parameters that shape the loss get no gradient from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.gradient._silent import split_by_influence
from probes.results import Table

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="GRD501",
    name="graph-cut",
    stage=Stage.SMOKE,
    summary="The loss depends on parameters that get no gradient from it: the graph is cut after them.",
    why="Everything before the cut stays as it was initialised, so the rest learns on top of random features.",
    fix="Remove the detach(), .data, .item(), numpy() or torch.no_grad() between the named module and the loss.",
    before="features = self.backbone(x).detach()",
    after="features = self.backbone(x)",
    consequences=(
        "zero-gradient",
        "parameters-not-updated",
        "unused-parameters",
        "vanishing-gradient",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
        "slow-to-learn",
    ),
    references=("torch.Tensor.detach documentation",),
)


def run(ctx: Context) -> Findings:
    """Disturbs the parameters that have no gradient: where the loss moves, the graph is cut."""
    if "frozen" in ctx.facts.intents and _reached(ctx):
        raise Skip("parts of the model are declared as frozen on purpose")
    attempt = ctx.attempt()
    if attempt.failure is None and attempt.output_has_graph is False and not attempt.loss_has_graph:
        yield from _cut_at_the_output(ctx)
        return "no trainable parameter is used: see everything-frozen"
    trainable = [p for p in ctx.updates().parameters if p.requires_grad]
    moving, _ = split_by_influence(ctx)
    if moving:
        last = list(moving)[-1]
        after = _first_connected(ctx, last)
        yield DOC.finding(
            "no gradient reaches {module} ({type}), though the loss depends on it{after}; {count} of {total} trainable "
            "tensors are cut off",
            where=ctx.created_at(last),
            evidence=(Table(("module", "tensors without gradient"), [(p, len(n)) for p, n in moving.items()]),),
            module=last or "the model itself",
            type=type(dict(ctx.pipeline.model.named_modules())[last]).__name__,
            after=f": the graph is cut before {after}" if after else "",
            count=sum(len(names) for names in moving.values()),
            total=len(trainable),
        )
    reached = sum(any(norm is not None for norm in p.gradients) for p in trainable)
    return f"{reached} of {len(trainable)} trainable tensors receive a gradient"


def _reached(ctx: Context) -> bool:
    """Whether any parameter gets a gradient: nobody freezes all on purpose."""
    if ctx.attempt().loss_has_graph is False:
        return True  # see loss-detached
    return any(norm is not None for p in ctx.updates().parameters for norm in p.gradients)


def _first_connected(ctx: Context, last: str) -> str:
    """The first module after ``last`` whose parameters do get a gradient; "" where there is none."""
    reached = {
        p.name.rpartition(".")[0] for p in ctx.updates().parameters if any(norm is not None for norm in p.gradients)
    }
    order = [record.path for record in ctx.attempt().modules]
    later = order[order.index(last) + 1 :] if last in order else order
    return next((path for path in later if path in reached), "")


def _cut_at_the_output(ctx: Context) -> Findings:
    """The model's output has no graph, though modules with trainable parameters ran."""
    modules = dict(ctx.pipeline.model.named_modules())
    ran = [record for record in ctx.attempt().modules if record.path in modules]
    trainable = [r for r in ran if any(p.requires_grad for p in modules[r.path].parameters(recurse=False))]
    if not trainable:
        return ""
    without = next((r for r in trainable if not r.requires_grad), None)
    last = without or trainable[-1]
    how = "puts out a tensor without a graph" if without else "is the last one whose output has a graph"
    yield DOC.finding(
        "the model's output has no graph, though {count} modules with trainable parameters ran: {module} ({type}) "
        "{how}",
        count=len(trainable),
        module=last.path or "the model itself",
        type=last.type,
        how=how,
        where=ctx.created_at(last.path),
    )
    return ""
