"""What the loaders yield: a bounded scan of a split, and a few items of it read twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probes.records.forward import Failure

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Samples as rows: ``features`` (N, F) float32 (images averaged down, tokens as a bag), ``targets`` (N,) or (N, K),
    in the order seen; ``bag``: the features count tokens."""

    features: Tensor
    targets: Tensor
    bag: bool = False


@dataclass(frozen=True)
class Scan:
    """A bounded scan of one split, as its loader yields it.

    ``seen`` samples of ``total`` (None: unknown length) in ``batches`` batches; ``complete`` if all were seen.
    ``input_*`` describe the first input tensor. ``labels`` are integer class labels, or one real 0 or 1 per sample, in
    the order seen (flattened for dense targets, capped), or empty; ``label_*`` hold for any numeric target. ``hashes``
    identify samples by content, in the order seen; ``batch_sizes`` per batch. ``nonfinite`` / ``constant`` are
    positions (in order seen) of samples whose first input holds NaN or Inf / one single value (padding apart, in rows
    of tokens); ``undefined`` those that hold NaN in another one, by its shape. ``one_token``: all inputs seen are of
    the same two whole numbers, of which each sample holds one after the other: one token and padding.
    ``sample_mean`` and ``sample_std`` are those of each sample's first input, for floating inputs. ``shuffles``,
    ``replacement``, ``weighted`` and ``planned`` (samples that an epoch draws) describe the sampler, None where it
    does not tell. ``dataset`` is class and folder of the innermost data set, ``dataset_size`` its length.
    ``iterable``: it is an IterableDataset. ``normalisations``: (mean, std) of each torchvision Normalize that its
    transforms hold. ``rows``: samples as a table, None where they do not make one. ``seconds_per_batch``: typical
    wait for a batch after the first.
    ``failure`` is set if reading raised.
    """

    split: str
    seen: int
    total: int | None
    batches: int
    total_batches: int | None
    complete: bool
    batch_sizes: Sequence[int] = ()
    input_shape: tuple[int, ...] = ()
    shapes: Mapping[str, int] = field(default_factory=dict)
    input_dtype: str = ""
    input_min: float = 0.0
    input_max: float = 0.0
    input_mean: float = 0.0
    input_std: float = 0.0
    channel_mean: Sequence[float] = ()
    channel_std: Sequence[float] = ()
    channel_min: Sequence[float] = ()
    channel_max: Sequence[float] = ()
    target_shape: tuple[int, ...] = ()
    target_dtype: str = ""
    label_min: float | None = None
    label_max: float | None = None
    label_mean: float | None = None
    label_std: float | None = None
    labels: Sequence[int] = ()
    hashes: Sequence[int] = ()
    nonfinite: Sequence[int] = ()
    undefined: Mapping[tuple[int, ...], Sequence[int]] = field(default_factory=dict)
    constant: Sequence[int] = ()
    one_token: bool = False
    workers: int = 0
    shuffles: bool | None = None
    failure: Failure | None = None
    sample_mean: Sequence[float] = ()
    sample_std: Sequence[float] = ()
    replacement: bool | None = None
    weighted: bool = False
    planned: int | None = None
    dataset: str = ""
    dataset_size: int | None = None
    iterable: bool = False
    normalisations: Sequence[tuple[Sequence[float], Sequence[float]]] = ()
    rows: Rows | None = None
    seconds_per_batch: float | None = None


@dataclass(frozen=True)
class Reread:
    """A few items of a split's data set, each read twice. ``changed``: those that differed; ``distinct``: different
    items among the first readings; ``corrupted``: those of the changed that hold what they were before as their target
    (noise that is to be taken out, tokens that are to be found)."""

    split: str
    items: int
    changed: int
    distinct: int
    corrupted: int = 0


@dataclass(frozen=True)
class WorkerDraws:
    """The generators that reading an item ``used``, by name ("numpy.random", "torch", "Images.rng"), and those of
    them that began in the same state in two workers, or in two epochs."""

    workers: int
    used: Sequence[str]
    same_in_workers: Sequence[str]
    same_in_epochs: Sequence[str]


@dataclass(frozen=True)
class NearCopies:
    """Of ``samples``, those that are all but equal to another: ``count``, the first ``pairs`` of positions in the order
    seen, and their typical ``distance`` in units of that to samples that are unrelated."""

    samples: int
    count: int = 0
    pairs: Sequence[tuple[int, int]] = ()
    distance: float = 0.0


@dataclass(frozen=True)
class Turned:
    """Score of the nearest neighbours in train (accuracy, for numbers the correlation): ``within`` train
    (cross-validated), on val ``as_given``, and ``best`` after the change ``how`` ("" if none helped), which makes the
    prediction better for ``gains`` samples and worse for ``losses``."""

    within: float
    as_given: float
    how: str = ""
    best: float = 0.0
    gains: int = 0
    losses: int = 0


@dataclass(frozen=True)
class Association:
    """How well simple predictors (nearest neighbours, a linear model, trees) tell the target from the input, by
    cross-validation on ``samples`` of the training split.

    ``scores``: accuracy of each, or for numbers the correlation of prediction and target. ``chance``: the accuracy of
    always guessing the most common class (0 for numbers); ``limit``: the score that a guesser stays below with 99.9 %.
    ``agreement``: for the nearest neighbours, by sample in the order seen, the share of the most common label among
    them; ``predicted``: that label; both empty for numbers.
    """

    samples: int
    classes: int
    scores: Mapping[str, float]
    chance: float
    limit: float
    labels: Sequence[int] = ()
    agreement: Sequence[float] = ()
    predicted: Sequence[int] = ()

    @property
    def best(self) -> float:
        return max(self.scores.values(), default=0.0)

    @property
    def related(self) -> bool:
        return self.best > self.limit
