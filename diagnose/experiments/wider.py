"""A copy of the user's model with wider hidden layers, made from outside.

Only for plain chains of linear and convolutional layers with norms between them: whatever else holds a width of its
own (attention, recurrent layers, sizes written out in forward) cannot be widened so, and is skipped.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from diagnose.experiments.dropout import off
from diagnose.experiments.trial import Change
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError
from probes.api import Skip

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline

FACTOR = 8
PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d)


def change(pipeline: Pipeline, layers: Sequence[str], raw: Any, device: torch.device) -> Change:
    """``layers``: paths of the weighted layers in order of execution. Raises Skip where the copy does not run."""
    model = pipeline.model
    modules = dict(model.named_modules())
    if len(layers) < 2 or any(type(modules[path]) not in PLAIN for path in layers):
        raise Skip("the model is no plain chain of linear and convolutional layers")
    if pipeline.train_step is not None:
        raise Skip("the pipeline has a step of its own")

    def apply(fresh: Pipeline) -> AbstractContextManager[Any]:
        widen(fresh.model, layers)
        _rebuild_optimizer(fresh)
        return off(fresh)

    from copy import copy, deepcopy

    tried = copy(pipeline)
    tried.model = deepcopy(model)
    widen(tried.model, layers)
    engine = Engine(tried, device)
    try:
        engine.loss(raw)
    except UserCodeError:
        raise Skip("sizes are written out in the model's forward, so it cannot be widened from outside") from None
    finally:
        engine.close()
    return Change(f"{FACTOR} times wider", f"hidden layers {FACTOR} times wider", FACTOR, apply)


def widen(model: nn.Module, layers: Sequence[str]) -> None:
    """In place: new layers of FACTOR times the width, but for the first one's input and the last one's output."""
    for path, module in list(model.named_modules()):
        if path in layers:
            wide_in = FACTOR if path != layers[0] else 1
            wide_out = FACTOR if path != layers[-1] else 1
            _replace(model, path, _wider_layer(module, wide_in, wide_out))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            _replace(model, path, type(module)(module.num_features * FACTOR, module.eps, module.momentum))
        elif isinstance(module, nn.LayerNorm):
            *rest, last = module.normalized_shape
            _replace(model, path, nn.LayerNorm([*rest, last * FACTOR], module.eps))
        elif isinstance(module, nn.GroupNorm):
            _replace(model, path, nn.GroupNorm(module.num_groups, module.num_channels * FACTOR, module.eps))


def _wider_layer(layer: nn.Module, wide_in: int, wide_out: int) -> nn.Module:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features * wide_in, layer.out_features * wide_out, bias=bias)
    made: Any = type(layer)
    own: Any = layer
    return made(  # type: ignore[no-any-return]
        own.in_channels * wide_in, own.out_channels * wide_out, own.kernel_size, own.stride, own.padding,
        own.dilation, own.groups if own.groups == 1 else own.groups * wide_in, bias, own.padding_mode,
    )  # fmt: skip


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


def _rebuild_optimizer(pipeline: Pipeline) -> None:
    """The same optimizer with the settings of its first group, over the new parameters."""
    if pipeline.optimizer is None:
        return
    settings = {k: v for k, v in pipeline.optimizer.param_groups[0].items() if k not in {"params", "initial_lr"}}
    settings["weight_decay"] = 0.0
    accepted = inspect.signature(type(pipeline.optimizer)).parameters
    kept = {key: value for key, value in settings.items() if key in accepted}
    pipeline.optimizer = type(pipeline.optimizer)(pipeline.model.parameters(), **kept)
