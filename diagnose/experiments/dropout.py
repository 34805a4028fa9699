"""Dropout of every kind, found and scaled without editing the user's code.

Modules (``nn.Dropout*``, ``AlphaDropout``, stochastic depth and drop-path by their attribute), the ``dropout``
attributes of recurrent and attention modules, and functional calls (``F.dropout``, ``dropout_p`` of scaled dot-product
attention), which a function mode sees with the line that made them. Hand-written masks (``torch.rand(...) > p``) are
beyond reach.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from diagnose.experiments.change import Change
from diagnose.user_code import innermost_user_frame
from probes.records.trials import DropoutSite as Site
from probes.results import Where

if TYPE_CHECKING:
    from diagnose.pipeline import Pipeline
    from diagnose.training.step import Engine

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
FUNCTIONAL = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"})
DROP_PATH_ATTRIBUTES = ("drop_prob", "p")  # timm's DropPath, torchvision's StochasticDepth
ATTENTION_ARGUMENT = "dropout_p"


class _FunctionalDropout(TorchFunctionMode):
    """Sees functional dropout calls outside dropout modules; ``scale(key, group, p)`` gives their new probability."""

    def __init__(self, scale: Callable[[str, str, float], float] | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.sites: dict[str, Site] = {}
        self.inside_modules: set[int] = set()
        self._depth = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if self._depth or self.inside_modules:
            return func(*args, **kwargs)
        if name in FUNCTIONAL:
            args, kwargs = self._dropout(name, args, kwargs)
        elif name == "scaled_dot_product_attention":
            args, kwargs = self._attention(args, kwargs)
        else:
            return func(*args, **kwargs)
        self._depth += 1
        try:
            return func(*args, **kwargs)
        finally:
            self._depth -= 1

    def _dropout(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
        p = float(given.get("p", 0.5))
        if given.get("training", True) is False or p == 0:
            return args, kwargs
        group = group_of(given.get("input"))
        given["p"] = self._visit(f"F.{name}", p, group)
        return (), given

    def _attention(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        p = float(args[4] if len(args) > 4 else kwargs.get(ATTENTION_ARGUMENT, 0.0))
        if p == 0:
            return args, kwargs
        new = self._visit("F.scaled_dot_product_attention", p, "attention")
        if len(args) > 4:
            return (*args[:4], new, *args[5:]), kwargs
        return args, kwargs | {ATTENTION_ARGUMENT: new}

    def _visit(self, kind: str, p: float, group: str) -> float:
        where = innermost_user_frame(sys._getframe(1))
        key = f"{where.file}:{where.line}" if where else kind
        self.sites.setdefault(key, Site(key, kind, p, group, () if where is None else (where,)))
        return p if self.scale is None else self.scale(key, group, p)


def group_of(x: Any) -> str:
    if not isinstance(x, torch.Tensor):
        return "head"
    return "feature maps" if x.ndim >= 4 else "sequence" if x.ndim == 3 else "head"


def module_sites(model: nn.Module) -> dict[str, tuple[nn.Module, str, float, str]]:
    """path -> (module, attribute that holds p, p, group) of every module that drops. The group of plain dropout is
    settled later, by its input."""
    found: dict[str, tuple[nn.Module, str, float, str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, DROPOUTS):
            found[path] = (module, "p", float(module.p), "")
        elif isinstance(module, nn.RNNBase) and module.num_layers > 1:  # it drops between layers only
            found[path] = (module, "dropout", float(module.dropout), "recurrent")
        elif isinstance(module, nn.MultiheadAttention):
            found[path] = (module, "dropout", float(module.dropout), "attention")
        elif type(module).__name__ in {"DropPath", "StochasticDepth", "DropBlock2d", "DropBlock"}:
            attribute = next((a for a in DROP_PATH_ATTRIBUTES if isinstance(getattr(module, a, None), float)), None)
            if attribute:
                found[path] = (module, attribute, float(getattr(module, attribute)), "drop-path")
    return {path: site for path, site in found.items() if site[2] > 0}


@contextmanager
def _quiet_in_modules(mode: _FunctionalDropout, modules: Sequence[nn.Module]) -> Iterator[None]:
    """Functional calls made inside a dropout module belong to the module."""
    handles = []
    for module in modules:
        handles.append(module.register_forward_pre_hook(lambda m, _: mode.inside_modules.add(id(m))))
        handles.append(module.register_forward_hook(lambda m, _, __: mode.inside_modules.discard(id(m))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def sites(engine: Engine, raw: Any, created_at: Callable[[nn.Module], Sequence[Where]]) -> list[Site]:
    """Every place that drops in train mode, in the order of ``named_modules``, then functional calls as they come."""
    modules = module_sites(engine.model)
    groups: dict[str, str] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda m, args, path=path: groups.update({path: group_of(args[0] if args else None)})
        )
        for path, (module, *_) in modules.items()
    ]
    engine.model.train()
    mode = _FunctionalDropout()
    try:
        with _quiet_in_modules(mode, [m for m, *_ in modules.values()]), mode:
            if engine.has_loss:
                with torch.no_grad():
                    engine.loss(raw)
            else:  # the loss lives in the pipeline's own step only
                engine.step(raw)
    finally:
        for handle in handles:
            handle.remove()
    found = [
        Site(path, type(module).__name__, p, group or groups.get(path, "head"), tuple(created_at(module)))
        for path, (module, _, p, group) in modules.items()
        if path in groups  # a module that is never called drops nothing
    ]
    return found + list(mode.sites.values())


def scaled(sites: Sequence[Site], factors: dict[str, float], key: str, label: str) -> Change:
    """A change that multiplies the probability of each group by its factor (1 where none is given)."""
    by_key = {site.key: site for site in sites}

    def factor(site_key: str, group: str) -> float:
        site = by_key.get(site_key)
        return factors.get(site.group if site else group, 1.0)

    @contextmanager
    def apply(pipeline: Pipeline) -> Iterator[None]:
        modules = module_sites(pipeline.model)
        for path, (module, attribute, p, _) in modules.items():
            setattr(module, attribute, p * factor(path, "head"))
        if all(site.key in modules for site in sites):  # nothing functional: no need to watch every call
            yield
            return
        mode = _FunctionalDropout(scale=lambda site_key, group, p: p * factor(site_key, group))
        with _quiet_in_modules(mode, [m for m, *_ in modules.values()]), mode:
            yield

    size = sum(site.p * (1 - factors.get(site.group, 1.0)) for site in sites)
    return Change(key, label, size, apply, factors=factors)


def with_p(sites: Sequence[Site], p: float) -> Change:
    """Every site drops with probability ``p``."""
    factors = {site.key: p / site.p for site in sites}

    @contextmanager
    def apply(pipeline: Pipeline) -> Iterator[None]:
        modules = module_sites(pipeline.model)
        for path, (module, attribute, old, _) in modules.items():
            setattr(module, attribute, old * factors.get(path, 1.0))
        with _quiet_in_modules(mode := _FunctionalDropout(scale=lambda *_: p), [m for m, *_ in modules.values()]), mode:
            yield

    return Change(f"dropout {p:g}", f"dropout {p:g} everywhere", sum(abs(site.p - p) for site in sites), apply)


def arms(sites: Sequence[Site]) -> list[Change]:
    """From the mildest to the strongest: scaled, off in one group at a time, off."""
    groups = list(dict.fromkeys(site.group for site in sites))

    def everywhere(factor: float) -> dict[str, float]:
        return dict.fromkeys(groups, factor)

    found = [scaled(sites, everywhere(0.5), "dropout x 0.5", "all dropout halved")]
    if len(groups) > 1:
        found += [
            scaled(sites, {group: 0.0}, f"no dropout: {group}", f"no dropout on {WORDS[group]}") for group in groups
        ]
    found += [
        scaled(sites, everywhere(0.25), "dropout x 0.25", "all dropout at a quarter"),
        scaled(sites, everywhere(0.0), "no dropout", "no dropout"),
    ]
    return sorted(found, key=lambda change: change.size)


@contextmanager
def off(pipeline: Pipeline) -> Iterator[None]:
    """Nothing drops inside, whatever its kind."""
    modules = module_sites(pipeline.model)
    for module, attribute, _, _ in modules.values():
        setattr(module, attribute, 0.0)
    with _FunctionalDropout(scale=lambda *_: 0.0):
        yield


WORDS = {
    "feature maps": "feature maps (convolutional blocks)",
    "head": "the head",
    "sequence": "sequence features",
    "attention": "attention weights",
    "recurrent": "recurrent layers",
    "drop-path": "residual branches (drop-path)",
}
