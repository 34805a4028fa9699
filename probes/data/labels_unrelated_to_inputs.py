"""Labels that have nothing to do with the inputs."""

from __future__ import annotations

from math import prod
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
NOTHING = 0.02  # the same: below, there is none
PER_CLASS = 20  # training samples, below which a healthy model may learn them by heart first
SLIPPED = 0.2  # score that the labels of other items reach beyond the sample's own


def run(ctx: Context) -> Findings:
    """Simple predictors, cross-validated, and the model's own short training. Asked after all other experiments."""
    if ctx.overfit().stopped == "memorised" and _carried(ctx, ctx.subset()) > CARRIED:
        return "what is learned carries over to validation samples"
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
    if _carried(ctx, trace) > CARRIED:
        return "the model predicts validation labels better than guessing"
    if trace.outcome == "learns":  # seen through with all of the data: of a part little may carry over
        unknown = trace.val_above_chance is None and (trace.constant is None or trace.floor is None)
        if unknown or trace.val_samples < LOOKED_AT or (trace.val_above_chance is None and _names_things(ctx)):
            raise Inconclusive("simple predictors find no relation, and validation cannot tell whether there is one")
        whole = ctx.learned_by_heart(1.0)
        if (whole.trained_on or 0) < PER_CLASS * (whole.classes or 1):
            raise Inconclusive(f"{whole.trained_on} training samples of {whole.classes} classes are too few to tell")
        carried = _carried(ctx, whole)
        if carried > CARRIED:
            return "the model predicts validation labels better than guessing, given all of the data"
        if carried > NOTHING:
            raise Inconclusive("simple predictors find no relation, and the model hardly one")
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


def _carried(ctx: Context, trace: Trace) -> float:
    """The share of the way from guessing to the floor that was closed on validation samples, at the best look; where
    there is an accuracy, 1 if it is above chance and 0 if it is not."""
    if trace.val_above_chance is not None:
        return float(trace.val_above_chance)
    losses = [point.val_loss for point in trace.points[1:] if point.val_loss is not None]
    if trace.constant is None or trace.floor is None or not losses:
        return 0.0
    constant = _guessed_on_val(ctx, trace.constant)
    return (constant - min(losses)) / (constant - trace.floor) if constant > trace.floor else 0.0


def _guessed_on_val(ctx: Context, constant: float) -> float:
    """The loss of a constant prediction on validation, whose targets may vary less or more than those of train.
    ``constant``: on train, with all that the loss makes of it, as a sum. Of several columns the spread is not known."""
    train, val = ctx.scan("train"), ctx.scan("val")
    if ctx.facts.task != "regression" or prod(val.target_shape[1:]) != 1 or not train.label_std or not val.label_std:
        return constant
    losses = [call for call in ctx.attempt().loss_calls if call.function == "mse_loss"]
    if losses:
        apart = (val.label_mean or 0.0) - (train.label_mean or 0.0)
        is_mean = all(call.options.get("reduction", "mean") == "mean" for call in losses)
        return (val.label_std**2 + apart**2) * (1.0 if is_mean else constant / train.label_std**2)
    return constant * val.label_std / train.label_std


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
