"""Parameters that nothing depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.gradient._silent import split_by_influence
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

SHOWN = 5  # modules named in the message

DOC = ProbeDoc(
    code="GRD502",
    name="unused-parameters",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="Some parameters have no influence on the loss.",
    why=(
        "They never learn. A layer that was meant to work may be missing from forward, and "
        "DistributedDataParallel will stop."
    ),
    fix="Use the layer in forward, or remove it; freeze it (requires_grad_(False)) where it is kept on purpose.",
    before="self.norm = nn.LayerNorm(64)  # never called in forward",
    after="x = self.norm(x)",
    references=("torch.nn.parallel.DistributedDataParallel documentation, find_unused_parameters",),
)


def run(ctx: Context) -> Findings:
    """Parameters without gradient whose change leaves the loss as it is; of auxiliary heads it makes a note only."""
    _, idle = split_by_influence(ctx)
    ran = [record.path for record in ctx.attempt().modules]
    for auxiliary in (False, True):
        modules = [path for path in idle if _is_auxiliary(path, ran) is auxiliary]
        if modules:
            yield DOC.finding(
                "the loss does not depend on {count} trainable tensors, in {modules}",
                severity=Severity.NOTE if auxiliary else None,
                where=ctx.created_at(modules[0]),
                count=sum(len(idle[path]) for path in modules),
                modules=_listed([path or "the model itself" for path in modules]),
            )
    return "all other trainable tensors shape the loss" if idle else "the loss depends on every trainable tensor"


def _is_auxiliary(path: str, ran: Sequence[str]) -> bool:
    """A head beside the main path: it ran, and its output is not part of this loss; or it is called so."""
    runs = any(other == path or other.startswith(path + ".") for other in ran) if path else False
    return runs or any(word in path.lower() for word in ("aux", "head"))


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
