"""Puts the recorder's ears into torch, and takes them out again. Nothing of the user's is touched."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer, lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader
from torch.utils.data import dataloader as loading

from diagnose.watch.patches import Heard, Patches, after, before
from diagnose.watch.recorder import Recorder

LOSSES = (
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "kl_div", "l1_loss",
    "mse_loss", "nll_loss", "smooth_l1_loss",
)  # fmt: skip


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """In the block the recorder hears what torch does, in this process alone: a fork goes on without it."""
    on = [True]
    os.register_at_fork(after_in_child=on.clear)
    with ExitStack() as stack:
        stack.callback(on.clear)
        stack.callback(recorder.window.close)
        stack.enter_context(recorder.log.recording(loads=False))
        patches = Patches(stack)
        heard = Heard(recorder, on)
        recorder.window.shielded = heard.safe
        _steps(heard.of(recorder.stepping), recorder, stack, on)
        _gradients(heard.of(recorder.stepping), patches)
        _loaders(heard.of(recorder.reading), patches)
        _weights(heard, patches)
        _outputs(heard, patches)
        _modes(heard, patches)
        yield


def _steps(heard: Heard, recorder: Recorder, stack: ExitStack, on: list[bool]) -> None:
    known, window = recorder.stepping.by_optimizer, recorder.window

    def begin(optimizer: Any, args: Any, kwargs: Any) -> Any:
        if not on or not (window.is_open or id(optimizer) not in known):
            return None
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(closure) or isinstance(closure, nn.Module):
            return heard.before_step(optimizer)
        heard.entered(optimizer)
        told = _first(closure, lambda: heard.before_step(optimizer))
        return ((args[0], told, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": told})

    def end(optimizer: Any, args: Any, kwargs: Any) -> None:
        if on:
            heard.after_step(optimizer)

    stack.callback(register_optimizer_step_pre_hook(begin).remove)
    stack.callback(register_optimizer_step_post_hook(end).remove)


def _first(closure: Callable[..., Any], note: Callable[[], None]) -> Callable[..., Any]:
    """The closure, with ``note`` after its first call: the gradients that the step begins with are made in it."""
    called: list[bool] = []

    @functools.wraps(closure)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = closure(*args, **kwargs)
        if not called:
            called.append(True)
            note()
        return result

    return call


def _gradients(heard: Heard, patches: Patches) -> None:
    def backward(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            begun = heard.before_backward(tensors)
            result = original(tensors, *args, **kwargs)
            if begun is not None:
                heard.after_backward(begun)
            return result

        return call

    clip: Any = torch.nn.utils.clip_grad
    measuring: list[bool] = []

    def norm(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            measuring.append(True)
            try:
                return original(*args, **kwargs)
            finally:
                measuring.pop()

        return call

    def zero(*args: Any, **kwargs: Any) -> None:
        if heard.recorder.window.is_open:
            heard.zeroed()

    def group(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if not measuring and tensors:
            heard.clipped(tensors[0])

    patches.put(torch.autograd, "backward", backward)
    patches.put(Optimizer, "__init__", after(lambda optimizer, *args, **kwargs: heard.optimizer_made(optimizer)))
    patches.put(Optimizer, "zero_grad", after(zero))
    patches.put(nn.Module, "zero_grad", after(zero))
    # Users may hold clip_grad_norm_ under another name already; what it calls inside is not.
    patches.put(clip, "_get_total_norm", norm)
    patches.put(clip, "_group_tensors_by_device_and_dtype", before(group))
    unscale = before(lambda scaler, optimizer: _unscale(heard, scaler, optimizer))
    patches.put(torch.amp.GradScaler, "unscale_", unscale)
    unscaled = after(lambda scaler, optimizer: heard.is_unscaled(getattr(optimizer, "optimizer", optimizer)))
    patches.put(torch.amp.GradScaler, "unscale_", unscaled)
    patches.put(torch.amp.GradScaler, "scale", before(lambda scaler, losses: _scale(heard, scaler)))


def _scale(heard: Heard, scaler: Any) -> None:
    if scaler.is_enabled():
        heard.scaled(scaler)


def _unscale(heard: Heard, scaler: Any, optimizer: Any) -> None:
    if scaler.is_enabled():
        heard.unscaled(getattr(optimizer, "optimizer", optimizer))


def _loaders(heard: Heard, patches: Patches) -> None:
    def following(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(iterator: Any) -> Any:
            frame = sys._getframe(2)
            try:
                data = original(iterator)
            except StopIteration:
                heard.exhausted(iterator)
                raise
            heard.batch(iterator, data, frame)
            return data

        return call

    def index(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(iterator: Any) -> Any:
            indices = original(iterator)
            heard.drew(iterator, indices)
            return indices

        return call

    def begin(iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        """Workers draw ahead while the iterator is made, or begins anew."""
        heard.iterator(iterator, loader)

    patches.put(DataLoader, "__init__", after(lambda loader, *args, **kwargs: heard.loader_made(loader)))
    for kind in (loading._SingleProcessDataLoaderIter, loading._MultiProcessingDataLoaderIter):
        patches.put(kind, "__init__", before(begin))
    patches.put(loading._MultiProcessingDataLoaderIter, "_reset", before(_again(heard)))
    patches.put(loading._BaseDataLoaderIter, "__next__", following)
    patches.put(loading._BaseDataLoaderIter, "_next_index", index)


def _again(heard: Heard) -> Callable[..., None]:
    def note(iterator: Any, loader: Any, first_iter: bool = False) -> None:
        if not first_iter:
            heard.iterator(iterator, loader)

    return note


def _weights(heard: Heard, patches: Patches) -> None:
    depth = [0]

    def state_dict(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(module: Any, *args: Any, **kwargs: Any) -> Any:
            depth[0] += 1
            try:
                state = original(module, *args, **kwargs)
            finally:
                depth[0] -= 1
            if not depth[0]:
                heard.took(module, state)
            return state

        return call

    def load(module: Any, state: Any, *args: Any, **kwargs: Any) -> None:
        depth[0] += 1  # the model's own state dict is taken to compare
        try:
            heard.loading(module, state)
        finally:
            depth[0] -= 1

    def save(saved: Any, *args: Any, **kwargs: Any) -> None:
        depth[0] += 1
        try:
            heard.saving(saved)
        finally:
            depth[0] -= 1

    def read(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            loaded = original(*args, **kwargs)
            heard.read(loaded)
            return loaded

        return call

    weights = heard.of(heard.recorder.weights)

    def restored(optimizer: Any, *args: Any, **kwargs: Any) -> None:
        weights.restored(optimizer)

    patches.put(nn.Module, "state_dict", state_dict)
    patches.put(nn.Module, "load_state_dict", before(load))
    patches.put(Optimizer, "load_state_dict", after(restored))
    patches.put(torch, "save", before(save))
    patches.put(torch, "load", read)


def _is_ours(frame: FrameType) -> bool:
    """Whether the call was made by the recorder itself, which takes accuracies too."""
    return str(frame.f_globals.get("__name__")).startswith("diagnose.")


def _outputs(heard: Heard, patches: Patches) -> None:
    def loss(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if not torch.is_grad_enabled():
                heard.evaluated(original.__name__, args, kwargs, result)
            else:
                heard.loss(original.__name__, args, kwargs, result)
            return result

        return call

    def argmax(given: Any, *args: Any, **kwargs: Any) -> None:
        if heard.recorder.window.is_open and not _is_ours(sys._getframe(2)):
            heard.argmax(given, args[0] if args else kwargs.get("dim"))

    def largest(given: Any, *args: Any, **kwargs: Any) -> None:
        """Without a dimension it is no choice of classes."""
        if (args or "dim" in kwargs) and heard.recorder.window.is_open and not _is_ours(sys._getframe(2)):
            heard.argmax(given, args[0] if args else kwargs["dim"])

    for name in LOSSES:
        patches.put(functional, name, loss)
    for owner in (torch, torch.Tensor):
        patches.put(owner, "argmax", before(argmax))
        patches.put(owner, "max", before(largest))


def _modes(heard: Heard, patches: Patches) -> None:
    depth = [0]

    def train(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(module: Any, mode: bool = True) -> Any:
            depth[0] += 1
            try:
                result = original(module, mode)
            finally:
                depth[0] -= 1
            if not depth[0]:
                heard.mode_call(mode)
            return result

        return call

    def seed(*args: Any, **kwargs: Any) -> None:
        heard.recorder.seeded = True

    patches.put(nn.Module, "train", train)
    patches.put(torch, "manual_seed", after(seed))
    patches.put(torch.random, "manual_seed", after(seed))
    _schedulers(heard, patches)


def _schedulers(heard: Heard, patches: Patches) -> None:
    inside: list[bool] = []

    def step(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
            initial = sys._getframe(2).f_code.co_name in {"_initial_step", "__init__"}
            if not inside and not initial:
                heard.scheduled(scheduler)
            inside.append(True)
            try:
                return original(scheduler, *args, **kwargs)
            finally:
                inside.pop()

        return call

    kinds = [k for k in vars(lr_scheduler).values() if isinstance(k, type) and issubclass(k, lr_scheduler.LRScheduler)]
    for kind in dict.fromkeys(kinds):
        if "step" in vars(kind):
            patches.put(kind, "step", step)
        if "load_state_dict" in vars(kind):
            patches.put(kind, "load_state_dict", after(lambda scheduler, *args, **kwargs: heard.rescheduled(scheduler)))
