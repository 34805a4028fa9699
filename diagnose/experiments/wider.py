"""A copy of the user's model with wider hidden layers, made from outside.

Only for plain chains of linear, convolutional and recurrent layers with norms between them, behind a table of
embeddings or not: whatever else holds a width of its own (attention, sizes written out in forward) cannot be widened
so, and is skipped.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from diagnose.experiments.change import Change
from diagnose.experiments.dropout import off
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError
from probes.api import Skip

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline

FACTOR = 8
WIDE = 128  # units or channels: as many tell the samples of a batch apart
PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.RNN, nn.GRU, nn.LSTM)


def change(pipeline: Pipeline, raw: Any, device: torch.device, *, regularised: bool = False) -> Change:
    """Dropout and weight decay are off unless ``regularised``. Raises Skip where the copy does not run."""
    if pipeline.train_step is not None:
        raise Skip("the pipeline has a step of its own")
    tried = copy(pipeline)
    tried.model = deepcopy(pipeline.model)
    layers = _in_order(tried, raw, device)
    modules = dict(tried.model.named_modules())
    kinds = [type(modules[path]) for path in layers]
    if len(layers) < 2 or any(kind not in PLAIN for kind in kinds[1:]) or kinds[0] not in (*PLAIN, nn.Embedding):
        raise Skip("the model is no plain chain of linear, convolutional and recurrent layers")
    if min(_width(modules[path]) for path in layers[:-1]) >= WIDE:
        raise Skip(f"its hidden layers are {WIDE} wide or more, which is not too narrow for a batch")

    def apply(fresh: Pipeline) -> AbstractContextManager[Any]:
        widen(fresh.model, layers)
        if fresh.optimizer is not None:
            settings = {} if regularised else {"weight_decay": 0.0}
            fresh.optimizer = like(fresh.optimizer, list(fresh.model.parameters()), **settings)
        return nullcontext() if regularised else off(fresh)

    widen(tried.model, layers)
    engine = Engine(tried, device)
    try:
        engine.loss(raw)
    except UserCodeError:
        raise Skip("sizes are written out in the model's forward, so it cannot be widened from outside") from None
    finally:
        engine.close()
    return Change(f"{FACTOR} times wider", f"hidden layers {FACTOR} times wider", FACTOR, apply)


def _in_order(pipeline: Pipeline, raw: Any, device: torch.device) -> list[str]:
    """Paths of the weighted layers, in the order in which they are first called."""
    paths = {module: path for path, module in pipeline.model.named_modules()}
    found: dict[str, None] = {}

    def note(module: nn.Module, args: Any) -> None:
        found.setdefault(paths[module])

    weighted = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.Embedding)
    handles = [module.register_forward_pre_hook(note) for module in paths if isinstance(module, weighted)]
    engine = Engine(pipeline, device)
    try:
        engine.loss(raw)
    finally:
        engine.close()
        for handle in handles:
            handle.remove()
    return list(found)


def _width(layer: Any) -> int:
    names = ("out_features", "out_channels", "hidden_size", "embedding_dim")
    return next(int(width) for name in names if (width := getattr(layer, name, None)) is not None)


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
    if isinstance(layer, nn.Embedding):
        return nn.Embedding(layer.num_embeddings, layer.embedding_dim * wide_out, layer.padding_idx)
    made: Any = type(layer)
    if isinstance(layer, nn.RNNBase):
        more = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
        return made(  # type: ignore[no-any-return]
            layer.input_size * wide_in, layer.hidden_size * wide_out, layer.num_layers, bias=layer.bias,
            batch_first=layer.batch_first, dropout=layer.dropout, bidirectional=layer.bidirectional, **more,
        )  # fmt: skip
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features * wide_in, layer.out_features * wide_out, bias=bias)
    own: Any = layer
    return made(  # type: ignore[no-any-return]
        own.in_channels * wide_in, own.out_channels * wide_out, own.kernel_size, own.stride, own.padding,
        own.dilation, own.groups if own.groups == 1 else own.groups * wide_in, bias, own.padding_mode,
    )  # fmt: skip


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


def like(made: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], **other: Any) -> torch.optim.Optimizer:
    """An optimizer of the same class with the settings of the first group, but for ``other``, over ``parameters``."""
    settings = {key: value for key, value in made.param_groups[0].items() if key not in {"params", "initial_lr"}}
    accepted = inspect.signature(type(made)).parameters
    kept = {key: value for key, value in {**settings, **other}.items() if key in accepted}
    rebuilt: torch.optim.Optimizer = type(made)(parameters, **kept)
    return rebuilt
