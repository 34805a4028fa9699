"""A bounded scan of a split, exactly as its loader yields it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import Batch, first_tensor, input_tensors, understand
from diagnose.measure.items import alone, root_facts, sampler_facts
from diagnose.measure.table import RowCollector
from diagnose.rng import loader_untouched, seeded
from diagnose.user_code import UserCodeError, user_code
from probes.records.data import Scan
from probes.records.forward import Failure

if TYPE_CHECKING:
    from torch import Tensor

MAX_SAMPLES = 10_000  # per split
MAX_SECONDS = 12.0  # per split; a scan cut short says what share it saw
MIN_WAITS = 5  # batches, below which their typical cost is not known
MAX_LABELS = 200_000  # elements of dense targets that are kept


@dataclass
class _Sums:
    """Running moments per channel (dim 1 of the first input; one channel for flat inputs)."""

    count: float = 0.0
    total: Tensor | None = None
    squares: Tensor | None = None
    low: float = float("inf")
    high: float = float("-inf")
    lows: Tensor | None = None
    highs: Tensor | None = None

    def add(self, x: Tensor) -> None:
        value = x.double()
        value = torch.where(torch.isfinite(value), value, torch.zeros_like(value))
        self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))
        flat = value.transpose(0, 1).flatten(1) if value.ndim > 2 else value.reshape(1, -1)
        total, squares = flat.sum(1), (flat * flat).sum(1)
        lows, highs = flat.amin(1), flat.amax(1)
        if self.total is None or self.squares is None or self.lows is None or self.highs is None:
            self.total, self.squares, self.lows, self.highs = total, squares, lows, highs
        elif len(self.total) == len(total):
            self.total, self.squares = self.total + total, self.squares + squares
            self.lows, self.highs = torch.minimum(self.lows, lows), torch.maximum(self.highs, highs)
        self.count += flat.shape[1]

    def moments(self) -> tuple[list[float], list[float]]:
        if self.total is None or self.squares is None or not self.count:
            return [], []
        mean = self.total / self.count
        std = (self.squares / self.count - mean * mean).clamp_min(0).sqrt()
        return mean.tolist(), std.tolist()


@dataclass
class _Seen:
    """What has been seen so far."""

    samples: int = 0
    batch_sizes: list[int] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    inputs: _Sums = field(default_factory=_Sums)
    targets: _Sums = field(default_factory=_Sums)
    labels: list[int] = field(default_factory=list)
    quantities: bool = False
    hashes: list[int] = field(default_factory=list)
    nonfinite: list[int] = field(default_factory=list)
    undefined: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    constant: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)  # samples of one token that is repeated, and padding
    padded_values: set[int] = field(default_factory=set)
    means: list[float] = field(default_factory=list)
    stds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    rows: RowCollector = field(default_factory=RowCollector)
    first: tuple[tuple[int, ...], str, tuple[int, ...], str] = ((), "", (), "")


def scan(loader: Any, split: str, seed: int, max_samples: int = MAX_SAMPLES, *, full: bool = False) -> Scan:
    """Reads up to ``max_samples`` samples, or all. A failure while reading is part of the result, after what was read.

    ``full``: without any limit.
    """
    seen = _Seen()
    total_batches = batch_count(loader)
    started = time.monotonic()
    failure: Failure | None = None
    ended = False
    with seeded(seed), loader_untouched(loader):
        try:
            with user_code("reading data"):
                iterator = iter(loader)
            while True:
                asked = time.monotonic()
                with user_code("reading data"):
                    raws = list(islice(iterator, 1))
                seen.waits.append(time.monotonic() - asked)
                if not raws:
                    ended = True
                    break
                _add(seen, raws[0])
                if not full and (seen.samples >= max_samples or time.monotonic() - started > MAX_SECONDS):
                    break
        except UserCodeError as error:
            from diagnose.measure.attempt import failure_of

            failure = failure_of(error)
    return _result(loader, split, seen, total_batches, ended, failure)


def _add(seen: _Seen, raw: Any) -> None:
    batch = understand(raw)
    tensor = first_tensor((batch.inputs, batch.kwargs))
    target = batch.target if isinstance(batch.target, torch.Tensor) else None
    if not seen.batch_sizes:
        seen.first = (
            () if tensor is None else tuple(tensor.shape),
            "" if tensor is None else str(tensor.dtype).removeprefix("torch."),
            () if target is None else tuple(target.shape),
            type(batch.target).__name__ if target is None else str(target.dtype).removeprefix("torch."),
        )
    usable = tensor is not None and tensor.numel() > 0 and not tensor.is_complex()
    given = [x for x in input_tensors(batch) if not x.is_complex()]
    seen.rows.add(given if usable else [], _cpu(target), batch.size)
    if tensor is not None and usable:
        _add_inputs(seen, tensor.detach().cpu(), batch.size)
        if sum(x.shape == tensor.shape for x in given) == 1:  # else a mask may come first, and the tokens after it
            _add_padded(seen, tensor.detach().cpu(), batch.size)
        _add_undefined(seen, given[1:], batch.size)
        _add_hashes(seen, batch)
    if target is not None and target.numel() and not target.is_complex():
        _add_targets(seen, target.detach().cpu(), batch.size)
    seen.batch_sizes.append(batch.size)
    seen.samples += batch.size


def _cpu(target: Tensor | None) -> Tensor | None:
    return None if target is None else target.detach().cpu()


def _add_inputs(seen: _Seen, x: Tensor, size: int) -> None:
    seen.shapes[str(tuple(x.shape[1:]))] += size
    seen.inputs.add(x if x.ndim > 1 else x.unsqueeze(1))
    if x.ndim == 0 or len(x) != size:
        return
    rows = x.reshape(size, -1)
    if x.is_floating_point():
        bad = ~torch.isfinite(rows).all(1)
        seen.nonfinite += [seen.samples + int(i) for i in bad.nonzero().flatten()]
        seen.means += rows.double().mean(1).tolist()
        seen.stds += rows.double().std(1, correction=0).tolist()
    if rows.shape[1] > 1:
        flat = (rows == rows[:, :1]).all(1)
        seen.constant += [seen.samples + int(i) for i in flat.nonzero().flatten()]


def _add_padded(seen: _Seen, x: Tensor, size: int) -> None:
    """Rows of whole numbers that change their value no more than once, as one token and the padding after it do."""
    if x.is_floating_point() or x.dtype in (torch.bool, torch.uint8) or x.ndim != 2 or len(x) != size:
        return
    single = (x[:, 1:] != x[:, :-1]).sum(1) <= 1
    seen.padded += [seen.samples + int(i) for i in single.nonzero().flatten()]
    seen.padded_values |= set(x[single].flatten().tolist())


def _all_padded(seen: _Seen) -> bool:
    """Whether all samples are made of the same token and padding, so that only their length tells them apart."""
    return len(seen.padded) == seen.samples and len(seen.padded_values) == 2


def _add_undefined(seen: _Seen, others: Sequence[Tensor], size: int) -> None:
    """Samples with NaN in an input beside the first; infinity may be meant there, as in a mask that is added."""
    for x in others:
        if x.is_floating_point() and x.ndim and len(x) == size:
            bad = torch.isnan(x.detach().cpu().reshape(size, -1)).any(1).nonzero().flatten()
            if len(bad):
                seen.undefined.setdefault(tuple(x.shape[1:]), []).extend(seen.samples + int(i) for i in bad)


def _add_hashes(seen: _Seen, batch: Batch) -> None:
    parts = [x.reshape(batch.size, -1).contiguous().view(torch.uint8) for x in input_tensors(batch)]
    if parts:
        seen.hashes += _hashes(torch.cat(parts, 1))


def _hashes(rows: Tensor) -> list[int]:
    """One per row, by its bytes: numpy knows no bfloat16."""
    return [
        int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=7).digest(), "big")
        for row in rows.contiguous().view(torch.uint8).numpy()
    ]


def hashes_alone(loader: Any, seed: int) -> list[int]:
    """Of the first samples of an IterableDataset, read in this process, as the scan would take them."""
    found: list[int] = []
    for item in alone(loader, seed):
        tensor = first_tensor(item)
        if tensor is not None and tensor.numel():
            found += _hashes(tensor.detach().cpu().reshape(1, -1))
    return found


def _add_targets(seen: _Seen, target: Tensor, size: int) -> None:
    seen.targets.add(target.reshape(-1, 1).float() if target.dtype == torch.bool else target.reshape(-1, 1))
    if target.is_floating_point() and not _answers_yes_or_no(target, size):
        seen.quantities = True
    if not seen.quantities and len(seen.labels) < MAX_LABELS:
        seen.labels += target.reshape(-1).long().tolist()[: MAX_LABELS - len(seen.labels)]


def _answers_yes_or_no(target: Tensor, size: int) -> bool:
    """Whether real numbers are the labels of two classes, one per sample."""
    return target.numel() == size and bool(((target == 0) | (target == 1)).all())


def batch_count(loader: Any) -> int | None:
    """Batches per epoch, None where the loader does not tell."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def total_samples(loader: Any) -> int | None:
    """Samples of a loader's data set, where it tells."""
    dataset = getattr(loader, "dataset", None)
    try:
        return len(dataset) if dataset is not None else None
    except (TypeError, NotImplementedError):
        return None


def _result(
    loader: Any, split: str, seen: _Seen, total_batches: int | None, ended: bool, failure: Failure | None
) -> Scan:
    channel_mean, channel_std = seen.inputs.moments()
    target_mean, target_std = seen.targets.moments()
    overall_mean = sum(channel_mean) / len(channel_mean) if channel_mean else 0.0
    variance = (
        sum(s * s + (m - overall_mean) ** 2 for m, s in zip(channel_mean, channel_std, strict=True)) / len(channel_mean)
        if channel_mean
        else 0.0
    )
    shape, dtype, target_shape, target_dtype = seen.first
    return Scan(
        split=split,
        seen=seen.samples,
        total=total_samples(loader),
        batches=len(seen.batch_sizes),
        total_batches=total_batches,
        complete=ended and failure is None,
        batch_sizes=tuple(seen.batch_sizes),
        input_shape=shape,
        shapes=dict(seen.shapes.most_common(20)),
        input_dtype=dtype,
        input_min=seen.inputs.low if seen.inputs.count else 0.0,
        input_max=seen.inputs.high if seen.inputs.count else 0.0,
        input_mean=overall_mean,
        input_std=variance**0.5,
        channel_mean=tuple(channel_mean),
        channel_std=tuple(channel_std),
        channel_min=() if seen.inputs.lows is None else tuple(seen.inputs.lows.tolist()),
        channel_max=() if seen.inputs.highs is None else tuple(seen.inputs.highs.tolist()),
        target_shape=target_shape,
        target_dtype=target_dtype,
        label_min=seen.targets.low if seen.targets.count else None,
        label_max=seen.targets.high if seen.targets.count else None,
        label_mean=target_mean[0] if target_mean else None,
        label_std=target_std[0] if target_std else None,
        labels=() if seen.quantities else tuple(seen.labels),
        hashes=tuple(seen.hashes),
        nonfinite=tuple(seen.nonfinite),
        undefined=seen.undefined,
        constant=tuple(seen.constant),
        one_token=_all_padded(seen),
        workers=int(getattr(loader, "num_workers", 0) or 0),
        failure=failure,
        sample_mean=tuple(seen.means),
        sample_std=tuple(seen.stds),
        rows=seen.rows.rows(),
        seconds_per_batch=median(seen.waits[1:-1]) if len(seen.waits) > MIN_WAITS else None,
        **sampler_facts(loader),
        **root_facts(loader),
    )
