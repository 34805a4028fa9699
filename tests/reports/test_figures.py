"""Pictures: drawn only from data, and never the only place of a number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import samples

from probes.results import RunResults, Series
from reports.figures import write_figures
from reports.markdown import render_markdown
from reports.view import build_view


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (samples.stuck(), ["curves.png", "proof.png"]),
        (samples.healthy(), ["curves.png", "confusion_matrix.png"]),
        (samples.hostile(), ["proof.png", "confusion_matrix.png"]),
        (samples.not_finite(), ["curves.png", "proof.png"]),
        (samples.inconclusive(), []),
        (samples.empty(), []),
    ],
    ids=["stuck", "healthy", "hostile", "not_finite", "inconclusive", "empty"],
)
def test_a_picture_for_each_data_and_none_without(results: RunResults, expected: list[str], tmp_path: Path) -> None:
    written = write_figures(results, tmp_path)
    assert [path.name for path in written] == expected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert (tmp_path / "figures").exists() is bool(expected)


def test_class_names_without_a_glyph_and_many_classes(tmp_path: Path) -> None:
    names = ["猫", "$x^", "\x00", "a" * 200, *map(str, range(46))]
    matrix = [[int(i == j) for j in range(50)] for i in range(50)]
    for count in (5, 50):
        part = [row[:count] for row in matrix[:count]]
        results = replace(samples.empty(), evaluation={"confusion_matrix": part, "class_names": names})
        assert len(write_figures(results, tmp_path)) == 1


@pytest.mark.parametrize("matrix", [[[1, 2]], [], "x", [[1, None], [2, 3]], [1, 2], [[0, 0], [0, 0]]])
def test_a_matrix_that_is_none_breaks_nothing(matrix: object, tmp_path: Path) -> None:
    results = replace(samples.empty(), evaluation={"confusion_matrix": matrix})
    write_figures(results, tmp_path)
    assert render_markdown(results, tmp_path)


def test_every_pictures_numbers_are_in_a_table() -> None:
    """Each arm's first and last median, each epoch shown, each cell of the confusion matrix."""
    stuck, healthy = build_view(samples.stuck()), build_view(samples.healthy())
    assert stuck.cause is not None
    (table,) = stuck.cause.curves
    assert [row[0] for row in table.rows] == [name for name, _ in samples.ARMS]
    assert (table.columns[1], table.columns[-1]) == ("step 0", "step 400")
    ends = sorted(e.y[-1] for e in samples.CAUSE.evidence if isinstance(e, Series) and e.name.startswith("no dropout"))
    assert table.rows[-1][-1] == f"{ends[1]:.3f} ({ends[0]:.3f} to {ends[2]:.3f})"
    history = next(t for t in healthy.appendix.tables if t.title.startswith("History"))
    assert len(history.rows) == 10
    confusion = next(t for t in healthy.evaluation if t.title == "Confusion matrix")
    assert confusion.rows[1][1:] == tuple(str(n) for n in samples.healthy().evaluation["confusion_matrix"][1])
