"""The user's model, loss and optimizer on data that anything can learn: real handwritten digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import interpolate

from diagnose.datasets import reference_data
from diagnose.experiments.change import AS_CONFIGURED
from diagnose.experiments.trial import Samples, Setting, StepProgress, run_trial
from diagnose.training.metrics import Yardsticks
from diagnose.user_code import UserCodeError
from probes.api import Skip
from probes.records.trials import Reference, Trace

if TYPE_CHECKING:
    from torch import Tensor

    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline

STEPS = 500
BATCH = 64
LOOK = 300  # samples per look
MAX_IMAGES = 8_000  # of each split: more than the steps ever see
# Accuracy on the reference data that any working model, loss and optimizer reaches within STEPS. MNIST: the field's
# usual bar; CIFAR-10: what a linear model cannot reach; digits: measured, see docs/stages.md.
THRESHOLDS = {"mnist": 0.95, "cifar10": 0.45, "digits": 0.85}


def train_on_reference(ctx: MeasuringContext, reported: Callable[[str], StepProgress]) -> Reference:
    """``reported(what)`` tells how far the training is.

    Raises Skip, with the reason, for models that cannot take ten classes of images.
    """
    name, source, samples, classes, model_classes = _prepared(ctx)
    threshold = THRESHOLDS[name]
    setting = Setting(
        build=_builder(ctx, model_classes),
        task="classification",
        device=ctx.device,
        channels_last=ctx.trainings.channels_last(),
        yardsticks=Yardsticks(0.0, float(torch.tensor(classes).log()), _commonest(samples), classes),
        learning_rates=ctx.learning_rates(),
        deadline=ctx.deadline,
    )

    def reached(trace: Trace) -> str:
        score = trace.points[-1].val_score
        return "learned" if score is not None and score >= threshold else ""

    try:
        trace = run_trial(
            setting, samples, AS_CONFIGURED, ctx.seed, STEPS, name=source, stop=reached, progress=reported(source)
        )
    except UserCodeError as error:  # made for other data (class weights, say): no fault of the user's
        raise Skip(f"the pipeline does not take the reference data: {error}") from error
    return Reference(source=source, trace=trace, threshold=threshold)


def samples_like(ctx: MeasuringContext) -> tuple[Samples, str]:
    """(reference data for the model as it is, what they are). Raises Skip as ``train_on_reference`` does, and for
    models that were made for fewer classes."""
    width = int(output.shape[1]) if (output := ctx.attempt().output) is not None and output.ndim == 2 else 0
    if width < 10:
        raise Skip("the model has fewer than ten outputs")
    _, source, samples, _, _ = _prepared(ctx)
    return samples, source


def _prepared(ctx: MeasuringContext) -> tuple[str, str, Samples, int, int | None]:
    """(name, source, the samples, their classes, the class count to ask of the factory)."""
    facts = ctx.facts
    if facts.task != "classification":
        raise Skip(f"the reference data are images of ten classes, this is {facts.task}")
    if facts.custom_step or ctx.pipeline.compute_loss is not None:
        raise Skip("the pipeline has a step or loss of its own, which may expect its own batches")
    shape = _image_shape(ctx)
    name, x, y, x_val, y_val, source = _data(ctx)
    classes, model_classes = _classes(ctx)
    keep, keep_val = y < classes, y_val < classes
    x, y = _fitted(x[keep], shape, ctx), y[keep]
    x_val, y_val = _fitted(x_val[keep_val], shape, ctx), y_val[keep_val]
    samples = Samples(_batches(x, y), _chunks(x[:LOOK], y[:LOOK]), _chunks(x_val[:LOOK], y_val[:LOOK]))
    return name, source, samples, classes, model_classes


def _commonest(samples: Samples) -> float:
    """The share of the most common class among the samples that are looked at."""
    y = torch.cat([labels for _, labels in samples.look_train])
    return float(y.bincount().max()) / len(y)


def _image_shape(ctx: MeasuringContext) -> tuple[int, int, int]:
    inputs = ctx.batch().inputs
    if len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor) or inputs[0].ndim != 4:
        raise Skip("the model does not take one batch of images (N, C, H, W)")
    image = inputs[0]
    if not image.is_floating_point():
        raise Skip(f"the images are {image.dtype}, which the reference images cannot imitate")
    return int(image.shape[1]), int(image.shape[2]), int(image.shape[3])


def _data(ctx: MeasuringContext) -> tuple[str, Tensor, Tensor, Tensor, Tensor, str]:
    name = ctx.reference_name or "mnist"
    found = reference_data(name, download=ctx.download, limit=MAX_IMAGES)
    kind = "digits" if "scikit-learn" in found.source else name
    return kind, found.images, found.labels, found.val_images, found.val_labels, found.source


def _classes(ctx: MeasuringContext) -> tuple[int, int | None]:
    """(classes of the reference data used, class count to ask of the factory or None to take the model as it is)."""
    if ctx.source.takes_num_classes:
        return 10, 10
    output = ctx.attempt().output
    width = int(output.shape[1]) if output is not None and output.ndim == 2 else 0
    if width < 2:
        raise Skip("the model has no output of at least two classes")
    return min(10, width), None


def _builder(ctx: MeasuringContext, classes: int | None) -> Any:
    def build(seed: int) -> Pipeline:
        return (
            ctx.fresh(seed) if classes is None else ctx.source.build(seed, reuse_data=ctx.pipeline, num_classes=classes)
        )

    return build


def _fitted(images: Tensor, shape: tuple[int, int, int], ctx: MeasuringContext) -> Tensor:
    """Resized to the model's input, with as many channels, and moved to the mean and spread of the user's images."""
    channels, height, width = shape
    if images.shape[-2:] != (height, width):
        images = interpolate(images, size=(height, width), mode="bilinear", align_corners=False)
    if images.shape[1] != channels:
        images = images.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    images = (images - images.mean()) / images.std()
    own: Tensor = ctx.batch().inputs[0].float()
    return (images * own.std() + own.mean()).contiguous()


def _batches(x: Tensor, y: Tensor) -> Any:
    def batches(seed: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(x), generator=generator)
            for start in range(0, len(order) - BATCH + 1, BATCH):
                chosen = order[start : start + BATCH]
                yield x[chosen], y[chosen]

    return batches


def _chunks(x: Tensor, y: Tensor) -> Sequence[Any]:
    return [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
