"""A layer is constructed inside forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD209",
    name="layer-created-in-forward",
    stage=Stage.SMOKE,
    summary="A layer with parameters is constructed while the model runs.",
    why="The optimizer was built before it exists and never updates it; made anew at every call, it is random noise.",
    fix="Construct the layer in __init__ and only call it in forward; nn.LazyLinear helps where the size is not known.",
    consequences=("nondeterministic-eval", "parameters-missing-from-optimizer", "slow-to-learn", "cannot-overfit",
                  "stuck-at-chance", "fails-on-reference-data"),
    before="def forward(self, x):\n    return nn.Linear(64, 10)(x)",
    after="def __init__(self):\n    self.head = nn.Linear(64, 10)\ndef forward(self, x):\n    return self.head(x)",
)  # fmt: skip


def run(ctx: Context) -> Findings:
    for made in ctx.inspection().created:
        when = "at every call, with new random weights" if made.every else "at the first call, after the optimizer"
        yield DOC.finding(
            "forward constructs a {type} {when}", type=made.type, when=when, every_call=made.every, where=made.where
        )
    return "forward constructs no layer with parameters"
