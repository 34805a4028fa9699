"""Where the pipeline has no validation split: a part of the training data, held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline

HELD_OUT = 0.2  # share of the training samples; the usual 80/20
MIN_SAMPLES = 10  # below, a held-out part says nothing


def with_validation(pipeline: Pipeline, seed: int) -> str:
    """Give ``pipeline`` a validation split if it has none; a sentence on what was done, empty if nothing was.

    The split depends on ``seed`` and the number of samples alone, so evaluation finds what training left out.
    """
    if pipeline.val is not None:
        return ""
    loader = pipeline.train
    if not _can_be_split(loader):
        return (
            "There is no validation split, and the training loader cannot be divided: only training figures are known."
        )
    assert isinstance(loader, DataLoader)
    total = len(loader.dataset)  # type: ignore[arg-type]
    if total < MIN_SAMPLES:
        return f"There is no validation split, and {total} training samples are too few to hold some out."
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).tolist()
    held = max(1, round(total * HELD_OUT))
    pipeline.val = _like(loader, sorted(order[:held]), train=False)
    pipeline.train = _like(loader, sorted(order[held:]), train=True)
    return (
        f"There is no validation split: {held:,} of {total:,} training samples, chosen at random under seed {seed}, "
        "were held out (with the augmentation of the training data, if any)."
    )


def _can_be_split(loader: Any) -> bool:
    if not isinstance(loader, DataLoader) or loader.batch_size is None or isinstance(loader.dataset, IterableDataset):
        return False
    if type(loader.batch_sampler) is not BatchSampler or not hasattr(loader.dataset, "__len__"):
        return False
    sampler = loader.sampler
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(loader.dataset)
    return type(sampler) is SequentialSampler


def _like(loader: DataLoader[Any], indices: list[int], *, train: bool) -> DataLoader[Any]:
    """A loader as the given one, over a part of its data set."""
    return rebuilt(
        loader,
        dataset=Subset(loader.dataset, indices),
        batch_size=loader.batch_size,
        shuffle=train and isinstance(loader.sampler, RandomSampler),
        drop_last=train and loader.drop_last and len(indices) >= (loader.batch_size or 1),
        generator=loader.generator if train else None,
    )


def rebuilt(loader: DataLoader[Any], **changes: Any) -> DataLoader[Any]:
    """A loader with the workers, collation and memory settings of the given one."""
    workers: dict[str, Any] = {}
    if loader.num_workers:
        workers = {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
            "multiprocessing_context": loader.multiprocessing_context,
        }
    kept: dict[str, Any] = {
        "dataset": loader.dataset,
        "num_workers": loader.num_workers,
        "collate_fn": loader.collate_fn,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "generator": loader.generator,
    }
    return DataLoader(**{**kept, **workers, **changes})
