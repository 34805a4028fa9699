"""What a trial changes about the pipeline, without a line of the user's code being edited.

Every swap is such a change: of a setting (``knobs``), of what is read (``data_knobs``), or of a whole part for one that
is known to be good (``parts``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnose.experiments.trial import Samples
    from diagnose.pipeline import Pipeline
    from probes.results import Where


@dataclass(frozen=True)
class Reading:
    """How the samples of a trial differ from the subset's own: ``each`` raw batch is mapped; ``plainly(True)`` makes
    the data set read without augmentation, ``plainly(False)`` as before; another ``batch_size``; ``whole``: all of the
    data; ``samples``: other data altogether."""

    each: Callable[[Any], Any] | None = None
    plainly: Callable[[bool], None] | None = None
    batch_size: int | None = None
    whole: bool = False
    samples: Callable[[], Samples] | None = None


@dataclass(frozen=True)
class Change:
    """One change to a fresh pipeline.

    ``apply(pipeline)`` may alter the pipeline and returns a context in which the trial runs. ``size`` orders changes
    of one kind by how much they change (the mildest has the smallest), ``label`` is for readers. ``constant_lr`` plays
    no schedule, ``scheduler(optimizer, steps)`` one of torch's. ``ours``: not what the user wrote, so that a failure
    under it is the arm's and not the user's. ``factors`` says by how much it scales each group, or the rate (of one
    parameter group: with its "rate of group" as it was, and "largest lr", by how much the largest of all is scaled).
    ``where``: the lines that it stands for, as far as they are known.
    ``order``: when it is applied among others, the replacement of the optimizer last.
    ``options`` are what it makes of the loss's options and ``loss_function`` which function of torch it calls instead,
    for the yardsticks.
    """

    key: str
    label: str
    size: float = 0.0
    apply: Callable[[Pipeline], AbstractContextManager[Any]] = lambda _: nullcontext()
    constant_lr: bool = False
    scheduler: Callable[[Any, int], Any] | None = None
    ours: bool = True
    factors: Mapping[str, float] = field(default_factory=dict)
    reading: Reading = Reading()
    order: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    loss_function: str = ""
    where: Sequence[Where] = ()


AS_CONFIGURED = Change("configured", "as configured", ours=False)


def together(changes: Sequence[Change]) -> Change:
    """All of them at once, whatever the order they are given in; ``AS_CONFIGURED`` where there are none."""
    if len(changes) < 2:
        return changes[0] if changes else AS_CONFIGURED
    changes = sorted(changes, key=lambda change: (change.order, change.key))

    @contextmanager
    def apply(pipeline: Pipeline) -> Iterator[None]:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change.apply(pipeline))
            yield

    return Change(
        key=" + ".join(change.key for change in changes),
        label=" and ".join(change.label for change in changes),
        size=sum(change.size for change in changes),
        apply=apply,
        constant_lr=any(change.constant_lr for change in changes),
        scheduler=next((change.scheduler for change in changes if change.scheduler is not None), None),
        factors={name: factor for change in changes for name, factor in change.factors.items()},
        reading=_both([change.reading for change in changes]),
        options={name: value for change in changes for name, value in change.options.items()},
        loss_function=next((change.loss_function for change in changes if change.loss_function), ""),
        where=tuple(where for change in changes for where in change.where),
    )


def _both(readings: Sequence[Reading]) -> Reading:
    maps = [reading.each for reading in readings if reading.each is not None]

    def each(raw: Any) -> Any:
        for one in maps:
            raw = one(raw)
        return raw

    return Reading(
        each=each if maps else None,
        plainly=next((reading.plainly for reading in readings if reading.plainly is not None), None),
        batch_size=next((reading.batch_size for reading in readings if reading.batch_size is not None), None),
        whole=any(reading.whole for reading in readings),
        samples=next((reading.samples for reading in readings if reading.samples is not None), None),
    )
