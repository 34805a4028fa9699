"""A batch of one sample meets batch norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from typing import Any

    from probes.measurements import Context
    from probes.records.forward import ModuleRecord

DOC = ProbeDoc(
    code="MOD220",
    name="batchnorm-on-single-sample",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="A training batch of a single sample reaches a batch norm that needs two.",
    why="The variance of one value is not defined: training ends with an error, often only at the end of the first "
    "epoch.",
    fix="Pass drop_last=True to the training loader, or choose a batch size that leaves no batch of one.",
    before="DataLoader(train_set, batch_size=64, shuffle=True)",
    after="DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)",
    references=("torch.nn.BatchNorm1d documentation",),
)


def run(ctx: Context) -> Findings:
    attempt = ctx.attempt()
    if attempt.failure is not None:
        if attempt.failure.name != DOC.name:
            raise Skip(f"{attempt.failure.phase} raised {attempt.failure.type}")
        yield attempt.failure.finding(DOC)
        return ""
    affected = [record for record in attempt.modules if _needs_two(record)]
    if not affected:
        return "no batch norm that needs two samples"
    samples, size = _plan(ctx.pipeline.train)
    if samples is None or size is None:
        raise Skip("the size of the last batch is not known")
    if samples % size == 1:
        yield DOC.finding(
            "{samples} samples in batches of {size} leave a last batch of one, which {path} ({type}) cannot take",
            samples=samples,
            size=size,
            path=affected[0].path,
            type=affected[0].type,
            where=ctx.created_at(affected[0].path),
        )
        return ""
    return f"the last batch has {samples % size or size} samples"


def _needs_two(record: ModuleRecord) -> bool:
    """A batch norm over vectors, or over maps of one pixel."""
    is_batch_norm = "BatchNorm" in record.type
    return is_batch_norm and len(record.shape) >= 2 and all(extent == 1 for extent in record.shape[2:])


def _plan(loader: Any) -> tuple[int | None, int | None]:
    """(samples of an epoch, batch size); None where the loader does not tell, or drops the last batch."""
    size = getattr(loader, "batch_size", None)
    if not isinstance(size, int) or size < 2:
        return None, None
    if getattr(loader, "drop_last", False):
        return size, size
    try:
        return len(loader.sampler), size
    except (TypeError, AttributeError, NotImplementedError):
        return None, None
