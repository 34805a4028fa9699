"""A closer look at the forward: activations, signal and new modules in train mode, randomness in eval mode."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from diagnose.measure.attempt import ModuleWatch
from diagnose.measure.axes import layers_over_batch
from diagnose.measure.recorder import plain
from diagnose.user_code import innermost_user_frame
from probes.records.inspection import ActivationRecord, CreatedModule, Inspection, LayerRecord, RandomCall
from probes.results import Where

if TYPE_CHECKING:
    from torch import Tensor

RECTIFIERS = frozenset({"relu", "relu6"})
SQUASHERS = frozenset({"sigmoid", "tanh"})
OTHERS = frozenset(
    {"gelu", "silu", "elu", "selu", "celu", "leaky_relu", "prelu", "mish", "hardswish", "softplus", "glu"}
)
DROPOUTS = frozenset(
    {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "rrelu"}
)
DRAWS = frozenset(
    {
        "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "bernoulli", "bernoulli_",
        "normal", "normal_", "uniform_", "random_", "exponential_", "multinomial", "poisson",
    }
)  # fmt: skip
FLAT_SIGMOID = 0.01  # distance from 0 or 1 below which the derivative is under 1 % (a twenty-fifth of its largest)
ENOUGH = 64  # samples, for shares of values and deviations between samples
HALF_SILENT = 0.5  # share of units that never fired; more batches can only wake more of them
IMAGES = 32  # of the first batch that are kept
FLAT_TANH = 0.99  # |tanh| above which the derivative is under 2 %

_Made = list[tuple[nn.Module, tuple[Where, ...]]]


@dataclass
class _Site:
    """One place that activates, over all batches. ``fired``: per unit, whether it ever did."""

    function: str
    module: str
    where: tuple[Where, ...]
    fired: Tensor | None = None
    rows: Tensor | None = None
    flat: float = 0.0
    values: int = 0
    is_output: bool = False

    def add(self, out: Tensor) -> None:
        self.values += out.numel()
        if self.function in RECTIFIERS:
            self.fired = _either(self.fired, _per_unit(out > 0, _unit_axis(out)))
            if out.ndim == 3:
                self.rows = _either(self.rows, _per_unit(out > 0, 1))
        elif self.function == "sigmoid":
            self.flat += float(((out < FLAT_SIGMOID) | (out > 1 - FLAT_SIGMOID)).sum())
        elif self.function == "tanh":
            self.flat += float((out.abs() > FLAT_TANH).sum())

    def record(self) -> ActivationRecord:
        axes = [fired for fired in (self.fired, self.rows) if fired is not None]
        # (N, L, C) or (N, C, L): which axis holds the units is not known, so the livelier one is taken
        dead, units = min(((float((~axis).float().mean()), -axis.numel()) for axis in axes), default=(0.0, 0))
        return ActivationRecord(
            self.function, self.module, self.where, -units, dead, self.flat / max(1, self.values), self.values,
            self.is_output,
        )  # fmt: skip


def _unit_axis(out: Tensor) -> int:
    return 1 if out.ndim >= 4 else out.ndim - 1


def _per_unit(fired: Tensor, axis: int) -> Tensor:
    return fired.transpose(0, axis).flatten(1).any(1) if fired.ndim > 1 else fired


def _either(old: Tensor | None, new: Tensor) -> Tensor:
    return new if old is None or old.shape != new.shape else old | new


class ActivationWatch(TorchFunctionMode):
    """Activations, or (``draws``) calls that draw random numbers."""

    def __init__(self, watch: ModuleWatch, *, draws: bool) -> None:
        super().__init__()
        self.sites: dict[tuple[str, int], _Site] = {}
        self.draws: dict[tuple[str, str], RandomCall] = {}
        self._watch = watch
        self._draws = draws
        self._count: dict[str, int] = {}
        self._last: tuple[int, _Site] | None = None
        self._inside = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._inside:
            return func(*args, **kwargs)
        if self._draws:
            self._draw(name, args, kwargs)
        self._inside += 1
        try:
            result = func(*args, **kwargs)
            plain_name = name.rstrip("_") if not name.startswith("__") else ""
            if not self._draws and isinstance(result, torch.Tensor) and plain_name in RECTIFIERS | SQUASHERS | OTHERS:
                self._activation(plain_name, result)
        finally:
            self._inside -= 1
        return result

    def of(self, watch: ModuleWatch) -> None:
        """From now on ``watch`` tells which module is running."""
        self._watch = watch

    def begin(self) -> None:
        """A new forward: the n-th call at a place is the same site in every batch."""
        self._count.clear()
        self._last = None

    def ended(self, output: Tensor | None) -> None:
        if output is not None and self._last is not None and output.untyped_storage().data_ptr() == self._last[0]:
            self._last[1].is_output = True

    def _place(self) -> tuple[str, tuple[Where, ...]]:
        where = innermost_user_frame(sys._getframe(2))
        running = self._watch.running
        own = running is not None and type(running[1]).__module__.startswith("torch.nn")
        return running[0] if running is not None and own else "", () if where is None else (where,)

    def _activation(self, name: str, result: Tensor) -> None:
        running = self._watch.running
        if running is None:  # outside the model: the user's own loss
            return
        module, where = self._place()
        key = f"{running[0]}:{name}:{where[0].file}:{where[0].line}" if where else f"{running[0]}:{name}"
        count = self._count[key] = self._count.get(key, 0) + 1
        site = self.sites.setdefault((key, count), _Site(name, module, where))
        site.add(result.detach())
        self._last = (result.untyped_storage().data_ptr(), site)

    def _draw(self, name: str, args: Any, kwargs: Any) -> None:
        if name in DROPOUTS:
            p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            training = kwargs.get("training", args[2] if len(args) > 2 else True)
            drawn = bool(training) and float(p) > 0
        elif name == "scaled_dot_product_attention":
            drawn = float(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)) > 0
        else:
            drawn = name in DRAWS
        if drawn and self._watch.running is not None:
            module, where = self._place()
            key = (name, f"{where[0].file}:{where[0].line}" if where else module)
            self.draws.setdefault(key, RandomCall(name, module, where))


class _Signal:
    """How much the input and output of each weighted layer differ between samples, in the order of the calls."""

    def __init__(self, model: nn.Module) -> None:
        self.records: dict[str, list[tuple[float, float]]] = {}
        self.image: Tensor | None = None
        self._types: dict[str, str] = {}
        self._handles = [
            module.register_forward_hook(self._hook(path))
            for path, module in model.named_modules()
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        ]

    def _hook(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            with torch._C.DisableTorchFunction():
                look(module, args, output)

        def look(module: nn.Module, args: Any, output: Any) -> None:
            if self.image is None and isinstance(module, nn.Conv2d) and args and isinstance(args[0], torch.Tensor):
                self.image = plain(args[0][:IMAGES]) if args[0].ndim == 4 else None
            if args and isinstance(args[0], torch.Tensor) and isinstance(output, torch.Tensor):
                self._types[path] = type(module).__name__
                self.records.setdefault(path, []).append((_between(args[0]), _between(output)))

        return hook

    def layers(self) -> tuple[LayerRecord, ...]:
        means = {
            path: [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
            for path, pairs in self.records.items()
        }
        return tuple(LayerRecord(path, self._types[path], *pair) for path, pair in means.items())

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def _between(value: Tensor) -> float:
    """Standard deviation over the first axis, root mean square over the rest."""
    if value.ndim == 0 or len(value) < 2:
        return 0.0
    x = value.detach().float()
    # As x.var(0).mean().sqrt(), at a seventh of the time.
    return float(torch.linalg.vector_norm(x - x.mean(0))) / math.sqrt((len(x) - 1) * max(1, x[0].numel()))


@contextmanager
def _new_modules() -> Iterator[_Made]:
    """Collects the modules that are constructed in the block."""
    made: _Made = []
    original = nn.Module.__init__

    def __init__(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        where = innermost_user_frame(sys._getframe(1))
        made.append((module, () if where is None else (where,)))
        original(module, *args, **kwargs)

    nn.Module.__init__ = __init__  # type: ignore[method-assign, assignment]
    try:
        yield made
    finally:
        nn.Module.__init__ = original  # type: ignore[method-assign]


def inspection(model: nn.Module, forward: Callable[[Any], Tensor | None], raws: list[Any]) -> Inspection:
    """``forward(raw)`` runs the model on a batch and returns its main output. Samples are counted by that output; of
    ``raws`` no more are taken than it needs to have seen ENOUGH, and no layer half silent."""
    watch = ModuleWatch(model)
    signal = _Signal(model)
    samples = 0
    made: list[_Made] = []
    try:
        model.train()
        seen = ActivationWatch(watch, draws=False)
        for raw in raws:
            seen.begin()
            with _new_modules() as new, seen:
                output = forward(raw)
            made.append(new)
            seen.ended(output)
            samples += len(output) if output is not None and output.ndim else 0
            if samples >= ENOUGH and all(site.record().dead_share < HALF_SILENT for site in seen.sites.values()):
                break
        signal.close()
        if any(_has_parameters(module) for module, _ in made[0]) and len(made) < 2:
            with _new_modules() as new:
                forward(raws[0])
            made.append(new)
        over_batch = layers_over_batch(model, forward, raws[0])
    finally:
        signal.close()
        watch.close()
    return Inspection(
        activations=tuple(site.record() for site in seen.sites.values()),
        layers=signal.layers(),
        created=tuple(_with_parameters(made[0], made[-1])),
        samples=samples,
        image=signal.image,
        over_batch=over_batch,
    )


def random_calls(model: nn.Module, forward: Callable[[Any], Tensor | None], raw: Any) -> tuple[RandomCall, ...]:
    """In eval mode."""
    model.eval()
    watch = ModuleWatch(model)
    try:
        with ActivationWatch(watch, draws=True) as drawing:
            forward(raw)
    finally:
        watch.close()
    return tuple(drawing.draws.values())


def _has_parameters(module: nn.Module) -> bool:
    """Of its own."""
    return next(iter(module.parameters(recurse=False)), None) is not None


def _with_parameters(first: _Made, later: _Made) -> Iterator[CreatedModule]:
    again = {(type(module), where) for module, where in later}
    seen = set()
    for module, where in first:
        kind = (type(module), where)
        if _has_parameters(module) and kind not in seen:
            seen.add(kind)
            yield CreatedModule(type(module).__name__, where, kind in again)
