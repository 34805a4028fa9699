"""The pictures of a run, drawn from the results alone. None is drawn without data for it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from probes.results import Evidence, RunResults
from reports.causes import accused
from reports.curves import (
    EXPERIMENTS,
    Arm,
    chance_of,
    clock,
    finite_points,
    guess_loss_of,
    metric_of,
    panels,
    points,
)
from reports.evaluation import matrix_of, names_of
from reports.numbers import is_fraction, number, one_line, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#5F6B6D")
"""Okabe and Ito's colours, which colour-blind readers can tell apart (yellow left out: too pale on white)."""
GREY, INK = "#8A8A8A", "#333333"
MAX_TICK_LABELS = 40
LABEL_GAP = 0.075
LEGEND_COLUMNS, LEGEND_NAME = 3, 60
LEAST_SPAN = 0.1
"""The least height of a loss axis, as a share of the loss."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
}


def write_figures(results: RunResults, folder: Path) -> list[Path]:
    """Draw what there is data for into ``folder/figures``; the paths that were written."""
    import matplotlib as mpl

    written = []
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph.*", category=UserWarning)
        for name, draw in (("curves", _curves), ("proof", _proof), ("confusion_matrix", _confusion_matrix)):
            figure = draw(results)
            if figure is not None:
                path = folder / "figures" / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, dpi=150, metadata={"Software": None})
                written.append(path)
    return written


def _canvas(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure outside of pyplot's registry, always drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name each curve at its last point (x, y, text, colour); labels that would overlap are moved apart."""
    low, high = axes.get_ylim()
    gap = (high - low) * LABEL_GAP
    ordered = sorted(ends, key=lambda end: end[1])
    spots: list[float] = []
    for _, y, _, _ in ordered:
        spots.append(max(y, spots[-1] + gap) if spots else y)
    excess = max(0.0, spots[-1] - high) if spots else 0.0
    for (x, y, text, colour), spot in zip(ordered, spots, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(1.02, (spot - excess - low) / (high - low)),
            textcoords=axes.transAxes,
            color=colour,
            va="center",
            annotation_clip=False,
        )


def _percent_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: percent(round(y, 6))))


def _whole_steps(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _chance_line(axes: Axes, results: RunResults, key: str) -> list[tuple[float, float, str, str]]:
    """The level of guessing, as one more line with its label."""
    level = chance_of(results) if "accuracy" in key else guess_loss_of(results) if "loss" in key else None
    if not level:
        return []
    label = f"guessing, {percent(level) if 'accuracy' in key else number(level)}"
    axes.axhline(level, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    return [(axes.get_xlim()[1], level, label, GREY)]


def _honest_span(axes: Axes) -> None:
    """A flat curve must look flat: the axis spans at least a tenth of its own values."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    half = max(high - low, LEAST_SPAN * abs(middle)) / 2
    axes.set_ylim(middle - half, middle + half)


def _curves(results: RunResults) -> Figure | None:
    """Loss and metric of train and val; chance; the band that was expected."""
    history = results.training.history
    metric = metric_of(history)
    keys = [key for key in ("loss", metric) if key and any(points(history, f"{p}_{key}")[1] for p in ("train", "val"))]
    if not keys:
        return None
    figure, grid = _canvas(len(keys), 4.8 * len(keys), 3.4)
    for axes, key in zip(grid, keys, strict=True):
        ends = []
        for part, colour in (("train", PALETTE[0]), ("val", PALETTE[1])):
            xs, ys = points(history, f"{part}_{key}")
            if ys:
                axes.plot(xs, ys, color=colour, linewidth=1.8, marker="o" if len(xs) <= 12 else None, markersize=3.5)
                ends.append((xs[-1], ys[-1], part, colour))
        if is_fraction(key):
            _percent_axis(axes)
        band = _band(axes, results, f"val_{key}") or _band(axes, results, key)
        ends += _chance_line(axes, results, key)
        if key == "accuracy":
            axes.set_ylim(bottom=0)
        else:
            _honest_span(axes)
        axes.set_title(one_line(key.replace("_", " "), 40) + (", shaded: expected" if band else ""))
        axes.set_xlabel(clock(history))
        _whole_steps(axes)
        _label_ends(axes, ends)
    return figure


def _band(axes: Axes, results: RunResults, metric: str) -> bool:
    """What was expected, up to the last epoch that was observed (straight between the given epochs)."""
    bounds = sorted((float(e.epoch), e.low, e.high) for e in results.training.expected if e.metric == metric)
    xs, _ = points(results.training.history, "epoch")
    if not bounds or not xs:
        return False
    shown = [item for item in bounds if item[0] <= xs[-1]]
    later = [item for item in bounds if item[0] > xs[-1]]
    if shown and later and shown[-1][0] < xs[-1]:
        (x0, low0, high0), (x1, low1, high1) = shown[-1], later[0]
        part = (xs[-1] - x0) / (x1 - x0)
        shown.append((xs[-1], low0 + part * (low1 - low0), high0 + part * (high1 - high0)))
    if not shown:
        return False
    epochs, low, high = (list(column) for column in zip(*shown, strict=True))
    if len(shown) == 1:
        axes.vlines(epochs, low, high, color=PALETTE[2], linewidth=6, alpha=0.35)
    else:
        axes.fill_between(epochs, low, high, color=PALETTE[2], alpha=0.2, linewidth=0)
    return True


def _proof(results: RunResults) -> Figure | None:
    """The experiment behind the first cause: one colour for each arm, a thin line for each seed, their median bold."""
    shown = panels(_experiment(results))[:2]
    if not shown:
        return None
    names = list(dict.fromkeys(arm.name for _, _, arms in shown for arm in arms))
    rows = -(-len(names) // LEGEND_COLUMNS)
    figure, grid = _canvas(len(shown), 5.4 * len(shown), 4.1 + 0.24 * rows)
    handles: dict[str, Any] = {}
    for axes, (x_label, y_label, arms) in zip(grid, shown, strict=True):
        for arm in arms:
            index = names.index(arm.name)
            style = (PALETTE[index % len(PALETTE)], ("-", "--", ":")[index // len(PALETTE) % 3])
            handles.setdefault(arm.name, _draw_arm(axes, arm, *style))
        guessing = "".join(f" (dashed: {label})" for _, _, label, _ in _chance_line(axes, results, y_label))
        if is_fraction(y_label):
            _percent_axis(axes)
        else:
            _honest_span(axes)
        axes.set_title((one_line(y_label.replace("_", " "), 50) or "curve") + guessing)
        if x_label.endswith("(log)"):
            _log_axis(axes, results)
            start = next((y for arm in arms for curve in arm.curves for y in curve.y if y is not None), 0.0)
            if start > 0:  # where it blows up the loss grows without bound, and would hide the fall
                axes.set_ylim(top=min(axes.get_ylim()[1], 2 * start))
        axes.set_xlabel(one_line(x_label, 40))
    seeds = max(len(arm.curves) for _, _, arms in shown for arm in arms)
    figure.legend(
        list(handles.values()),
        [one_line(name, LEGEND_NAME) for name in handles],
        loc="outside lower left",
        ncols=min(len(names), LEGEND_COLUMNS),
        frameon=False,
        title=f"thin: one of {seeds} seeds; bold: their median" if seeds > 1 else None,
        alignment="left",
    )
    return figure


def _log_axis(axes: Axes, results: RunResults) -> None:
    """Powers of ten, with the user's own rate and the suggested one as lines."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0e}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=8)
    values = next((f.values for r in results.results for f in r.findings if f.name == "learning-rate-range"), {})
    for key, label, colour in (("now", "yours", GREY), ("suggested", "suggested", PALETTE[1])):
        if rate := values.get(key):
            axes.axvline(rate, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(f" {label} {rate:.1e}", (rate, 0.02 if key == "now" else 0.09),
                          xycoords=("data", "axes fraction"), color=colour, fontsize=8)  # fmt: skip


def _experiment(results: RunResults) -> Sequence[Evidence]:
    """The evidence of the first cause; where nobody is accused, of the experiment that was asked for."""
    causes = accused(results).diagnosis.causes
    if causes and panels(causes[0].evidence):
        return causes[0].evidence
    notes = [f for r in results.results for f in r.findings if f.name in EXPERIMENTS]
    return notes[0].evidence if notes else ()


def _draw_arm(axes: Axes, arm: Arm, colour: str, line: str) -> Any:
    """Draw the curves of an arm; the bold one stands for it in the legend."""
    curves = [(xs, ys) for curve in arm.curves for xs, ys in [finite_points(curve)] if xs]
    if len(curves) > 1:
        for xs, ys in curves:
            axes.plot(xs, ys, color=colour, linestyle=line, linewidth=0.9, alpha=0.45)
    xs, ys = _median_curve(curves)
    (drawn,) = axes.plot(xs, ys, color=colour, linestyle=line, linewidth=2.2)
    axes.plot(xs[-1:], ys[-1:], color=colour, marker="o", markersize=5)
    return drawn


def _median_curve(curves: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    """The median over seeds as far as all of them go; between the points that were measured the lines are straight."""
    if not curves:
        return [], []
    end = min(xs[-1] for xs, _ in curves)
    grid = sorted({x for xs, _ in curves for x in xs if x <= end})
    grid = [x for x in grid if x >= max(xs[0] for xs, _ in curves)] or [end]
    return grid, [median(_value_at(xs, ys, x) for xs, ys in curves) for x in grid]


def _value_at(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    after = next((i for i, at in enumerate(xs) if at >= x), len(xs) - 1)
    before = max(after - 1, 0)
    width = xs[after] - xs[before]
    part = (x - xs[before]) / width if width else 0.0
    return ys[before] + part * (ys[after] - ys[before])


def _confusion_matrix(results: RunResults) -> Figure | None:
    """Shares of each true class; counts are written in where there is room."""
    matrix = matrix_of(results)
    if matrix is None:
        return None
    count = len(matrix)
    shares = [[item / total if (total := sum(row)) else 0.0 for item in row] for row in matrix]
    names = [one_line(name, 24) for name in names_of(results, count)]
    side = min(10.0, max(4.2, 2.0 + 0.34 * count)) if count <= MAX_TICK_LABELS else 7.0
    figure, (axes,) = _canvas(1, side + 0.9, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if count <= MAX_TICK_LABELS:
        size = 9 if count <= 20 else 7
        rotation = 90 if max(len(name) for name in names) > 3 else 0
        axes.set_xticks(range(count), names, rotation=rotation, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
        axes.tick_params(length=0)
    if count <= 20:
        _write_counts(axes, matrix, shares)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title("Confusion matrix: share of each true class")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, format=lambda y, _: percent(round(y, 6)))
    bar.outline.set_visible(False)
    return figure


def _write_counts(axes: Any, matrix: list[list[float]], shares: list[list[float]]) -> None:
    for i, row in enumerate(matrix):
        for j, item in enumerate(row):
            if item:
                colour = "white" if shares[i][j] > 0.55 else INK
                axes.text(j, i, f"{item:g}", ha="center", va="center", fontsize=8, color=colour)
