"""Columns of a table whose units differ by orders of magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._standardised import gain_by_standardising, normalises_first
from probes.results import Number, Severity, Table

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT136",
    name="features-on-wild-scales",
    stage=Stage.SUBSET,
    severity=Severity.WARNING,
    summary="The columns of the input differ in scale by orders of magnitude, and the model learns less for it.",
    why="The largest column decides every output and every gradient; the others hardly count, and no learning "
    "rate fits "
    "all of them.",
    fix="Standardise each column with the mean and standard deviation of the training split, or begin with a "
    "batch norm.",
    before="x = torch.tensor(table.values)",
    after="x = (x - x_train.mean(0)) / x_train.std(0)",
    consequences=(
        "stuck-at-chance", "slow-to-learn", "cannot-overfit", "no-generalisation", "initial-loss-off",
        "learning-rate-too-high", "learning-rate-too-low", "exploding-gradient", "predicts-one-class", "dead-relu",
        "exploding-initialisation", "inputs-not-normalised", "saturated-activations",
    ),
    references=("LeCun et al. 1998, Efficient BackProp",),
)  # fmt: skip
RATIO = 1e3  # of the largest to the smallest standard deviation of a column


def run(ctx: Context) -> Findings:
    """The spread of the columns; and a short training with every column standardised, against the one as it is."""
    rows = ctx.scan("train").rows
    shape = ctx.scan("train").input_shape
    if rows is None or rows.bag or len(shape) != 2 or "float" not in ctx.scan("train").input_dtype:
        raise Skip("the inputs are no table of real numbers")
    spread = rows.features.std(0)
    varying = spread[spread > 0]
    if len(varying) < 2:
        raise Skip("fewer than two columns vary")
    ratio = float(varying.max() / varying.min())
    if ratio < RATIO or normalises_first(ctx):
        return f"standard deviations of the columns differ by a factor of {ratio:.3g}"
    gain = gain_by_standardising(ctx)
    if gain is None:
        return f"the columns differ by a factor of {ratio:.3g}, but standardising them does not help"
    order = spread.argsort(descending=True)
    shown = [*order[:3].tolist(), *order[-3:].tolist()]
    yield DOC.finding(
        "standard deviations of the columns differ by a factor of {ratio:.3g}; {gain}",
        ratio=ratio,
        gain=gain.text,
        **gain.values,
        evidence=(
            Number("largest over smallest standard deviation", ratio, f"below {RATIO:g}"),
            Table(("column", "standard deviation"), [(i, float(spread[i])) for i in shown]),
        ),
    )
    return ""
