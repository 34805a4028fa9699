"""What the model puts out in eval mode: over several batches, twice on one, and after a change of its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import concatenable, map_tensors
from diagnose.measure.recorder import plain
from diagnose.measure.sensitivity import JITTER, disturbed
from diagnose.training.metrics import main_output
from diagnose.training.step import Engine, Forwarded
from diagnose.user_code import UserCodeError, user_code
from probes.api import Skip
from probes.records.forward import Outputs

if TYPE_CHECKING:
    from torch import Tensor

SAMPLES = 512  # enough to judge a distribution over classes


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


def outputs(engine: Engine, raws: Sequence[Any]) -> Outputs:
    """Over ``raws`` until SAMPLES samples are seen. Raises Skip where the model returns no tensor."""
    engine.model.eval()
    state = _state(engine)
    found: list[Tensor] = []
    targets: list[Tensor] = []
    for raw in raws:
        done = forward(engine, raw)
        main = done.main
        if main is None:
            raise Skip(f"the model returns no tensor but {type(done.output).__name__}")
        found.append(plain(main).float())
        if isinstance(done.batch.target, torch.Tensor):
            targets.append(plain(done.batch.target))
        if sum(len(x) for x in found if x.ndim) >= SAMPLES:
            break
    again = main_output(forward(engine, raws[0]).output)
    assert again is not None
    again = plain(again).float()
    unmoved = state == _state(engine) and again.shape == found[0].shape and torch.equal(again, found[0])
    alike = len({x.shape[1:] for x in found}) == 1
    return Outputs(
        output=torch.cat(found) if alike and found[0].ndim else found[0],
        target=torch.cat(targets) if alike and len(targets) == len(found) and concatenable(targets) else None,
        first=found[0],
        again=again,
        batches=len(found),
        stirred=_stirred(engine, raws[0]) if unmoved else None,
    )


def _state(engine: Engine) -> list[tuple[int, int]]:
    """Changes with every change in place, and every exchange, of a parameter or a buffer."""
    held = (*engine.model.parameters(), *engine.model.buffers())
    return [(id(x), 0 if x.is_inference() else x._version) for x in held]


def _stirred(engine: Engine, raw: Any) -> Tensor | None:
    try:
        with disturbed(engine.model, JITTER):
            return changed_output(engine, raw, None)
    except Skip:  # whoever asks for it meets the reason
        return None


def changed_output(engine: Engine, raw: Any, change: Callable[[Sequence[Any]], Sequence[Any]] | None) -> Tensor:
    """The main output in eval mode after ``change`` of the model's inputs. Raises Skip where the model refuses them."""
    engine.model.eval()
    try:
        with torch.no_grad():
            batch = engine.prepare(map_tensors(raw, lambda x: x.clone()))
            inputs, kwargs = batch.inputs, batch.kwargs
            if change is not None and inputs:
                inputs = tuple(change(inputs))
            elif change is not None:
                kwargs = dict(zip(kwargs, change(tuple(kwargs.values())), strict=True))
            with user_code("forward"):
                main = main_output(engine.model(*inputs, **kwargs))
    except UserCodeError as error:
        raise Skip(f"the model does not take the changed input ({type(error.original).__name__})") from error
    if main is None:
        raise Skip("the model returns no tensor")
    return plain(main).float()
