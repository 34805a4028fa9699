"""What probes may ask for: the measurements, and the context that takes each of them once.

The context is implemented in ``diagnose.context`` and handed in by the worker. Tensors are on the CPU, detached.
Names of parameters and modules are those of ``named_parameters`` and ``named_modules``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from probes.results import Expected, Finding, Where
from probes.results import Trace as TraceEvidence

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diagnose.pipeline import Pipeline  # for type checkers only: at run time probes import nothing of diagnose
    from probes.api import ProbeDoc


@dataclass(frozen=True)
class Failure:
    """An exception of the user's code, under the catalogue ``name`` that its text allows (at least user-code-error).

    ``phase``: "forward", "loss", "backward", "step", "train_step", "reading data" or "moving a batch to the device".
    ``module`` is the path of the innermost module that was running, ``module_type`` its class, ``inputs`` the shapes
    and dtypes it was given.
    """

    name: str
    phase: str
    type: str
    message: str
    frames: Sequence[Where]
    module: str = ""
    module_type: str = ""
    inputs: Sequence[str] = ()

    def finding(self, doc: ProbeDoc) -> Finding:
        """The failure told under ``doc``, with the module that was running and the user's frames."""
        lines = self.message.strip().splitlines()
        module = f", in {self.module or 'the model'} ({self.module_type}) given {', '.join(self.inputs)}"
        return doc.finding(
            "{phase} raised {type}: {text}{module}",
            phase=self.phase,
            type=self.type,
            text=lines[0] if lines else "(no message)",
            module=module if self.module_type else "",
            where=self.frames[-1:],
            evidence=(TraceEvidence(self.type, self.message, tuple(self.frames)),),
        )


@dataclass(frozen=True)
class Origin:
    """The function of torch that put out a tensor. ``module``: path of the torch.nn module that called it, if any."""

    function: str
    module: str = ""
    where: Sequence[Where] = ()


@dataclass(frozen=True)
class LossCall:
    """One call of a known loss function while the user's loss was computed, however deep inside.

    ``function`` is its name in ``torch.nn.functional`` (cross_entropy, nll_loss, binary_cross_entropy,
    binary_cross_entropy_with_logits, mse_loss, l1_loss, smooth_l1_loss, huber_loss, kl_div, ...). ``input`` and
    ``target`` are the tensors it was given, ``options`` its other arguments (weight, ignore_index, reduction,
    label_smoothing, ...). ``where`` is the innermost frame of the user's code, if any. ``origin`` tells what put out
    ``input``, views and copies aside, if that was an activation, a (log-)softmax or a linear layer.
    """

    function: str
    input: Tensor
    target: Tensor
    options: Mapping[str, Any]
    where: Sequence[Where] = ()
    origin: Origin | None = None


@dataclass(frozen=True)
class ModuleRecord:
    """What one leaf module put out during the first forward in train mode (its last call)."""

    path: str
    type: str
    shape: tuple[int, ...]
    mean: float
    std: float
    finite: bool
    requires_grad: bool
    calls: int
    zero_share: float


@dataclass(frozen=True)
class Attempt:
    """The first forward, loss and backward of a fresh pipeline in train mode on the first training batch.

    ``failure`` is None if all of it ran; otherwise what follows the failing phase is None. ``inputs`` are what the model
    is given, by position or else by keyword (the target is among them where the model takes it). ``output`` is the main
    output tensor (the logits), of shape (N, C, ...) or as the model gives it; ``target`` the batch's target. ``loss``
    is the value, ``loss_shape`` its shape, ``loss_has_graph`` whether it can be differentiated; ``batch_losses`` are
    the losses in train mode of the first few batches. ``modules`` are in order of execution. ``output_has_graph``:
    whether the model's own output can be differentiated. ``unstable_logs``: where a log was taken of exactly a softmax or
    sigmoid. ``broadcasts``: differences of something with a graph and something without, of shapes (N, 1) and (N,).
    """

    failure: Failure | None
    inputs: Sequence[Any] = ()
    output: Tensor | None = None
    output_type: str = ""
    target: Any = None
    loss: float | None = None
    loss_type: str = ""
    loss_shape: tuple[int, ...] | None = None
    loss_has_graph: bool | None = None
    half_batch_loss: float | None = None
    loss_calls: Sequence[LossCall] = ()
    modules: Sequence[ModuleRecord] = ()
    called_functions: Sequence[str] = ()
    output_has_graph: bool | None = None
    unstable_logs: Sequence[Origin] = ()
    broadcasts: Sequence[LossCall] = ()

    @property
    def head(self) -> ModuleRecord | None:
        """The last module that put out a tensor of the output's shape; most likely the one that made the output."""
        shape = None if self.output is None else tuple(self.output.shape)
        return next((record for record in reversed(self.modules) if record.shape == shape), None)


@dataclass(frozen=True)
class Outputs:
    """Outputs in eval mode, without gradient, over several training batches of the model as built.

    ``output``: (M, C, ...) float tensor; ``again``: the first batch's output of a second forward, ``first`` that of
    the first. ``target``: (M, ...) or None if it cannot be concatenated.
    """

    output: Tensor
    target: Tensor | None
    first: Tensor
    again: Tensor
    batches: int


@dataclass(frozen=True)
class ActivationRecord:
    """One place that activates, over several training batches in train mode. ``units`` and ``dead_share`` (of units
    that never fired) are those of a ReLU; ``flat_share`` is the share of values in the flats of a sigmoid or tanh.
    ``is_output``: its result is the model's output."""

    function: str
    module: str
    where: Sequence[Where]
    units: int
    dead_share: float
    flat_share: float
    values: int
    is_output: bool


@dataclass(frozen=True)
class LayerRecord:
    """How much a weighted layer's input and output differ between samples (standard deviation), in train mode."""

    path: str
    type: str
    input_std: float
    output_std: float


@dataclass(frozen=True)
class RandomCall:
    """A call that drew random numbers in eval mode, dropout with a probability above 0 included."""

    function: str
    module: str
    where: Sequence[Where]


@dataclass(frozen=True)
class CreatedModule:
    """A module with parameters of its own that was constructed during a forward; at ``every`` one, or the first."""

    type: str
    where: Sequence[Where]
    every: bool


@dataclass(frozen=True)
class Inspection:
    """A closer look at the forward over several training batches. ``layers`` are in order of execution."""

    activations: Sequence[ActivationRecord]
    layers: Sequence[LayerRecord]
    random_calls: Sequence[RandomCall]
    created: Sequence[CreatedModule]
    samples: int


@dataclass(frozen=True)
class ParameterRecord:
    """One parameter over the first updates. ``gradients``: norm per update, None where there was no gradient;
    ``updates``: |dp| / |p| per update (|dp| where |p| is 0). ``identical_rows``: before the first and after the last
    update, whether all rows of a matrix (or filters) are equal."""

    name: str
    shape: tuple[int, ...]
    requires_grad: bool
    optimized: bool
    gradients: Sequence[float | None]
    updates: Sequence[float]
    identical_rows: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class Updates:
    """The first few optimisation steps of a fresh pipeline, exactly as the pipeline defines a step.

    ``lrs`` holds the largest learning rate in force at each step. ``stepped`` counts calls of ``optimizer.step``.
    ``uncleared`` counts steps whose gradient still held that of the step before; ``cleared`` steps whose gradient was
    gone although backward had made one.
    """

    steps: int
    losses: Sequence[float]
    lrs: Sequence[float]
    stepped: int
    parameters: Sequence[ParameterRecord]
    uncleared: int = 0
    cleared: int = 0


@dataclass(frozen=True)
class Coverage:
    """Which parameters the optimizer holds, by identity.

    ``missing``: trainable but not optimised; ``stray``: shapes of optimised tensors that are not the model's;
    ``frozen``: of the model, not trainable. ``count`` trainable tensors.
    """

    missing: Sequence[str]
    stray: Sequence[tuple[int, ...]]
    frozen: Sequence[str]
    trainable: int
    total: int
    optimized: int
    where: Sequence[Where] = ()


@dataclass(frozen=True)
class Scan:
    """A bounded scan of one split, as its loader yields it.

    ``seen`` samples of ``total`` (None: unknown length) in ``batches`` batches; ``complete`` if all were seen.
    ``input_*`` describe the first input tensor. ``labels`` are integer class labels in the order seen (flattened for
    dense targets, capped), or empty; ``label_*`` hold for any numeric target. ``hashes`` identify samples by content,
    in the order seen; ``batch_sizes`` per batch. ``nonfinite`` / ``constant`` are positions (in order seen) of
    samples that hold NaN or Inf / one single value. ``sample_mean`` and ``sample_std`` are those of each sample's
    first input, for floating inputs. ``shuffles``, ``replacement``, ``weighted`` and ``planned`` (samples that an epoch
    draws) describe the sampler, None where it does not tell. ``dataset`` is class and folder of the innermost data
    set, ``dataset_size`` its length. ``failure`` is set if reading raised.
    """

    split: str
    seen: int
    total: int | None
    batches: int
    total_batches: int | None
    complete: bool
    batch_sizes: Sequence[int] = ()
    input_shape: tuple[int, ...] = ()
    shapes: Mapping[str, int] = field(default_factory=dict)
    input_dtype: str = ""
    input_min: float = 0.0
    input_max: float = 0.0
    input_mean: float = 0.0
    input_std: float = 0.0
    channel_mean: Sequence[float] = ()
    channel_std: Sequence[float] = ()
    target_shape: tuple[int, ...] = ()
    target_dtype: str = ""
    label_min: float | None = None
    label_max: float | None = None
    label_mean: float | None = None
    label_std: float | None = None
    labels: Sequence[int] = ()
    hashes: Sequence[int] = ()
    nonfinite: Sequence[int] = ()
    constant: Sequence[int] = ()
    workers: int = 0
    shuffles: bool | None = None
    failure: Failure | None = None
    sample_mean: Sequence[float] = ()
    sample_std: Sequence[float] = ()
    replacement: bool | None = None
    weighted: bool = False
    planned: int | None = None
    dataset: str = ""
    dataset_size: int | None = None


@dataclass(frozen=True)
class Reread:
    """A few items of a split's data set, each read twice. ``changed``: those that differed; ``distinct``: different
    items among the first readings."""

    split: str
    items: int
    changed: int
    distinct: int


@dataclass(frozen=True)
class Point:
    """A look at a training run after ``step`` steps: means over a fixed sample of each split, in eval mode."""

    step: int
    train_loss: float
    train_score: float | None
    val_loss: float | None = None
    val_score: float | None = None


@dataclass(frozen=True)
class Trace:
    """One short training.

    ``losses`` are the training losses per step as the pipeline computes them; ``points`` looks in eval mode. ``floor``
    is the lowest loss that the targets allow, ``constant`` the loss of the best constant prediction (chance), both
    None if unknown for the task. ``chance`` is the score of always guessing the most common class; scores are
    accuracies, or None for tasks without one. ``samples``/``val_samples`` say over how many a look goes. ``stopped``:
    "learned", "memorised", "steps" or "nonfinite". ``share``: the part of the gap from ``constant`` to ``floor`` that the
    last look had closed on training samples. ``outcome``: learns, slow (above chance, but hardly), stuck, nonfinite or
    unknown. ``predicted_share``: the share of look samples that got the most common prediction (class tasks).
    """

    name: str
    seed: int
    steps: int
    losses: Sequence[float]
    points: Sequence[Point]
    floor: float | None
    constant: float | None
    chance: float | None
    samples: int
    val_samples: int
    classes: int | None
    stopped: str
    seconds: float
    share: float | None = None
    outcome: str = "unknown"
    above_chance: bool | None = None
    val_above_chance: bool | None = None
    predicted_share: float | None = None


@dataclass(frozen=True)
class Reference:
    """A training of the user's model on reference data. ``source`` names the data; ``reason`` why it was impossible."""

    source: str
    trace: Trace
    threshold: float


@dataclass(frozen=True)
class Arm:
    """One change over the seeds. ``outcomes``: learns, slow, stuck, nonfinite or unknown; ``shares``: the part of the
    gap from chance to the floor that was closed; ``size`` orders changes, the mildest first; ``factors``: what the change
    multiplies, by group; ``signal``: cosine between the gradients of two passes over the same batch at the start (1: free
    of noise), or None."""

    key: str
    label: str
    size: float
    traces: Sequence[Trace]
    outcomes: Sequence[str]
    shares: Sequence[float | None]
    factors: Mapping[str, float] = field(default_factory=dict)
    signal: float | None = None


@dataclass(frozen=True)
class Ablation:
    """A knob turned. ``repaired``: key of the mildest arm that learns in the majority of seeds, or None; ``proved``:
    the control failed in the majority of seeds as well. Each arm was given at most ``steps`` steps."""

    knob: str
    control: Arm
    arms: Sequence[Arm]
    repaired: str | None
    proved: bool
    steps: int
    seeds: int

    @property
    def repairing(self) -> Arm | None:
        return next((arm for arm in self.arms if arm.key == self.repaired), None)


@dataclass(frozen=True)
class DropoutSite:
    """One place that drops. ``group``: "feature maps" (the input has a spatial extent), "head" (vectors), "sequence",
    "attention", "recurrent" or "drop-path"; ``key``: the module path, or file:line of a functional call."""

    key: str
    kind: str
    p: float
    group: str
    where: Sequence[Where] = ()


@dataclass(frozen=True)
class Facts:
    """What is known about the pipeline. ``loss_kind`` is that of the loss call seen ("" if none was)."""

    task: str
    num_classes: int | None
    class_names: Sequence[str]
    intents: frozenset[str]
    has_data: bool
    epochs: int
    device: str
    loss_name: str
    splits: Sequence[str]
    notes: Sequence[str] = ()
    custom_step: bool = False


class Context(Protocol):
    """Measurements, each taken once. Any of them raises ``Skip`` where it does not apply (say, no such split).

    A failure of the user's code is raised once as the user's; whoever asks again gets ``Skip`` naming the first.
    """

    @property
    def facts(self) -> Facts: ...

    @property
    def pipeline(self) -> Pipeline:
        """A pipeline as the factory built it, in train mode, on the CPU; for reading only."""

    def created_at(self, module: nn.Module | str) -> Sequence[Where]:
        """Where a module (or the module of that path) was created in the user's code; empty if unknown."""

    def optimizer_at(self) -> Sequence[Where]:
        """Where the optimizer was constructed."""

    def scan(self, split: str = "train") -> Scan: ...

    def reread(self, split: str) -> Reread:
        """Skip where the items of a split cannot be read one by one."""

    def shared_items(self) -> tuple[int, int] | None:
        """(items of val that train reads too, items of val) by data set and index; None where that cannot be told."""

    def attempt(self) -> Attempt: ...

    def outputs(self) -> Outputs: ...

    def updates(self) -> Updates: ...

    def moves_loss(self, names: Sequence[str]) -> bool | None:
        """Whether the loss of the first batch changes when these parameters do; None if that made it fail."""

    def jittered_gradients(self) -> Mapping[str, float | None]:
        """Largest gradient norm over the first batches of a model whose parameters were all disturbed slightly, so
        that nothing is zero by initialisation. None: no gradient at all."""

    def nonfinite_operation(self) -> str:
        """The operation whose backward first returned NaN on the first batches; "" if unknown."""

    def coverage(self) -> Coverage: ...

    def learning_rates(self) -> Sequence[float]:
        """The largest lr of each step of the planned run, from a dry run of the scheduler (evenly thinned)."""

    def inspection(self) -> Inspection: ...

    def evaluate(
        self, change: Callable[[Sequence[Any]], Sequence[Any]] | None = None, *, stirred: bool = False
    ) -> Tensor:
        """The main output in eval mode on the first batch, after ``change`` of the model's inputs (the values of a
        batch that is passed by keyword, in its order). ``stirred``: all parameters are disturbed a little first, always
        alike, so that branches and heads that start at zero show. Not memoised."""

    def fresh_model(self, seed: int | None = None) -> nn.Module:
        """A new model of the factory, for a probe that must look inside or touch it."""

    def overfit(self, regularised: bool = False) -> Trace: ...

    def reference(self) -> Reference: ...

    def subset(self) -> Trace: ...

    def ablation(self, knob: str) -> Ablation:
        """Knobs: dropout, weight-decay, lr, scheduler, clipping. Raises Skip where there is nothing to turn."""

    def dropout_sites(self) -> Sequence[DropoutSite]:
        """Every place that drops in train mode, modules first."""

    def history(self) -> Sequence[Mapping[str, Any]]:
        """Rows of the full training, one per epoch; a figure that is not finite is None."""

    def expected(self) -> Sequence[Expected]:
        """The values that the training should reach by epoch: the user's own, or known ones for known data."""


def placed(ctx: Context, origin: Origin | ActivationRecord | RandomCall) -> Sequence[Where]:
    """Where to look: the line that created the torch.nn module that called the function, else the line of the call."""
    return (ctx.created_at(origin.module) if origin.module else ()) or origin.where
