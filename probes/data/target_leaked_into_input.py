"""One feature gives the answer away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT131",
    name="target-leaked-into-input",
    stage=Stage.DATA,
    grade=Grade.SUPPORTED,
    summary="A feature of the input determines the target, or is the target.",
    why="The model learns to read that feature and nothing else. Validation looks perfect, and the model is worthless "
    "where the feature is absent.",
    fix="Remove the feature: the label itself, something computed from it, or what is known only after the fact.",
    before='x = table.drop(columns=["id"])',
    after='x = table.drop(columns=["id", "label"])',
    references=("Kaufman et al. 2012, Leakage in Data Mining",),
)
ENOUGH = 60  # samples
EACH = 5  # samples of a class
MOST_CLASSES = 20  # the most common ones: a leak shows in each
GAP = 3.0  # between two classes, in units of the widest class's own range: the clearest natural feature of iris has 1.2
FEW = 4  # features: where more separate a class, the task is easy (a bright spot in a picture) and nothing leaked
CORRELATION = 0.9995  # of one feature with a numeric target
SLICE = 0.5  # of the features: a target of more columns is the input itself
RIVAL = 0.98  # of the next best feature: below, the others cannot explain it


def run(ctx: Context) -> Findings:
    """Each feature alone: do the classes lie in ranges that are far apart? Or is it the target itself?"""
    scan = ctx.scan("train")
    if ctx.facts.task == "segmentation" and (channel := _mask_among_channels(ctx)) is not None:
        yield DOC.finding(
            "channel {channel} of the input has one value for each class of the target, pixel by pixel",
            channel=channel + 1,
        )
        return ""
    if ctx.facts.task not in {"classification", "regression", "multilabel"}:
        raise Skip(f"judged for one target per sample, not for {ctx.facts.task}")
    if scan.rows is None or len(scan.rows.targets) < ENOUGH:
        raise Skip("the samples do not make a table of features and targets")
    if scan.rows.bag:
        raise Skip("the inputs are tokens, of which one may well decide")
    x, y = (
        rows.float().numpy() if rows.is_floating_point() else rows.numpy()
        for rows in (scan.rows.features, scan.rows.targets)
    )  # numpy knows no bfloat16
    if x.shape[1] < 2:
        raise Skip("there is only one feature")
    if ctx.facts.task == "regression" and not _handed_over(ctx) and (copies := _copied(x, y)):
        yield DOC.finding(
            "the target is part of the input: feature {copies} of {features} holds it value by value",
            features=x.shape[1],
            copies=str([place + 1 for place in copies])[1:-1],
        )
        return ""
    if y.ndim != 1:
        raise Skip("judged for one target per sample, or one that is copied from the input")
    found = _correlated(x, y) if ctx.facts.task == "regression" else _separating(x, y)
    if found is not None:
        feature, text, figure = found
        yield DOC.finding(
            "feature {feature} of {features} alone determines the target: {text}",
            feature=feature,
            features=x.shape[1],
            text=text,
            evidence=(Number("of that feature", figure, "far less for a feature that only helps"),),
        )
        return ""
    return f"none of {x.shape[1]} features determines the target by itself"


def _mask_among_channels(ctx: Context) -> int | None:
    """The one channel of pictures that tells every pixel's class, where the others vary within each class; None where
    there is none. (Drawings in fixed colours are their own masks in all channels.)"""
    import torch

    batch = ctx.batch()
    x, y = next(iter(batch.inputs), None), batch.target
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor) or x.ndim != 4 or x.shape[1] < 2:
        return None
    if y.is_floating_point() or y.shape != (len(x), *x.shape[2:]):
        return None
    classes, pixels = torch.unique(y), x.movedim(1, -1)
    values = [pixels[y == label] for label in classes]
    fixed = torch.stack([(found == found[:1]).all(0) for found in values])
    found = fixed.all(0).nonzero().flatten().tolist()
    if len(classes) < 2 or len(found) != 1 or bool(fixed[:, [c for c in range(x.shape[1]) if c not in found]].any()):
        return None
    told = torch.stack([value[0, found[0]] for value in values])
    return int(found[0]) if len(torch.unique(told)) == len(classes) else None


def _handed_over(ctx: Context) -> bool:
    """Whether the target as a whole is an input of the model: for its loss, or to teach a decoder."""
    import torch

    batch = ctx.batch()
    target = batch.target
    return isinstance(target, torch.Tensor) and any(
        isinstance(x, torch.Tensor) and x.numel() == target.numel() and torch.equal(x.flatten(), target.flatten())
        for x in (*batch.inputs, *batch.kwargs.values())
    )


def _copied(x: Any, y: Any) -> list[int]:
    """For every column of the target the feature that equals it in all samples, or nothing: an autoencoder's target is
    all of the input, and that of a model of sequences goes on beyond it."""
    import numpy as np

    y = y.reshape(len(y), -1)
    if y.shape[1] > SLICE * x.shape[1] or not (np.ptp(y, axis=0) > 0).all() or (y == np.round(y)).all():
        return []
    found = []
    for column in y.T:
        equal = np.flatnonzero((x == column[:, None]).all(0))
        if not len(equal):
            return []
        found.append(int(equal[0]))
    return found


def _separating(x: Any, y: Any) -> tuple[int, str, float] | None:
    """A feature on which a class lies apart from all others by more than any of their own ranges."""
    import numpy as np

    labels, counts = np.unique(y, return_counts=True)
    if len(labels) < 2 or len(labels) > len(y) // EACH:
        return None
    common = np.argsort(-counts)[:MOST_CLASSES]
    widest = _widest(x, y, labels)
    for label in (labels[i] for i in common if counts[i] >= EACH):
        inside, outside = x[y == label], x[y != label]
        low, high = inside.min(0), inside.max(0)
        above, below = outside.min(0) - high, low - outside.max(0)
        gap = np.maximum(above, below)
        # Several classes on both sides: judged by the nearest values around.
        between = np.where(outside > high, outside - high, np.where(outside < low, low - outside, -1.0)).min(0)
        gap = np.maximum(gap, between)
        # A constant tells by itself. Else a few samples of a class may happen to lie close together.
        own = np.where((high == low) & (len(labels) > 2), 0.0, widest)
        apart = (gap > 0) & (gap > GAP * own) & (x.std(0) > 0)
        if 0 < apart.sum() <= min(FEW, x.shape[1] - 1):
            feature = int(np.argmax(np.where(apart, gap, -1.0)))
            return feature, f"class {label:g} has values of its own there", float(gap[feature])
    return None


def _widest(x: Any, y: Any, labels: Any) -> Any:
    import numpy as np

    return np.max([np.ptp(x[y == label], axis=0) for label in labels], axis=0)


def _correlated(x: Any, y: Any) -> tuple[int, str, float] | None:
    import numpy as np

    spread = x.std(0)
    if y.std() == 0 or not (spread > 0).any():
        return None
    centred = (x - x.mean(0)) * (spread > 0)
    r = np.abs(centred.T @ (y - y.mean())) / (len(y) * np.where(spread > 0, spread, 1.0) * y.std())
    order = np.argsort(-r)
    if r[order[0]] >= CORRELATION and r[order[1]] < RIVAL:
        return int(order[0]), f"its correlation with the target is {r[order[0]]:.5f}", float(r[order[0]])
    return None
