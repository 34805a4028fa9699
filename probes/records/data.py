"""What the loaders yield: a bounded scan of a split, and a few items of it read twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from probes.records.forward import Failure


@dataclass(frozen=True)
class Scan:
    """A bounded scan of one split, as its loader yields it.

    ``seen`` samples of ``total`` (None: unknown length) in ``batches`` batches; ``complete`` if all were seen.
    ``input_*`` describe the first input tensor. ``labels`` are integer class labels in the order seen (flattened for
    dense targets, capped), or empty; ``label_*`` hold for any numeric target. ``hashes`` identify samples by content,
    in the order seen; ``batch_sizes`` per batch. ``nonfinite`` / ``constant`` are positions (in order seen) of
    samples that hold NaN or Inf / one single value. ``sample_mean`` and ``sample_std`` are those of each sample's
    first input, for floating inputs. ``shuffles``, ``replacement``, ``weighted`` and ``planned`` (samples that an epoch
    draws) describe the sampler, None where it does not tell. ``dataset`` is class and folder of the innermost data
    set, ``dataset_size`` its length. ``failure`` is set if reading raised.
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
    target_shape: tuple[int, ...] = ()
    target_dtype: str = ""
    label_min: float | None = None
    label_max: float | None = None
    label_mean: float | None = None
    label_std: float | None = None
    labels: Sequence[int] = ()
    hashes: Sequence[int] = ()
    nonfinite: Sequence[int] = ()
    constant: Sequence[int] = ()
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


@dataclass(frozen=True)
class Reread:
    """A few items of a split's data set, each read twice. ``changed``: those that differed; ``distinct``: different
    items among the first readings."""

    split: str
    items: int
    changed: int
    distinct: int
