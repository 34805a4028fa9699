"""What probes may ask for: the measurements, through a context that takes each of them once.

The context is implemented in ``diagnose.context`` and handed in by the worker. What the measurements give are the
records of ``probes.records``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from probes.results import Expected, Where

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diagnose.pipeline import Pipeline  # for type checkers only: at run time probes import nothing of diagnose
    from probes.records.data import Association, NearCopies, Reread, Scan, Turned, WorkerDraws
    from probes.records.forward import (
        AsBuilt,
        Attempt,
        CustomFunction,
        HalfGradients,
        LossParts,
        Origin,
        Outputs,
        WeightLoad,
    )
    from probes.records.inspection import ActivationRecord, Inspection, RandomCall
    from probes.records.trials import Ablation, DropoutSite, LearningRateRange, Reference, Relief, Search, Trace
    from probes.records.updates import Coverage, Updates


@dataclass(frozen=True)
class Facts:
    """What is known about the pipeline without measuring. ``loss_name``: of the function or class; ``notes``: what was
    done otherwise than asked; ``custom_step``: the pipeline has a ``train_step`` of its own; ``epochs_stated``:
    somebody said how long the run is; ``task_stated``: somebody said what kind of task it is."""

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
    epochs_stated: bool = True
    task_stated: bool = True


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

    def forward_at(self) -> Sequence[Where]:
        """Where the model's own forward begins; where it was created if that is not the user's code."""

    def optimizer_at(self) -> Sequence[Where]:
        """Where the optimizer was constructed."""

    def scheduler_at(self) -> Sequence[Where]:
        """Where the scheduler, or one that it is made of, was constructed; else the optimizer."""

    def data_at(self, split: str) -> Sequence[Where]:
        """Where the DataLoader of a split was constructed, and where its data set's own reading begins."""

    def loss_at(self) -> Sequence[Where]:
        """Where the user's function of the loss begins, or its module was constructed; empty if it is torch's own."""

    def loader_at(self, split: str) -> Sequence[Where]:
        """Where the DataLoader of a split was constructed."""

    def scan(self, split: str = "train") -> Scan: ...

    def reread(self, split: str) -> Reread:
        """Skip where the items of a split cannot be read one by one."""

    def shared_items(self) -> tuple[int, int] | None:
        """(items of val that train reads too, items of val) by data set and index; None where that cannot be told."""

    def plain_scan(self) -> Scan:
        """The training split in the order of its data set, without random augmentation where that can be switched off;
        else ``scan("train")``."""

    def batch(self) -> Any:
        """The first training batch, understood: ``inputs`` and ``kwargs`` of the model, ``target``, ``size``."""

    def worker_draws(self) -> WorkerDraws: ...

    def single_process_hashes(self) -> Sequence[int]:
        """Of the first samples of an IterableDataset, read without workers; comparable with ``Scan.hashes``."""

    def association(self, *, thorough: bool = False) -> Association:
        """For one class or number per sample. ``thorough`` asks the slower predictors too."""

    def predicted_across(self) -> tuple[Sequence[int], Sequence[int]]:
        """(labels that the nearest neighbours in train give the samples of val, their own labels)."""

    def near_copies(self, split: str = "train") -> NearCopies:
        """Samples of a split that are all but equal to a training sample, beyond exact equality."""

    def turned_validation(self) -> Turned:
        """Whether the samples of val fit those of train better when they are flipped, transposed or reordered."""

    def shifted_associations(self) -> Mapping[int, Association]:
        """Shift k -> how well item i tells the target of item i + k, in the order of the data set."""

    def attempt(self) -> Attempt: ...

    def outputs(self) -> Outputs: ...

    def updates(self) -> Updates: ...

    def moves_loss(self, names: Sequence[str]) -> bool | None:
        """Whether the loss of the first batch changes when these parameters do; None if that made it fail."""

    def cancels_in_loss(self, names: Sequence[str]) -> bool:
        """Whether the outputs of the first batch change when these parameters do, and the loss does not: it is made of
        differences, say, in which they cancel."""

    def gradients(self) -> Mapping[str, float | None]:
        """Gradient norm of each trainable parameter over the first batch. Where the model as built leaves one without:
        the largest over the first batches of a model whose parameters were all disturbed slightly, so that nothing is
        zero by initialisation. None: no gradient at all."""

    def nonfinite_operation(self) -> str:
        """The operation whose backward first returned NaN on the first batches; "" if unknown."""

    def coverage(self) -> Coverage: ...

    def learning_rates(self) -> Sequence[float]:
        """The largest lr of each step of the planned run, from a dry run of the scheduler (evenly thinned)."""

    def as_built(self) -> Sequence[AsBuilt]:
        """Loss and outputs of the first batches in train mode, without any update. Raises Skip where only a whole step
        of the user's computes the loss."""

    def inspection(self) -> Inspection: ...

    def planned_steps(self) -> int:
        """Optimizer steps of the whole planned run."""

    def evaluate(
        self, change: Callable[[Sequence[Any]], Sequence[Any]] | None = None, *, whole: bool = False
    ) -> Tensor:
        """The main output (``whole``: all that it returns, in one row) in eval mode on the first batch, after
        ``change`` of the model's inputs (the values of a batch that is passed by keyword, in its order). All parameters
        are disturbed a little first, always alike, so that branches and heads that start at zero show. Not memoised."""

    def random_calls(self) -> Sequence[RandomCall]:
        """The calls that draw random numbers in eval mode, on the first batch."""

    def fresh_model(self, seed: int | None = None) -> nn.Module:
        """A new model of the factory, for a probe that must look inside or touch it."""

    def overfit(self) -> Trace:
        """One or two training batches, without dropout and weight decay; looks are in train mode."""

    def overfit_as_configured(self) -> Trace | None:
        """The same, with regularisation, for as many steps; None where there is no regularisation to compare."""

    def reference(self) -> Reference: ...

    def subset(self) -> Trace: ...

    def ablation(self, knob: str) -> Ablation:
        """One knob of ``search``. Raises Skip where there is nothing to turn."""

    def relief(self, knob: str) -> Relief:
        """A usual value in place of an unusual one, in a pipeline that learns. Raises Skip where nothing is gained."""

    def comparison(self) -> Ablation:
        """Every arm of a knob over every seed, as asked for by the user. Raises Skip where none was asked for."""

    def learning_rate_range(self) -> LearningRateRange: ...

    def learns_later(self) -> str:
        """How the unchanged pipeline learns after all in more of the steps that are planned; empty where it does not,
        or learned before."""

    def subset_given_time(self) -> Trace:
        """``subset()``; where that fails but ``learns_later()``, the longer training."""

    def search(self) -> Search:
        """Which changes, of settings or of whole parts, make a pipeline learn that does not."""

    def weight_loads(self) -> Sequence[WeightLoad]:
        """Every load_state_dict into the model while the pipeline was built."""

    def loss_parts(self) -> LossParts: ...

    def custom_functions(self) -> Sequence[CustomFunction]: ...

    def half_gradients(self) -> HalfGradients: ...

    def as_is_and_standardised(self, place: int) -> tuple[Trace, Trace]:
        """Two short trainings to their end under the run's seed + ``place``: as it is, and with every input column or
        channel standardised."""

    def plain_subset(self) -> Trace:
        """The same without random augmentation. Skip where it cannot be switched off from outside."""

    def augmentation_swaps(self) -> Sequence[tuple[int, int, float]]:
        """(class, class that its augmented samples look like, share of them), the worst first; empty if none."""

    def learned_by_heart(self, share: float) -> Trace:
        """A training on that share of the data for the same number of steps, whatever is learned on the way."""

    def overfit_data_term(self) -> Trace:
        """``overfit`` with the part of the loss alone that torch's loss functions put in."""

    def widened_overfit(self) -> Trace:
        """``overfit`` with a copy of the model whose hidden layers are several times wider. Skip where that cannot be
        made from outside."""

    def repaired_by(self) -> str | None:
        """The first change, of the experiments made so far, under which the pipeline learned."""

    def dropout_sites(self) -> Sequence[DropoutSite]:
        """Every place that drops in train mode, modules first."""

    def history(self) -> Sequence[Mapping[str, Any]]:
        """Rows of the full training, one per epoch; a figure that is not finite is None."""

    def expected(self) -> Sequence[Expected]:
        """The values that the training should reach by epoch: the user's own, or known ones for known data."""


def placed(ctx: Context, origin: Origin | ActivationRecord | RandomCall) -> Sequence[Where]:
    """Where to look: the line that created the torch.nn module that called the function, else the line of the call."""
    return (ctx.created_at(origin.module) if origin.module else ()) or origin.where
