"""Knobs of the data: inputs and targets on a usual scale, random augmentation off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from diagnose.batches import first_tensor, map_tensors, understand
from diagnose.experiments import reference
from diagnose.experiments.change import Change, Reading
from diagnose.measure import association, items
from diagnose.user_code import UserCodeError, is_user_file, place
from probes.api import Skip
from probes.results import Where

if TYPE_CHECKING:
    from torch import Tensor

    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline

FLAGS = ("augment", "augmentation", "train", "training", "is_train", "random", "aug")
TRANSFORMS = ("transform", "transforms", "augmentation", "augment", "tf")
CHECKED = 32  # items whose targets must stay
SWAP_SAMPLES = 1_000
SWAP_EACH = 10  # samples of a class
SWAPPED = 0.2  # share of a class that turns into one other, beyond those that look like it anyway
SWAPPED_BACK = 0.12  # share of that other class that turns into the first
CHAINS = ("transforms", "steps", "ops")  # where a Compose of torchvision's kind keeps its members
RANDOM_WORDS = ("random", "jitter", "augment", "mixup", "cutmix", "elastic", "erasing", "noise")


def inputs(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Every input column (or channel) brought to mean 0 and standard deviation 1."""
    tensor = first_tensor((ctx.batch().inputs, ctx.batch().kwargs))
    if tensor is None or not tensor.is_floating_point() or tensor.ndim < 2:
        raise Skip("the inputs are not real numbers")
    mean, std = _moments(ctx, tensor)

    def standardised(raw: Any) -> Any:
        mine = understand(raw)
        wanted = first_tensor((mine.inputs, mine.kwargs))
        return map_tensors(raw, lambda x: (x - mean) / std if x is wanted else x)

    return [Change("standardised inputs", "standardised inputs", 1.0, reading=Reading(each=standardised))]


def labels(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Every sample with the target of another one of its batch: what is learned then is not the labels."""
    target = ctx.batch().target
    if not isinstance(target, torch.Tensor) or target.ndim == 0:
        raise Skip("there is no single target tensor")

    def exchanged(raw: Any) -> Any:
        wanted = understand(raw).target
        return map_tensors(raw, lambda x: x.roll(1, 0) if x is wanted else x)

    return [Change("labels exchanged", "labels exchanged within each batch", 1.0, reading=Reading(each=exchanged))]


def reference_data(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Reference images in place of the user's data, of their shape and scale."""
    samples, source = reference.samples_like(ctx)
    return [Change("reference data", f"reference data, {source}", 1.0, reading=Reading(samples=lambda: samples))]


def _moments(ctx: MeasuringContext, like: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel of (N, C, ...), per column of (N, F); from the scan."""
    scan = ctx.scan("train")
    if like.ndim == 3 and not any(isinstance(m, torch.nn.Conv1d) for m in ctx.pipeline.model.modules()):
        if scan.rows is None or scan.rows.features.shape[1] < like[0].numel():
            raise Skip("the sequences are of many lengths")
        places = scan.rows.features[:, : like[0].numel()].reshape(-1, like.shape[-1])  # (N, L, F)
        mean, std = places.mean(0), places.std(0)
    elif like.ndim > 2:
        mean, std = torch.tensor(scan.channel_mean), torch.tensor(scan.channel_std)
        shape = (1, -1, *(1,) * (like.ndim - 2))
        if len(mean) != like.shape[1]:
            raise Skip("the inputs are of many shapes")
        mean, std = mean.reshape(shape), std.reshape(shape)
    else:
        if scan.rows is None:
            raise Skip("the samples do not make a table")
        own = scan.rows.features[:, : like.shape[1]]  # the first input's columns; those of others follow
        mean, std = own.mean(0, keepdim=True), own.std(0, keepdim=True)
    return mean.to(like.dtype), torch.where(std > 0, std, torch.ones_like(std)).to(like.dtype)


def targets(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Every target column brought to mean 0 and standard deviation 1."""
    scan = ctx.scan("train")
    if ctx.facts.task != "regression" or scan.rows is None:
        raise Skip("the targets are not numbers to predict")
    found = scan.rows.targets.float()
    mean, std = found.mean(0), found.std(0)
    if not bool((std > 0).all()):
        raise Skip("a target is constant")

    def standardised(raw: Any) -> Any:
        target = understand(raw).target
        return map_tensors(raw, lambda x: ((x - mean) / std).to(x.dtype) if x is target else x)

    return [Change("standardised targets", "standardised targets", 1.0, reading=Reading(each=standardised))]


def augmentation(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """The training data set read with the transforms of the validation data set, or without random ones."""
    if not ctx.reread("train").changed:
        raise Skip("the training data are not augmented at random")
    undo = _plain_reading(ctx.pipeline)
    if undo is None:
        raise Skip("the augmentation is not in a transform that could be switched off")

    @contextmanager
    def off(pipeline: Pipeline) -> Iterator[None]:
        undo(True)
        try:
            yield
        finally:
            undo(False)

    where = augmented_at(ctx.pipeline)
    return [Change("no augmentation", "no random augmentation", 1.0, off, reading=Reading(plainly=undo), where=where)]


def augmented_at(pipeline: Pipeline) -> tuple[Where, ...]:
    """The line of the user's own where the random transform begins, else where the data set that applies it reads an
    item; empty where neither is theirs."""
    for holder in _holders(getattr(pipeline.train, "dataset", None)):
        held = next((held for name in TRANSFORMS if (held := getattr(holder, name, None)) is not None), None)
        chain = next((m for name in CHAINS if isinstance(m := getattr(held, name, None), (list, tuple))), ())
        for code in map(_code, (*filter(_is_random, chain), held, type(holder).__getitem__)):
            if code is not None and is_user_file(code.co_filename):
                return (place(code.co_filename, code.co_firstlineno),)
    return ()


def _code(called: Any) -> CodeType | None:
    """Of a function, of ``forward`` of a module, or of what an object does when it is called."""
    if not hasattr(called, "__code__"):
        called = getattr(type(called), "forward" if isinstance(called, torch.nn.Module) else "__call__", None)
    code: CodeType | None = getattr(called, "__code__", None)
    return code


def plain_loader(pipeline: Pipeline) -> tuple[Any, Callable[[bool], None]] | None:
    """(a loader over the training data set in order, the switch under which it reads without augmentation); None where
    there is no such switch, or the loader draws from a part of the data set only."""
    loader, switch = pipeline.train, _plain_reading(pipeline)
    if switch is None or type(loader) is not DataLoader or loader.batch_size is None:
        return None
    if not isinstance(loader.sampler, (RandomSampler, SequentialSampler)):
        return None
    return DataLoader(loader.dataset, batch_size=loader.batch_size, collate_fn=loader.collate_fn), switch


def _plain_reading(pipeline: Pipeline) -> Callable[[bool], None] | None:
    """A switch that makes the training data set read without augmentation (True), and as before (False)."""
    train, val = (_holders(getattr(loader, "dataset", None)) for loader in (pipeline.train, pipeline.val))
    for holder in train:
        twin = next((other for other in val if type(other) is type(holder)), None)
        for name in (*TRANSFORMS, *FLAGS):
            if not hasattr(holder, name):
                continue
            now = getattr(holder, name)
            plain = getattr(twin, name) if twin is not None and twin is not holder else _without_random(now)
            if plain is not now and plain != now and (callable(now) or isinstance(now, (bool, list, tuple))):
                switch = _switch(holder, name, plain, now)
                if _keeps_samples(pipeline.train, switch):
                    return switch
    return None


def _keeps_samples(loader: Any, switch: Callable[[bool], None]) -> bool:
    """Whether the data set has the same length and targets under the switch: a flag named "train" may choose the split
    rather than the augmentation."""
    augmented, size = association.rows_of(items.in_order(loader, 0, CHECKED) or []), len(loader.dataset)
    switch(True)
    try:
        if len(loader.dataset) != size:
            return False
        plain = association.rows_of(items.in_order(loader, 0, CHECKED) or [])
    except UserCodeError:  # not what the data set is made for
        return False
    finally:
        switch(False)
    if augmented is None or plain is None:
        return False
    return augmented.targets.shape == plain.targets.shape and bool(torch.equal(augmented.targets, plain.targets))


def _switch(holder: Any, name: str, plain: Any, now: Any) -> Callable[[bool], None]:
    return lambda off: setattr(holder, name, plain if off else now)


def _holders(dataset: Any) -> list[Any]:
    """A data set and those that it wraps, the outermost first."""
    found: list[Any] = []
    while dataset is not None and len(found) < 8:
        found.append(dataset)
        dataset = getattr(dataset, "dataset", None)
    return found


def _without_random(transform: Any) -> Any:
    """A chain of transforms without its random members; the transform itself where it holds none in plain sight."""
    for name in CHAINS:
        members = getattr(transform, name, None)
        if isinstance(members, (list, tuple)):
            kept = [member for member in members if not _is_random(member)]
            if len(kept) == len(members):
                return transform
            plain = copy(transform)
            setattr(plain, name, type(members)(kept))
            return plain
    return transform


def _is_random(transform: Any) -> bool:
    name = getattr(transform, "__name__", type(transform).__name__).lower()
    return any(word in name for word in RANDOM_WORDS)


def augmentation_swaps(pipeline: Pipeline, seed: int) -> list[tuple[int, int, float]]:
    """(class, class that the nearest plain samples say, share of its augmented samples), the worst first."""
    from collections import Counter

    switch = _plain_reading(pipeline)
    if switch is None:
        raise Skip("the augmentation is not in a transform that could be switched off")
    augmented = association.rows_of(items.in_order(pipeline.train, seed, SWAP_SAMPLES) or [])
    switch(True)
    try:
        plain = association.rows_of(items.in_order(pipeline.train, seed, SWAP_SAMPLES) or [])
    finally:
        switch(False)
    if augmented is None or plain is None or augmented.features.shape != plain.features.shape:
        raise Skip("plain and augmented samples do not make tables alike")
    before, labels = association.across(plain, plain, own_left_out=True) or ([], [])
    after, _ = association.across(plain, augmented, own_left_out=True) or ([], [])
    sizes = Counter(labels)
    # (class, class that its augmented samples look like) -> share of it, beyond those that look so anyway
    looks: dict[tuple[int, int], float] = {}
    for label, size in sizes.items():
        seen = Counter(p for p, y in zip(after, labels, strict=True) if y == label and p != label)
        plainly = Counter(p for p, y in zip(before, labels, strict=True) if y == label)
        if size >= SWAP_EACH:
            looks |= {(int(label), int(other)): (count - plainly[other]) / size for other, count in seen.items()}
    # Noise and shifts pull all classes towards one; a flip swaps two of them.
    found = [
        (first, second, share)
        for (first, second), share in looks.items()
        if share >= SWAPPED and looks.get((second, first), 0.0) >= SWAPPED_BACK
    ]
    return sorted(found, key=lambda item: -item[2])
