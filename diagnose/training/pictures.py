"""Pictures that need the data or the model: samples as the model gets them, confident errors."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from diagnose.batches import first_tensor, understand
from diagnose.experiments import data_knobs
from diagnose.rng import seeded
from diagnose.training.calibration import expected_calibration_error, reliability
from diagnose.training.scores import WRONG_SAMPLES, ClassScores, Wrong
from diagnose.user_code import user_code
from reports.figures import PALETTE, STYLE
from reports.numbers import one_line, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diagnose.context import MeasuringContext

SAMPLES = 16
COLUMNS = 4
BINS = 20
TIMED = 64  # samples by which the cost of augmentation is measured
NAME = 18  # characters of a class name above a picture


def samples_picture(ctx: MeasuringContext, folder: Path) -> Path | None:
    """``figures/samples.png``: training samples exactly as the model gets them; None where inputs are no images."""
    images: list[Any] = []
    titles: list[str] = []
    for raw in ctx.raws():
        batch = understand(raw)
        values = (*batch.inputs, *batch.kwargs.values())
        found = next((item for item in values if _are_images(item)), None)
        if found is None:
            return None
        for row in range(min(len(found), SAMPLES - len(images))):
            images.append(found[row].detach().float().cpu())
            titles.append(_label(batch.target, row, ctx.facts.class_names))
    if not images:
        return None
    shape = "x".join(str(size) for size in images[0].shape)
    title = f"Training samples as the model gets them ({shape}), each stretched from its minimum to its maximum"
    with drawn():
        return saved(grid(images, titles, title), folder / "figures" / "samples.png")


def augmentation_picture(ctx: MeasuringContext, folder: Path) -> str:
    """``figures/data_augmentation_demo.png``: raw training samples above the same ones augmented; what it costs, in a
    sentence. Empty, and no picture, where nothing is augmented or it cannot be switched off from outside."""
    plain = data_knobs.plain_loader(ctx.pipeline)
    dataset = getattr(ctx.pipeline.train, "dataset", None)
    if plain is None or dataset is None:
        return ""
    _, switch = plain
    count = min(COLUMNS, len(dataset))
    seconds, rows = [], []
    with seeded(ctx.seed):
        for off in (True, False, False, False):
            switch(off)
            try:
                started = time.perf_counter()
                with user_code("reading data"):
                    read = [dataset[index] for index in range(max(count, min(TIMED, len(dataset))))]
                seconds.append((time.perf_counter() - started) / max(1, len(read)))
            finally:
                switch(False)
            rows.append([first_tensor(item) for item in read[:count]])
    images = [image for row in rows for image in row if image is not None and _is_image(image)]
    if len(images) != len(rows) * count:
        return ""
    cost = max(0.0, median(seconds[1:]) - seconds[0])
    titles = [name for name in ("raw", *["augmented"] * (len(rows) - 1)) for _ in range(count)]
    with drawn():
        figure = grid(images, titles, "Training samples, raw and augmented three times", columns=count)
        saved(figure, folder / "figures" / "data_augmentation_demo.png")
    return (
        f"Augmentation takes {1000 * cost:.2f} ms per sample, on top of {1000 * seconds[0]:.2f} ms for reading it "
        "(one process)."
    )


def write_evaluation_pictures(scores: ClassScores, folder: Path) -> list[Path]:
    """``confidence_analysis.png``, and ``error_samples.png`` where inputs are images and some were taken for others."""
    if not scores.true:
        return []
    names = scores.names()
    with drawn():
        written = [saved(_confidence(scores), folder / "figures" / "confidence_analysis.png")]
        wrong = [item for item in scores.wrong if item.image is not None and _is_image(item.image)]
        if wrong:
            titles = [_wrong_title(item, names) for item in wrong]
            title = f"The most confident of {_errors(scores):,} wrong predictions"
            figure = grid([item.image for item in wrong[:WRONG_SAMPLES]], titles, title)
            written.append(saved(figure, folder / "figures" / "error_samples.png"))
    return written


def _wrong_title(item: Wrong, names: Sequence[str]) -> str:
    true, predicted = _short(names[item.true]), _short(names[item.predicted])
    return f"true {true}\npredicted {predicted}\nconfidence {percent(item.confidence)}"


def _errors(scores: ClassScores) -> int:
    return sum(a != b for a, b in zip(scores.true, scores.predicted, strict=True))


def _confidence(scores: ClassScores) -> Figure:
    """How sure the model was where it was right, and where it was wrong."""
    right: list[float] = []
    wrong: list[float] = []
    for true, predicted, confidence in zip(scores.true, scores.predicted, scores.confidence, strict=True):
        if math.isfinite(confidence):
            (right if true == predicted else wrong).append(confidence)
    figure = new_figure(10.0, 3.8)
    axes, other = figure.subplots(1, 2)
    _reliability(other, scores)
    edges = [i / BINS for i in range(BINS + 1)]
    for values, name, colour in ((right, "right", PALETTE[2]), (wrong, "wrong", PALETTE[1])):
        if values:
            mean = percent(sum(values) / len(values))
            label = f"{name}: {len(values):,}, mean confidence {mean}"
            axes.hist(values, bins=edges, color=colour, alpha=0.6, label=label)
    axes.set_xlim(0, 1)
    axes.set_xlabel("confidence of the prediction")
    axes.set_ylabel("samples")
    axes.set_title("Confidence of right and wrong predictions")
    if right or wrong:
        axes.legend(frameon=False)
    return figure


def _reliability(axes: Any, scores: ClassScores) -> None:
    """Accuracy against confidence: on the diagonal a model is as sure as it is right."""
    correct = [a == b for a, b in zip(scores.true, scores.predicted, strict=True)]
    bins = reliability(scores.confidence, correct)
    sure, right = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
    axes.plot([0, 1], [0, 1], color=PALETTE[7], linewidth=1)
    axes.plot(sure, right, color=PALETTE[0], marker="o", markersize=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that is right")
    error = expected_calibration_error(bins)
    told = "" if error is None else f", expected calibration error {percent(error)}"
    axes.set_title(f"Reliability{told}")


def grid(images: Sequence[Any], titles: Sequence[str], title: str, columns: int = COLUMNS) -> Figure:
    rows = math.ceil(len(images) / columns)
    lines = max(title.count("\n") + 1 for title in titles) if titles else 1
    figure = new_figure(2.1 * columns, (2.15 + 0.16 * lines) * rows + 0.4)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if index < len(images):
            pixels = _pixels(images[index])
            axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(titles[index], fontsize=9, loc="center")
    return figure


def _pixels(image: Any) -> Any:
    """(H, W) or (H, W, 3) in [0, 1], from (C, H, W) or (H, W, C): stretched between the extremes of the image."""
    if image.shape[0] not in (1, 3, 4) and image.shape[-1] in (1, 3, 4):
        image = image.movedim(-1, 0)
    image = image[:3] if image.shape[0] in (3, 4) else image[0]
    image = image.nan_to_num(0.0, 0.0, 0.0)
    low, high = image.min(), image.max()
    image = (image - low) / (high - low) if high > low else image * 0 + 0.5
    return (image if image.ndim == 2 else image.movedim(0, -1)).numpy()


def _are_images(value: Any) -> bool:
    return hasattr(value, "ndim") and value.ndim == 4 and len(value) > 0 and _is_image(value[0])


def _is_image(value: Any) -> bool:
    """(C, H, W) or (H, W, C) with one, three or four channels, and a real extent."""
    if value.ndim != 3 or value.is_complex():
        return False
    channels_first = value.shape[0] in (1, 3, 4) and min(value.shape[1:]) > 4
    return bool(channels_first or (value.shape[-1] in (1, 3, 4) and min(value.shape[:2]) > 4))


def _label(target: Any, row: int, names: Sequence[str]) -> str:
    """The sample's label in a few words; empty where it is not one number."""
    if not hasattr(target, "ndim") or target.ndim == 0 or len(target) <= row or target[row].numel() != 1:
        return ""
    value = target[row].item()
    if isinstance(value, int) and 0 <= value < len(names):
        return _short(names[value])
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(name: str) -> str:
    return one_line(name, NAME)


@contextmanager
def drawn() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph.*", category=UserWarning)  # names in scripts the font lacks
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure outside of pyplot's registry, always drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def saved(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path
