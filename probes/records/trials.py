"""Short trainings: their learning curves, and the comparisons made of them.

Not here: the full training, whose rows are plain mappings (see ``Context.history``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from probes.results import Where


@dataclass(frozen=True)
class Point:
    """A look at a training run after ``step`` steps: means over a fixed sample of each split, in eval mode.

    ``lr``: the largest learning rate in force; ``seconds``: since the training began.
    """

    step: int
    train_loss: float
    train_score: float | None
    val_loss: float | None = None
    val_score: float | None = None
    lr: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Trace:
    """One short training.

    ``losses`` are the training losses per step as the pipeline computes them; ``points`` looks in eval mode. ``floor``
    is the lowest loss that the targets allow, ``constant`` the loss of the best constant prediction (chance), both
    None if unknown for the task. ``chance`` is the score of always guessing the most common class; scores are
    accuracies, or None for tasks without one. ``samples``/``val_samples`` say over how many a look goes. ``stopped``:
    "learned", "memorised", "steps" or "nonfinite". ``share``: the part of the gap from ``constant`` to ``floor`` that
    the last look had closed on training samples. ``outcome``: learns, slow (above chance, but hardly), stuck, nonfinite
    or unknown; ``falling``: whether the loss still fell in its last third. ``predicted_share``: the share of look
    samples that got the most common prediction (class tasks); ``val_predicted``/``val_labels``: class by class on
    validation samples. ``reestimated``: the last look with fresh statistics in every batch norm, if there is one.
    ``trained_on``: different samples that the trial drew from, in ``steps_per_epoch`` batches.
    """

    name: str
    seed: int
    steps: int
    losses: Sequence[float]
    points: Sequence[Point]
    floor: float | None
    constant: float | None
    chance: float | None
    samples: int
    val_samples: int
    classes: int | None
    stopped: str
    seconds: float
    share: float | None = None
    outcome: str = "unknown"
    falling: bool = False
    above_chance: bool | None = None
    val_above_chance: bool | None = None
    predicted_share: float | None = None
    trained_on: int | None = None
    steps_per_epoch: int | None = None
    val_predicted: Sequence[int] = ()
    val_labels: Sequence[int] = ()
    reestimated: Point | None = None


@dataclass(frozen=True)
class Reference:
    """A training of the user's model on reference data. ``source`` names the data; ``reason`` why it was impossible."""

    source: str
    trace: Trace
    threshold: float


@dataclass(frozen=True)
class Arm:
    """One change over the seeds. ``outcomes``: learns, slow, stuck, nonfinite or unknown; ``shares``: the part of the
    gap from chance to the floor that was closed; ``size`` orders changes, the mildest first; ``factors``: what the
    change multiplies, by group; ``signal``: cosine between the gradients of two passes over the same batch at the start
    (1: free of noise), or None; ``where``: the lines that are changed, as far as they are known."""

    key: str
    label: str
    size: float
    traces: Sequence[Trace]
    outcomes: Sequence[str]
    shares: Sequence[float | None]
    factors: Mapping[str, float] = field(default_factory=dict)
    signal: float | None = None
    where: Sequence[Where] = ()


@dataclass(frozen=True)
class Crossing:
    """Two changes that both repair, alone and together, over the seeds, for ``steps`` steps each: shares of the way
    from guessing to the floor. ``explains``: the second adds nothing once the first is made, and does less alone."""

    first: str
    second: str
    first_alone: Sequence[float]
    second_alone: Sequence[float]
    both: Sequence[float]
    explains: bool
    steps: int


@dataclass(frozen=True)
class Boundary:
    """Labels of the mildest change of a graded setting that was found to repair, and of the strongest that was not;
    the latter empty where all that were tried repair. Each was given at most ``steps`` steps."""

    learns: str
    fails: str
    steps: int


@dataclass(frozen=True)
class Ablation:
    """A knob turned. ``repaired``: key of the mildest arm that learns in the majority of seeds, or None; ``proved``:
    the control failed in the majority of seeds as well. Each arm was given at most ``steps`` steps.

    ``given``: labels of changes to other knobs under which control and arms were run, because no single change repairs.
    ``explained_by``: label of another change that leaves this one nothing to repair; ``rivals``: labels of changes that
    repair as well and could not be told apart from this one. ``unusual``: the value that the user has lies outside of
    what is usual for the knob, as far as that is known. ``holds_back``: the training that another change repaired.
    ``boundary``: how mild the repair may be, where that was asked for. ``crossings``: its repair and others, alone and
    together. ``waited``: a trial of several times the steps, in which the unchanged pipeline did not learn either; None
    where no longer run is planned. ``cut``: why a comparison on purpose holds finished trials only."""

    knob: str
    control: Arm
    arms: Sequence[Arm]
    repaired: str | None
    proved: bool
    steps: int
    seeds: int
    given: Sequence[str] = ()
    explained_by: str = ""
    rivals: Sequence[str] = ()
    unusual: bool = False
    holds_back: bool = False
    boundary: Boundary | None = None
    crossings: Sequence[Crossing] = ()
    waited: Trace | None = None
    cut: str = ""

    @property
    def repairing(self) -> Arm | None:
        return next((arm for arm in self.arms if arm.key == self.repaired), None)


@dataclass(frozen=True)
class Relief:
    """A training that learns, over the seeds, as it is and with one unusual setting at a usual value, which does much
    better with every seed. Each trial took ``steps`` steps; where another batch size makes as many epochs of other
    lengths, ``steps_after`` with the usual one. ``given``: labels of the changes that made it learn. ``decisive``: with
    every seed it gets hardly anywhere as it is, and most of the way otherwise, or it leaves at least twice as much to
    learn, and the planned run will not make up for it. ``in_use``: the value is slow, but one that many trainings take,
    so that it is no more than a note."""

    knob: str
    before: Arm
    after: Arm
    steps: int
    given: Sequence[str] = ()
    decisive: bool = False
    steps_after: int | None = None
    in_use: bool = False


@dataclass(frozen=True)
class LearningRateRange:
    """One training under a growing learning rate: ``losses`` of its steps, ``smooth`` their running mean. ``now``: the
    user's largest rate. ``suggested``: None where the loss never fell; ``diverges``: where it blew up, if it did."""

    rates: Sequence[float]
    losses: Sequence[float]
    smooth: Sequence[float]
    now: float
    suggested: float | None
    diverges: float | None


@dataclass(frozen=True)
class Search:
    """Which changes repair a pipeline that does not learn. ``ablations`` by knob or part, ``skipped`` with the reason.

    ``everything``: all of them replaced at once, where no single setting repairs; ``minimal``: the knobs and parts of
    it that cannot be spared. ``further``: settings that hold it back once it is repaired, by knob. ``cut``: how the
    time budget ended it early, or empty. ``slow_start``: what shows that it learns by itself, only later; empty where
    it learns at once, or not at all."""

    control: Arm | None
    ablations: Mapping[str, Ablation]
    skipped: Mapping[str, str]
    crossings: Sequence[Crossing] = ()
    everything: Arm | None = None
    minimal: Sequence[str] = ()
    further: Mapping[str, Relief] = field(default_factory=dict)
    cut: str = ""
    slow_start: str = ""


@dataclass(frozen=True)
class DropoutSite:
    """One place that drops. ``group``: "feature maps" (the input has a spatial extent), "head" (vectors), "sequence",
    "attention", "recurrent" or "drop-path"; ``key``: the module path, or file:line of a functional call."""

    key: str
    kind: str
    p: float
    group: str
    where: Sequence[Where] = ()
