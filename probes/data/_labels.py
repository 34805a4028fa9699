"""What several probes of labels need: the loss calls that pick one class, and labels as the loss will see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.api import Skip

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan
    from probes.records.forward import Attempt, LossCall

CLASS_TASKS = frozenset({"classification", "segmentation", "language-model"})
PICK_ONE = frozenset({"cross_entropy", "nll_loss"})
IGNORE_INDEX = -100  # default of torch.nn.functional.cross_entropy
RARE = 1e-3  # probability below which the absence of a class is not taken for chance


def attempted(ctx: Context) -> Attempt | None:
    """The first forward and loss; None where there is nothing to try."""
    try:
        return ctx.attempt()
    except Skip:
        return None


def class_call(attempt: Attempt | None) -> LossCall | None:
    """The first call of a loss that picks one class by its index."""
    for call in attempt.loss_calls if attempt is not None else ():
        if call.function in PICK_ONE and not call.target.is_floating_point() and call.input.ndim:
            return call
    return None


def width(call: LossCall) -> int:
    """Classes that the model tells apart: dim 1 of the logits, or dim 0 of unbatched ones."""
    return int(call.input.shape[1] if call.input.ndim > 1 else call.input.shape[0])


def scores_one_class(call: LossCall) -> bool:
    """Whether a loss that picks one class has a single one to pick: see output-shape-mismatch."""
    return call.input.ndim > 1 and width(call) == 1


def declared_classes(ctx: Context) -> int | None:
    """A single output tells two classes apart, so who declares one class means two."""
    declared = ctx.facts.num_classes
    return None if declared is None else max(declared, 2)


def ignored(call: LossCall | None) -> int:
    return int(call.options.get("ignore_index", IGNORE_INDEX)) if call is not None else IGNORE_INDEX


def as_given(attempt: Attempt | None, call: LossCall | None) -> bool:
    """Whether the loss is given the batch's own label values, and not some that the user's loss made of them."""
    target: Any = attempt.target if attempt is not None else None
    if call is None or not hasattr(target, "flatten"):
        return True
    return set(call.target.flatten().tolist()) <= set(target.flatten().tolist())


def uses_targets(ctx: Context) -> bool:
    """Whether the loss is known to look at the batch's targets: labels that nobody reads cannot be wrong."""
    pipeline = ctx.pipeline
    if pipeline.compute_loss is None and pipeline.train_step is None:
        return True
    attempt = attempted(ctx)
    target: Any = attempt.target if attempt is not None else None
    calls = attempt.loss_calls if attempt is not None else ()
    return hasattr(target, "numel") and any(call.target.numel() == target.numel() for call in calls)


def labels_of(ctx: Context, split: str, ignore: int = IGNORE_INDEX) -> tuple[Scan, Sequence[int]]:
    """The scan of a split with its class labels, without ignored ones. Skip where there are none.

    One yes or no per sample, as binary cross-entropy takes it, counts as two classes.
    """
    task = ctx.facts.task
    if task not in CLASS_TASKS and task != "multilabel":
        raise Skip(f"labels are classes only in classification, not in {task}")
    scan = ctx.scan(split)
    if not scan.labels:
        raise Skip(f"the {split} split has no integer labels")
    if task == "multilabel" and len(scan.labels) != scan.seen:
        raise Skip("a sample may hold several labels at once")
    return scan, [label for label in scan.labels if label != ignore]


def one_label_each(ctx: Context, split: str) -> tuple[Scan, Sequence[int]]:
    """Like ``labels_of``, for classification with one label per sample."""
    if ctx.facts.task not in {"classification", "multilabel"}:
        raise Skip(f"judged for classification only, not for {ctx.facts.task}")
    scan, labels = labels_of(ctx, split)
    if len(scan.labels) != scan.seen:
        raise Skip("there is not one label per sample")
    return scan, labels


def representative(scan: Scan) -> bool:
    """Whether the scan shows the classes of the whole split: all of it, or a random part."""
    return scan.complete or scan.shuffles is True


def listed(items: Sequence[object], limit: int = 5) -> str:
    """``a, b, c and 4 more``."""
    shown = ", ".join(str(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"
