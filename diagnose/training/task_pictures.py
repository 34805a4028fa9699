"""Pictures of an evaluation for the tasks that are no classification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnose.training.pictures import drawn, grid, new_figure, saved
from reports.figures import PALETTE
from reports.numbers import number, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diagnose.training.dense_scores import SegmentationScores
    from diagnose.training.scores import LabelScores, RegressionScores

POINTS = 5_000  # of a scatter plot
LABELS = 40  # bars


def write_task_picture(scores: Any, folder: Path) -> Path | None:
    """``figures/regression.png``, ``labels.png`` or ``segmentation.png`` by the kind of scores; None for others."""
    from diagnose.training.dense_scores import SegmentationScores
    from diagnose.training.scores import LabelScores, RegressionScores

    kinds: list[tuple[type, str, Any]] = [
        (RegressionScores, "regression", _regression), (LabelScores, "labels", _labels),
        (SegmentationScores, "segmentation", _segmentation),
    ]  # fmt: skip
    for kind, name, draw in kinds:
        if isinstance(scores, kind):
            with drawn():
                figure = draw(scores)
                return None if figure is None else saved(figure, folder / "figures" / f"{name}.png")
    return None


def _regression(scores: RegressionScores) -> Figure | None:
    """Predicted against true values, and the distribution of the errors."""
    columns = scores.predictions()
    pairs = [(columns[key], columns[key.replace("true", "predicted")]) for key in columns if key.startswith("true")]
    true, predicted = [value for a, _ in pairs for value in a], [value for _, b in pairs for value in b]
    if not true:
        return None
    step = max(1, len(true) // POINTS)
    figure = new_figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    left.scatter(true[::step], predicted[::step], s=6, color=PALETTE[0], alpha=0.5, linewidths=0)
    ends = [min(*true, *predicted), max(*true, *predicted)]
    left.plot(ends, ends, color=PALETTE[7], linewidth=1)
    left.set_xlabel("true value")
    left.set_ylabel("predicted value")
    left.set_title("Predictions (the line: exactly right)")
    errors = [b - a for a, b in zip(true, predicted, strict=True)]
    right.hist(errors, bins=40, color=PALETTE[0])
    right.axvline(0, color=PALETTE[7], linewidth=1)
    right.set_xlabel("predicted minus true")
    right.set_ylabel("samples")
    right.set_title(f"Errors, mean {number(sum(errors) / len(errors))}")
    return figure


def _labels(scores: LabelScores) -> Figure | None:
    rows = scores.result().get("per_class", [])[:LABELS]
    if not rows:
        return None
    figure = new_figure(7.0, 1.2 + 0.36 * len(rows))
    axes = figure.subplots()
    places = range(len(rows))
    for shift, key, colour in ((-0.27, "precision", 0), (0.0, "recall", 1), (0.27, "f1", 2)):
        axes.barh([p + shift for p in places], [row[key] for row in rows], 0.25, color=PALETTE[colour], label=key)
    axes.set_yticks(list(places), [str(row["class"])[:24] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("Precision, recall and F1 of each label")
    return figure


def _segmentation(scores: SegmentationScores) -> Figure | None:
    """Input, true and predicted classes of a few samples."""
    kept = scores.samples
    if not kept:
        return None
    images: list[Any] = []
    titles: list[str] = []
    for image, true, predicted in kept:
        share = float((true == predicted).float().mean())
        images += [image, _as_shades(true, scores.classes), _as_shades(predicted, scores.classes)]
        titles += ["input", "true", f"predicted, {percent(share)} right"]
    return grid(images, titles, "A few samples: input, true and predicted classes", columns=3)


def _as_shades(classes: Any, count: int) -> Any:
    """(3, H, W) colours of (H, W) class numbers."""
    import matplotlib as mpl
    import torch

    shades = mpl.colormaps["viridis"](classes.numpy() / max(1, count - 1))
    return torch.from_numpy(shades[..., :3]).movedim(-1, 0).float()
