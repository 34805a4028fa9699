"""What was seen of the user's own training loop while it ran, as plain data: nothing here holds a tensor.

Steps are optimizer steps, counted from 0. A *look* is one step that was watched closely; most steps are only counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probes.results import Where


@dataclass(frozen=True)
class LoopEvent:
    """One event between two steps of an optimizer. ``kind``: "batch" (one came from a loader), "zero", "backward",
    "clip", "unscale", "edit" (the program wrote the gradients by itself) or "step". ``loader``: index of the loader of
    a batch, or of the batch that is current, else -1. ``share`` and ``size`` of a backward: as in
    ``probes.records.updates.StepEvent``. ``touched``: whether the event reached tensors of this optimizer."""

    kind: str
    loader: int = -1
    share: float | None = None
    size: int = 0
    touched: bool = False
    where: Sequence[Where] = ()


@dataclass(frozen=True)
class StepLook:
    """One step of one optimizer. ``step``: its number; ``total``: steps of all optimizers before it.

    ``stale``: backward added to the gradient that the step before had used already; None if that was not seen.
    ``emptied``: backward had made a gradient, and the step found none. ``moved``: whether a tensor with a gradient
    changed; None where there was no gradient, or the learning rate is 0. ``asleep``: modules of the trained part that
    act otherwise in evaluation, all in eval mode with their model. ``loader``: of the current batch, -1 if there is
    none. ``update``: the size of the change of a weight matrix over that of the matrix, the median of some, None if not
    known. ``events``: empty where not all were seen. ``material``: a number for the values of its inputs and targets,
    None where they were not seen; ``size``: samples of them.
    """

    step: int
    total: int
    stale: bool | None = None
    emptied: bool = False
    moved: bool | None = None
    update: float | None = None
    asleep: Sequence[str] = ()
    loader: int = -1
    events: Sequence[LoopEvent] = ()
    where: Sequence[Where] = ()
    material: int | None = None
    size: int = 0


@dataclass(frozen=True)
class OptimizerSeen:
    """``held``: tensors in it. ``fed``: those that ever had a gradient in a look; ``strays``: shapes of held tensors
    that never had one lately and belong to no module that ran. ``fed_before``: strays that had gradients earlier.
    ``missing``: names of parameters of the models it trains, or of one of like size behind them that was never trained,
    that have a gradient, are in no optimizer and do not move.
    ``apart``: the same of models in train mode no part of which any optimizer ever held, and nothing was loaded into.
    ``loaded``: weights had been loaded into the model that the missing ones are of.
    ``backwards``: backward calls since its last step (all, if it never stepped). ``lrs``: (its step, lr), changes only.
    ``reached``: those of the first backward calls whose gradient reached it, 0 where its tensors moved by other means;
    ``fed_at``: one of them. ``pretrained``: weights were loaded into a model that it trains. ``scaled``: a GradScaler
    steps it. ``slept_at``: the last ``eval()`` of its model before a step with ``asleep``.
    """

    kind: str
    where: Sequence[Where]
    steps: int
    held: int
    looks: Sequence[StepLook] = ()
    lrs: Sequence[tuple[int, float]] = ()
    fed: int = 0
    strays: Sequence[tuple[int, ...]] = ()
    fed_before: int = 0
    missing: Sequence[str] = ()
    apart: Sequence[str] = ()
    loaded: bool = False
    backwards: int = 0
    scaled: bool = False
    reached: int = 0
    pretrained: bool = False
    step_at: Sequence[Where] = ()
    slept_at: Sequence[Where] = ()
    fed_at: Sequence[Where] = ()


@dataclass(frozen=True)
class Pass:
    """One iteration over a loader. ``begun``: steps of all optimizers before it. ``steps``: made under it.
    ``by_loop``: a for loop drew from it, not ``next``. ``first``: a key of its first batch's samples, None if unknown.
    ``awake``: in a pass without backward, modules that act otherwise in training, in train mode with their model."""

    begun: int
    batches: int
    steps: int
    by_loop: bool
    ended: bool
    first: int | None = None
    forwards: int = 0
    awake: Sequence[str] = ()
    where: Sequence[Where] = ()


@dataclass(frozen=True)
class LoaderSeen:
    """``name``: of the variable that it was assigned to, or of the function that returned it at once, "" if unknown.
    ``batches``: its length, None if it has none.

    ``passes``: the first ones; ``passed``: how many there were. ``same_first``: passes whose first batch held the
    samples of the first pass's. ``steps``: optimizer steps under it. ``known``: samples of its evaluations, as far as
    they could be told apart; ``trained``: those of its passes with steps; ``learned``: those of ``known`` that the
    evaluated model was trained on, None if none are known. ``disjoint``: its samples are known and none was trained
    on. ``late``: of the first passes, those after which one backward was called, on the loss of the last batch alone.
    ``distributed``: its sampler shuffles by epoch; ``epochs_set``: different values of that sampler's epoch.
    """

    name: str
    where: Sequence[Where]
    batches: int | None
    samples: int | None
    shuffled: bool | None
    passed: int = 0
    steps: int = 0
    passes: Sequence[Pass] = ()
    same_first: int = 0
    known: int = 0
    trained: int = 0
    learned: int | None = None
    disjoint: bool = False
    distributed: bool = False
    epochs_set: int = 0
    late: int = 0
    steps_at: Sequence[Where] = ()


@dataclass(frozen=True)
class SchedulerSeen:
    """``early``: its steps before the first step of its optimizer. ``at``: steps of the optimizer at each of its first
    calls. ``length``: for how many of its own steps it is made, 0 where it does not say."""

    kind: str
    optimizer: int
    where: Sequence[Where]
    created: Sequence[Where]
    steps: int
    early: int
    at: Sequence[int]
    length: int = 0


@dataclass(frozen=True)
class WeightsSeen:
    """What was done with weights. ``kind``: "self-load" (a state dict was loaded that shares memory with the model, and
    steps came between), "self-save" (such a state dict was saved), "kept" (such a state dict was kept over steps as a
    copy would be), "bare-save" (parameters without the buffers that training changes), "resume" (a checkpoint's model
    was loaded, its optimizer state was not). ``steps``: optimizer steps between taking and using a state dict, or
    before it. ``names``: buffers left out; of what was kept, the variable that tells so. ``taken``: where the state
    dict was taken."""

    kind: str
    steps: int
    where: Sequence[Where]
    taken: Sequence[Where] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True)
class MetricSeen:
    """An argmax over the outputs of a model along ``dim`` (None: over all of them), where their classes lie along
    ``classes``."""

    shape: Sequence[int]
    dim: int | None
    classes: int
    times: int
    where: Sequence[Where]


@dataclass(frozen=True)
class LossGiven:
    """A line that gives a loss of torch's what it does not take. ``name``: of the defect; ``function``: the loss;
    ``made_by``: the function that made the scores, "" if it is not known; ``shape`` and ``target``: what was given."""

    name: str
    function: str
    made_by: str
    shape: Sequence[int]
    target: Sequence[int]
    times: int
    where: Sequence[Where]


@dataclass(frozen=True)
class Loop:
    """A whole run.

    ``ended``: "end" (of the script), "exit" (sys.exit), "failed" (sys.exit with a text or a code that is not 0),
    "limit", "exception", "interrupted" or "cut" (the process was killed).
    ``losses``: (step, value) of tensors that backward was called on, None where it was not finite.
    ``marked``: early losses of one line whose graphs
    were followed; ``retained``: graphs of earlier steps of that line that were in memory at once; ``retained_by``: the
    variable that keeps them, "" if it was not found; ``kept_at``: the line that adds to it; ``grown``: bytes of memory
    more than when this was seen first.
    ``bare_evaluations``: evaluations without a loader; ``bare_awake``: modules in train mode in one of them.
    ``cells_back``: pairs of execution counts of a notebook that go backwards. ``whole``: the program was watched from
    its beginning, not only a block of it. ``failure``: of the recorder itself, which heard nothing after it.
    """

    steps: int
    backwards: int
    ended: str
    optimizers: Sequence[OptimizerSeen] = ()
    loaders: Sequence[LoaderSeen] = ()
    schedulers: Sequence[SchedulerSeen] = ()
    weights: Sequence[WeightsSeen] = ()
    metrics: Sequence[MetricSeen] = ()
    given: Sequence[LossGiven] = ()
    losses: Sequence[tuple[int, float | None]] = ()
    marked: int = 0
    retained: int = 0
    retained_at: Sequence[Where] = ()
    retained_by: str = ""
    kept_at: Sequence[Where] = ()
    grown: int = 0
    bare_evaluations: int = 0
    bare_awake: Sequence[str] = ()
    bare_at: Sequence[Where] = ()
    seeded: bool = False
    gpu_idle: bool = False
    gpu_present: bool = False
    notebook: bool = False
    cells_back: Sequence[tuple[int, int]] = ()
    whole: bool = True
    failure: str = ""
