"""What the model puts out in eval mode: twice on one batch, and after a change of its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import map_tensors, to_device
from diagnose.measure.recorder import plain
from diagnose.measure.sensitivity import JITTER, disturb
from diagnose.training.metrics import main_output
from diagnose.training.step import Engine, Forwarded
from diagnose.user_code import UserCodeError, user_code
from probes.api import Skip
from probes.records.forward import AsBuilt, Attempt, Outputs

if TYPE_CHECKING:
    from torch import Tensor


def forward(engine: Engine, raw: Any) -> Forwarded:
    """The model on a batch: by way of the loss where only the user's own function knows how to call the model."""
    if engine.pipeline.compute_loss is not None:
        return engine.loss(raw)
    try:
        with torch.no_grad():
            return engine.forward(raw)
    except UserCodeError as error:
        if engine.pipeline.train_step is None:
            raise
        raise Skip("only the pipeline's own train_step knows how to call the model") from error


def outputs(engine: Engine, raw: Any, called: Attempt | None = None) -> Outputs:
    """Of the model as built; then, where it keeps nothing of what it sees, disturbed, as which it is left. Raises Skip
    where it returns no tensor."""
    engine.model.eval()
    state = _state(engine)
    first, again = _output(engine, raw), _output(engine, raw)
    stirred = None
    if state == _state(engine) and first.shape == again.shape and torch.equal(first, again):
        disturb(engine.model, JITTER)
        with suppress(Skip):  # whoever asks for it meets the reason
            stirred = changed_output(engine, raw, None, called=called)
    return Outputs(first, again, stirred)


def _output(engine: Engine, raw: Any) -> Tensor:
    done = forward(engine, raw)
    if done.main is None:
        raise Skip(f"the model returns no tensor but {type(done.output).__name__}")
    return plain(done.main).float()


def _state(engine: Engine) -> list[tuple[int, int]]:
    """Changes with every change in place, and every exchange, of a parameter or a buffer."""
    held = (*engine.model.parameters(), *engine.model.buffers())
    return [(id(x), 0 if x.is_inference() else x._version) for x in held]


def changed_output(
    engine: Engine,
    raw: Any,
    change: Callable[[Sequence[Any]], Sequence[Any]] | None,
    *,
    whole: bool = False,
    called: Attempt | None = None,
) -> Tensor:
    """The main output (``whole``: the numbers of all of them) in eval mode after ``change`` of the model's inputs:
    those of the batch, or with which the user's own loss ``called`` the model. Raises Skip where the model refuses
    them."""
    engine.model.eval()
    try:
        with torch.no_grad():
            inputs, kwargs = _inputs(engine, raw, called)
            if change is not None:
                changed = tuple(change((*inputs, *kwargs.values()) if called or not inputs else inputs))
                kwargs = kwargs if inputs and not called else dict(zip(kwargs, changed[len(inputs) :], strict=True))
                inputs = changed[: len(inputs)]
            with user_code("forward"):
                output = engine.model(*inputs, **kwargs)
    except UserCodeError as error:
        raise Skip(f"the model does not take the changed input ({type(error.original).__name__})") from error
    main = _joined(output, (*inputs, *kwargs.values())) if whole else main_output(output)
    if main is None:
        raise Skip("the model returns no tensor")
    return plain(main).float()


def _inputs(engine: Engine, raw: Any, called: Attempt | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if called is None:
        batch = engine.prepare(map_tensors(raw, lambda x: x.clone()))
        return batch.inputs, batch.kwargs
    given = tuple(to_device(map_tensors(called.inputs, lambda x: x.clone()), engine.device))
    plain_ones = len(given) - len(called.keywords)
    return given[:plain_ones], dict(zip(called.keywords, given[plain_ones:], strict=True))


def as_built(engine: Engine, raw: Any) -> AsBuilt:
    done = engine.loss(raw)
    main, size = done.main, done.batch.size
    bad: list[int] = []
    if main is not None and main.ndim and len(main) == size:
        bad = (~torch.isfinite(plain(main))).reshape(size, -1).any(1).nonzero().flatten().tolist()
    return AsBuilt(float(done.loss.detach().sum()), tuple(bad), size)


def _joined(output: Any, inputs: Sequence[Any]) -> Tensor | None:
    """All floating numbers of tensors in tuples, lists and mappings, in one row; else the main output. Without inputs
    that are only handed on."""
    found: list[Tensor] = []
    given = [x for x in inputs if isinstance(x, torch.Tensor)]

    def note(x: Tensor) -> Tensor:
        handed_on = any(x is y or (x.shape == y.shape and torch.equal(x, y.to(x.dtype))) for y in given)
        if x.is_floating_point() and not handed_on:
            found.append(plain(x).float().flatten())
        return x

    map_tensors(output, note)
    return torch.cat(found) if found else main_output(output)
