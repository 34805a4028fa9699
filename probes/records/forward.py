"""What the first forward, loss and backward showed, and the outputs in eval mode.

Not here: what happens inside the forward (``inspection``) and what the optimizer does (``updates``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from probes.results import Finding, Trace, Where

if TYPE_CHECKING:
    from torch import Tensor

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
            evidence=(Trace(self.type, self.message, tuple(self.frames)),),
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

    ``failure`` is None if all of it ran; otherwise what follows the failing phase is None. ``inputs`` are what the
    model is given, by position or else by keyword (the target is among them where the model takes it). ``own_call``:
    a loss of the user's own called the model with other inputs than the batch's first ones, and these are ``inputs``,
    the last of them under the names ``keywords``. ``output`` is
    the main output tensor (the logits), of shape (N, C, ...) or as the model gives it; ``target`` the batch's target.
    ``loss`` is the value, ``loss_shape`` its shape, ``loss_has_graph`` whether it can be differentiated;
    ``half_batch_loss`` is that of the batch's first half, where there are no ``loss_calls``. ``modules`` are in order
    of execution. ``output_has_graph``: whether the model's own output can be differentiated. ``unstable_logs``: where a
    log was taken of exactly a softmax or sigmoid. ``broadcasts``: differences of something with a graph and something
    without, of shapes (N, 1) and (N,). ``output_gradient``: of the loss, at the output. ``own_functions``: the user's
    own autograd functions in its graph. ``gradients``: norm by trainable parameter, None for those that get none; empty
    in a step of the user's own.
    """

    failure: Failure | None
    inputs: Sequence[Any] = ()
    keywords: Sequence[str] = ()
    own_call: bool = False
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
    output_gradient: Tensor | None = None
    own_functions: Sequence[str] = ()
    gradients: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def head(self) -> ModuleRecord | None:
        """The last module that put out a tensor of the output's shape; most likely the one that made the output."""
        shape = None if self.output is None else tuple(self.output.shape)
        return next((record for record in reversed(self.modules) if record.shape == shape), None)


@dataclass(frozen=True)
class WeightLoad:
    """One load_state_dict while the pipeline was built. ``given`` keys; of the module's ``weights`` (tensors of real
    numbers) those ``taken`` from them and ``changed`` by that; of the ``matrices`` among these, those ``kept``: still
    alike in the finished model. ``key``: a given key that fits nothing, ``expected``: one of the module's own."""

    type: str
    where: Sequence[Where]
    given: int
    weights: int
    taken: int
    changed: int
    matrices: int
    kept: int
    key: str
    expected: str


@dataclass(frozen=True)
class LossParts:
    """Gradient norms of the loss over the first updates: of what torch's losses put into it, and of the rest (a
    regulariser). ``functions``: those losses; ``weights``: by how much the whole changes with each."""

    functions: Sequence[str]
    weights: Sequence[float]
    data: Sequence[float]
    rest: Sequence[float]


@dataclass(frozen=True)
class CustomFunction:
    """A torch.autograd.Function of the user's, checked in float64 along random directions. ``numeric``: its change by
    finite differences, ``analytic``: what its backward says. ``identity``: its forward returns its input."""

    name: str
    where: Sequence[Where]
    numeric: Sequence[float]
    analytic: Sequence[float]
    identity: bool


@dataclass(frozen=True)
class HalfGradients:
    """Gradients in the pipeline's own precision against float32, on the same weights and batch. ``vanished``: share of
    the elements that are 0 though they are not in float32; ``finite``: of loss and gradients, in either."""

    dtype: str
    vanished: float
    finite: bool
    finite_in_full: bool


@dataclass(frozen=True)
class Outputs:
    """Outputs of the first training batch in eval mode, without gradient, of the model as built: (N, C, ...) floats.

    ``again``: of a second forward. ``stirred``: of the model slightly disturbed; None where the model keeps something
    of what it saw before.
    """

    first: Tensor
    again: Tensor
    stirred: Tensor | None = None


@dataclass(frozen=True)
class AsBuilt:
    """One of the first batches before any update: its ``loss``, and which of its ``size`` samples have an output that
    is not finite (``bad``; empty too where outputs do not go by samples)."""

    loss: float
    bad: Sequence[int]
    size: int
