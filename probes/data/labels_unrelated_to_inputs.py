"""Labels that have nothing to do with the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Skip, Stage
from probes.results import Grade, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probes.measurements import Context
    from probes.records.data import Association
    from probes.records.trials import Trace
    from probes.results import Finding

DOC = ProbeDoc(
    code="DAT133",
    name="labels-unrelated-to-inputs",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,  # what was learned of a part may be by heart
    summary="The labels have nothing to do with the inputs: they were shuffled, or slipped against them.",
    why="There is nothing to learn. A large model learns the samples by heart, which looks like progress, and "
    "validation stays at chance.",
    fix="Follow one sample from its file to the batch: inputs and labels must be sorted, filtered and shuffled "
    "together.",
    before="np.random.shuffle(images); np.random.shuffle(labels)",
    after="order = np.random.permutation(len(images)); images, labels = images[order], labels[order]",
    consequences=(
        "no-generalisation", "stuck-at-chance", "slow-to-learn", "predicts-one-class", "overfitting", "noisy-labels",
    ),
    references=("Zhang et al. 2017, Understanding deep learning requires rethinking generalization",),
)  # fmt: skip
ENOUGH = 200  # samples: a relation that a network could use shows in as many


FITTING = 0.8  # score above which the labels cannot have slipped
LOOKED_AT = 100  # validation samples, below which guessing and a weak model cannot be told apart
CARRIED = 0.15  # share of the way from guessing to the floor, on validation, that shows a relation
SLIPPED = 0.2  # score that the labels of other items reach beyond the sample's own


def run(ctx: Context) -> Findings:
    """Simple predictors, cross-validated, and the model's own short training. Asked after all other experiments."""
    found = ctx.association(thorough=True)
    if found.related:
        return f"the labels can be told from the inputs ({_told(found)}; guessing {found.chance:.1%})"
    if found.samples < ENOUGH:
        raise Inconclusive(f"{found.samples} samples are too few to show that there is no relation")
    if ctx.repaired_by() is not None:
        raise Skip(f"it learns with {ctx.repaired_by()}, so there is something to learn")
    trace = ctx.subset()
    if trace.outcome == "slow":
        raise Inconclusive("the model learns slowly, so there may be something to learn that simple predictors miss")
    if _carries_over(ctx, trace):
        return "the model predicts validation labels better than guessing"
    if trace.outcome == "learns":  # seen through with all of the data: of a part little may carry over
        if trace.val_samples < LOOKED_AT or (trace.val_above_chance is None and _names_things(ctx)):
            raise Inconclusive("simple predictors find no relation, and validation cannot tell whether there is one")
        if _carries_over(ctx, ctx.learned_by_heart(1.0)):
            return "the model predicts validation labels better than guessing, given all of the data"
    memorises = ctx.overfit().stopped == "memorised"
    yield DOC.finding(
        "nothing tells the labels from the inputs: {told} on {samples} samples, where guessing gives {chance:.0%} and "
        "{limit:.0%} would be above chance{memorised}",
        told=_told(found),
        samples=found.samples,
        chance=found.chance,
        limit=found.limit,
        memorised="; yet the model can learn a batch by heart" if memorises else "",
        grade=str(Grade.SUPPORTED if memorises else Grade.SUSPECTED),
        evidence=(
            Table(("predictor", "cross-validated score"), list(found.scores.items()), f"Chance: {found.chance:.3f}"),
        ),
    )
    return ""


def _carries_over(ctx: Context, trace: Trace) -> bool:
    """Whether validation samples are told better than by guessing; by their loss where there is no accuracy."""
    if trace.val_above_chance is not None:
        return trace.val_above_chance
    losses = [point.val_loss for point in trace.points[1:] if point.val_loss is not None]
    if trace.constant is None or trace.floor is None or not losses:
        return False
    constant = trace.constant * _spread_of_val(ctx)
    return constant - min(losses) > CARRIED * (constant - trace.floor)


def _spread_of_val(ctx: Context) -> float:
    """By how much the loss of a constant prediction differs on validation, whose targets may vary less or more."""
    train, val = ctx.scan("train").label_std, ctx.scan("val").label_std
    if ctx.facts.task != "regression" or not train or not val:
        return 1.0
    squared = any(call.function == "mse_loss" for call in ctx.attempt().loss_calls)
    return (val / train) ** (2 if squared else 1)


def _names_things(ctx: Context) -> bool:
    """Whether the inputs are indices of words, users or things, of which simple predictors find too little."""
    return "float" not in ctx.scan("train").input_dtype


def slipped(ctx: Context) -> Iterator[Finding]:
    """Do the labels of neighbouring items fit better than an item's own? Asked while the data are looked at."""
    try:
        if ctx.association().best > FITTING:
            return
        shifted = ctx.shifted_associations()
    except Skip:
        return
    own = shifted.get(0)  # of the same items, in the same order: other samples may be of fewer classes
    if own is None:
        return
    shift = max(shifted, key=lambda k: shifted[k].best)
    best = shifted[shift]
    if best.related and best.best >= own.best + SLIPPED:
        yield DOC.finding(
            "the input of item i fits the label of item i{shift:+d}: predictors reach {score:.2f} with these labels, "
            "{plain:.2f} with the item's own",
            shift=shift,
            score=best.best,
            plain=own.best,
            grade=str(Grade.PROVED),
        )


def _told(found: Association) -> str:
    kind = "" if found.labels else "correlation "
    figures = (f"{name} {kind}{score:.0%}" if found.labels else f"{name} {kind}{score:.2f}"
               for name, score in found.scores.items())  # fmt: skip
    return ", ".join(figures)
