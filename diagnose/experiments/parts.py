"""Swaps of whole parts for known-good ones: optimizer, initialisation, loss, batch norm, precision, step, model.

A part whose swap repairs learning is where the fault lies; which fault it is, only a probe of that part can say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from diagnose.batches import first_tensor, map_tensors
from diagnose.experiments import wider
from diagnose.experiments.change import Change, Reading
from diagnose.experiments.material import is_plain
from diagnose.target.defaults import LEARNING_RATE
from diagnose.training.meter import aligned
from diagnose.training.metrics import IGNORE_INDEX, main_output
from probes.api import Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline

USUAL_BATCHES = (8, 512)  # a batch size within tells nothing by itself
GOOD_BATCH = 32
GOOD_MOMENTUM = 0.1  # torch's default for batch norm
TO_PROBABILITIES = frozenset({"softmax", "log_softmax", "sigmoid", "logsigmoid"})
OPTIMIZERS = ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "NAdam", "RAdam")


def optimizer(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Adam at its usual rate over all trainable parameters: no schedule, decay or clipping. ``values``: other classes
    of ``torch.optim``, at the user's own rate."""
    if ctx.pipeline.optimizer is None:
        raise Skip("there is no optimizer to replace")
    if "multiple-optimizers" in ctx.facts.intents:
        raise Skip("the pipeline has several optimizers of its own")
    if values:
        return [_of_class(name) for name in values]

    def apply(pipeline: Pipeline) -> Any:
        trainable = [p for p in pipeline.model.parameters() if p.requires_grad]
        pipeline.optimizer = torch.optim.Adam(trainable, lr=LEARNING_RATE) if trainable else pipeline.optimizer
        pipeline.clip_grad_norm = None
        return nullcontext()

    return [Change("Adam", f"Adam at {LEARNING_RATE:g}", 1.0, apply, constant_lr=True, order=2)]


def _of_class(name: str) -> Change:
    def apply(pipeline: Pipeline) -> Any:
        assert pipeline.optimizer is not None, "skipped before"
        lr = pipeline.optimizer.param_groups[0]["lr"]
        pipeline.optimizer = getattr(torch.optim, name)(pipeline.model.parameters(), lr=lr)
        return nullcontext()

    return Change(f"optimizer {name}", name, 1.0, apply)


def initialisation(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Every module of torch re-initialised by its own default, under the trial's seed."""
    if "pretrained" in ctx.facts.intents or any(load.taken for load in ctx.weight_loads()):
        raise Skip("the model begins from trained weights")
    if not any(_resets(module) for module in ctx.pipeline.model.modules()):
        raise Skip("no module has a default initialisation")

    def apply(pipeline: Pipeline) -> Any:
        for module in pipeline.model.modules():
            if _resets(module):
                module.reset_parameters()  # type: ignore[operator]
        return nullcontext()

    return [Change("default initialisation", "torch's default initialisation", 1.0, apply, order=-1)]


def _resets(module: nn.Module) -> bool:
    return (type(module).__module__ or "").startswith("torch.nn") and callable(
        getattr(module, "reset_parameters", None)
    )


def batchnorm(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Every batch norm in train mode, with torch's momentum."""
    norms = [m for m in ctx.pipeline.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        raise Skip("the model has no batch norm")
    wanted = [float(value) for value in values] or [GOOD_MOMENTUM]

    def turn(momentum: float) -> Callable[[Pipeline], Any]:
        def apply(pipeline: Pipeline) -> Any:
            for module in pipeline.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.momentum = momentum
                    module.train()
            return nullcontext()

        return apply

    return [
        Change(f"batch norm momentum {value:g}", f"batch norm with momentum {value:g}", 1.0, turn(value))
        for value in wanted
    ]


def precision(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Everything in 32 bits."""
    halves = [p.dtype for p in ctx.pipeline.model.parameters() if p.dtype in {torch.float16, torch.bfloat16}]
    if ctx.pipeline.precision == "fp32" and not halves:
        raise Skip("it runs in 32 bits already")

    def apply(pipeline: Pipeline) -> Any:
        pipeline.precision = "fp32"
        if halves:
            pipeline.model.float()
        return nullcontext()

    widened = (lambda raw: map_tensors(raw, lambda x: x.float() if x.dtype in set(halves) else x)) if halves else None
    return [Change("fp32", "32-bit precision", 1.0, apply, reading=Reading(each=widened))]


def batch_size(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """A usual batch size in place of an extreme one; or each of ``values``."""
    now = getattr(ctx.pipeline.train, "batch_size", None)
    if not isinstance(now, int) or not is_plain(ctx.pipeline.train):
        raise Skip("the batches are not those of a plain DataLoader")
    if values:
        return [batches_of(int(float(value)), now) for value in values]
    seen = ctx.scan("train")
    samples = seen.seen if seen.total is None else seen.total
    if USUAL_BATCHES[0] <= now <= USUAL_BATCHES[1] and 2 * now <= samples:
        raise Skip(f"batches of {now} are usual")
    return [batches_of(GOOD_BATCH, now)]


def batches_of(size: int, now: int) -> Change:
    return Change(
        f"batches of {size}", f"batches of {size}", abs(size - now), reading=Reading(batch_size=size),
    )  # fmt: skip


def frozen(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Every parameter trainable, and in the optimizer."""
    if all(p.requires_grad for p in ctx.pipeline.model.parameters()):
        raise Skip("no parameter is frozen")
    _need_another_like(ctx)
    return [
        Change("nothing frozen", "nothing frozen", 1.0, lambda pipeline: _all_trained(pipeline, release=True), order=1)
    ]


def parameters(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """The same optimizer, built anew on the parameters that the model has now."""
    seen = ctx.coverage()
    if not seen.missing and not seen.stray:
        raise Skip("the optimizer holds the model's parameters")
    _need_another_like(ctx)
    return [Change("optimizer rebuilt", "the optimizer built on the model's parameters", 1.0, _all_trained, order=1)]


def _need_another_like(ctx: MeasuringContext) -> None:
    """Raises Skip where an optimizer of the user's class cannot be built from its settings alone."""
    fresh = ctx.fresh(ctx.seed)
    if fresh.optimizer is not None:
        try:
            wider.like(fresh.optimizer, list(fresh.model.parameters()))
        except (TypeError, ValueError) as error:
            raise Skip(f"{type(fresh.optimizer).__name__} cannot be built anew from its settings: {error}") from error


def _all_trained(pipeline: Pipeline, release: bool = False) -> Any:
    for parameter in pipeline.model.parameters():
        parameter.requires_grad_(release or parameter.requires_grad)
    if pipeline.optimizer is not None:
        pipeline.optimizer = wider.like(pipeline.optimizer, [p for p in pipeline.model.parameters() if p.requires_grad])
    return nullcontext()


def loop(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """A plain step (gradients cleared, backward, update) in place of the pipeline's own ``train_step``."""
    if ctx.pipeline.train_step is None:
        raise Skip("the pipeline has no step of its own")
    judged = _usual_loss(ctx)

    def apply(pipeline: Pipeline) -> Any:
        pipeline.train_step = None
        if pipeline.loss is None and pipeline.compute_loss is None:
            pipeline.loss = judged[0]
        return nullcontext()

    return [Change("plain step", "a plain training step", 1.0, apply)]


def loss(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """The usual loss of the task, on the logits that went into a last softmax or sigmoid."""
    function, name = _usual_loss(ctx)
    if ctx.pipeline.train_step is not None:
        raise Skip("the loss lives in the pipeline's own step")

    @contextmanager
    def apply(pipeline: Pipeline) -> Iterator[None]:
        pipeline.compute_loss, pipeline.loss = None, function
        with _Logits(pipeline.model):
            yield

    return [Change("usual loss", f"{name} on the logits", 1.0, apply, loss_function=name)]


def _usual_loss(ctx: MeasuringContext) -> tuple[Callable[[Any, Any], Tensor], str]:
    """(loss of an output and a target, torch's name of it), by task. Raises Skip where no loss is usual."""
    task = ctx.facts.task
    target = ctx.batch().target
    if not isinstance(target, Tensor):
        raise Skip("there is no single target tensor")
    if task == "regression":
        return _distance, "mse_loss"
    if task == "multilabel":
        return _tags, "binary_cross_entropy_with_logits"
    if task in {"classification", "segmentation", "language-model"} and not target.is_floating_point():
        ignored, shifted = ctx.trainings.ignore_index(), ctx.trainings.shifts_targets()
        return (lambda output, wanted: _classes(output, wanted, ignored, shifted=shifted)), "cross_entropy"
    raise Skip(f"no loss is usual for {task}")


def _main(output: Any) -> Tensor:
    found = main_output(output)
    if found is None:
        raise ValueError("the model returns no tensor")
    return found


def _distance(output: Any, target: Tensor) -> Tensor:
    return F.mse_loss(_main(output).reshape(target.shape), target)


def _tags(output: Any, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(_main(output).reshape(target.shape), target.float())


def _classes(output: Any, target: Tensor, ignored: int = IGNORE_INDEX, *, shifted: bool = False) -> Tensor:
    scores, target = aligned(_main(output), target, "", shifted=shifted)
    if scores.shape[:-1] == target.shape and scores.ndim > 2:  # (N, L, C): torch wants the classes second
        scores = scores.movedim(-1, 1)
    return F.cross_entropy(scores, target.long(), ignore_index=ignored)


class _Logits(TorchFunctionMode):
    """Makes a model return what went into its last softmax or sigmoid, where that is what it puts out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # id of what came out -> (it, what went in)

    def __enter__(self) -> Any:
        self._handle = self._model.register_forward_hook(self._swap)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        self._handle.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in TO_PROBABILITIES and isinstance(result, Tensor):
            given = first_tensor((args, kwargs))
            if given is not None:
                self._before[id(result)] = (result, given)
        return result

    def _swap(self, module: nn.Module, args: Any, output: Any) -> Any:
        found = self._before.get(id(output))
        self._before = {}
        return output if found is None else found[1]


def model(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """A small model that is known to learn, with Adam and the usual loss, on the user's data."""
    function, name = _usual_loss(ctx)
    batch = ctx.batch()
    output = ctx.attempt().output
    if len(batch.inputs) != 1 or batch.kwargs or not isinstance(batch.inputs[0], Tensor) or output is None:
        raise Skip("a reference model takes one input tensor per sample")
    if output.ndim != 2 or ctx.pipeline.train_step is not None:
        raise Skip("a reference model gives one row of outputs per sample")
    given, width = batch.inputs[0], max(int(output.shape[1]), ctx.facts.num_classes or 0)
    largest = int(given.max()) + 1 if not given.is_floating_point() else 0

    def apply(pipeline: Pipeline) -> Any:
        pipeline.model = reference_model(tuple(given.shape[1:]), width, largest)
        pipeline.optimizer = torch.optim.Adam(pipeline.model.parameters(), lr=LEARNING_RATE)
        pipeline.loss, pipeline.compute_loss, pipeline.clip_grad_norm = function, None, None
        pipeline.precision = "fp32"
        return nullcontext()

    return [Change("reference model", "a small reference model", 1.0, apply, constant_lr=True, loss_function=name)]


def reference_model(shape: Sequence[int], outputs: int, tokens: int = 0) -> nn.Module:
    """Inputs (N, *shape) to (N, outputs): convolutions for images, a bag of embeddings for ``tokens`` of them, else a
    perceptron; the real-valued ones begin with a batch norm, so that no scale is too large for them."""
    if tokens:
        return nn.Sequential(_Bag(4 * tokens, 64), nn.ReLU(), nn.Linear(64, outputs))
    if len(shape) == 3:
        layers: list[nn.Module] = [nn.BatchNorm2d(shape[0])]
        for wide_in, wide_out in ((shape[0], 32), (32, 64)):
            layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1), nn.BatchNorm2d(wide_out), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if min(shape[1:]) >= 8 else []
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, outputs))
    flat = 1
    for size in shape:
        flat *= size
    return nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(flat), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, outputs),
    )  # fmt: skip


class _Bag(nn.Module):
    """Mean of embeddings; tokens beyond the table share its last row."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.table(x.clamp(0, self.table.num_embeddings - 1).flatten(1)).mean(1)
        return found


def width(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Hidden layers several times wider."""
    return [wider.change(ctx.pipeline, ctx.raws()[0], ctx.device, regularised=True)]


def channel_order(ctx: MeasuringContext, values: Sequence[str]) -> list[Change]:
    """Images whose numbers lie channel by channel although they were stored pixel by pixel, read as they were."""
    image = first_tensor(ctx.batch().inputs)
    if image is None or image.ndim != 4 or image.shape[1] not in {3, 4} or not image.is_floating_point():
        raise Skip("the inputs are no colour images")

    def permuted(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous()

    shape = tuple(image.shape[1:])
    read = Reading(each=lambda raw: map_tensors(raw, lambda x: permuted(x) if tuple(x.shape[1:]) == shape else x))
    return [Change("channels permuted", "channels permuted instead of viewed", 1.0, reading=read)]
