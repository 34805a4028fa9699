"""The measurements of one pipeline, each taken once, handed to the probes (see ``probes.measurements.Context``).

What is common to them is here: the pipeline and fresh ones, the memory of what was measured, and where the user's code
made what. Each measurement is a line that names where it is taken: of the data, of passes and of first steps in
``diagnose.measure``, short trainings in ``diagnose.experiments``; the full training (``diagnose.training``) leaves its
rows here.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from diagnose.batches import Batch, understand
from diagnose.experiments import data_knobs
from diagnose.experiments.change import AS_CONFIGURED
from diagnose.experiments.kept import KeptTrials
from diagnose.experiments.short_trainings import ShortTrainings
from diagnose.facts import known_facts
from diagnose.measure.judged_labels import judges_labels
from diagnose.measure.of_data import DataMeasurements
from diagnose.measure.of_passes import PassMeasurements
from diagnose.measure.of_steps import StepMeasurements
from diagnose.memo import Memo
from diagnose.rng import preserved, seed_all, seeded
from diagnose.training.expected import expected_for
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError, is_user_file, place
from probes.api import Skip
from probes.measurements import Facts
from probes.records.data import Association, NearCopies, Reread, Scan, Turned, WorkerDraws
from probes.records.forward import AsBuilt, Attempt, CustomFunction, HalfGradients, LossParts, Outputs, WeightLoad
from probes.records.inspection import Inspection, RandomCall
from probes.records.trials import Ablation, DropoutSite, LearningRateRange, Reference, Relief, Search, Trace
from probes.records.updates import Coverage, Updates
from probes.results import Expected, Where

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diagnose.pipeline import Pipeline
    from diagnose.target.source import Source

T = TypeVar("T")


class MeasuringContext:
    """Implements ``probes.measurements.Context`` over a source of fresh pipelines.

    ``deadline`` (of time.monotonic) ends short trainings, None: never. ``rows`` are those of the full training;
    ``notes`` what was done otherwise than asked, as sentences (see ``Facts.notes``).
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int = 0,
        device: str = "cpu",
        fraction: float | None = None,
        reference: str | None = None,
        download: bool = False,
        full_scan: bool = False,
        progress: Callable[[str, int, int], None] = lambda what, done, of: None,
        measuring: Callable[[str, bool], None] = lambda key, begins: None,
        poisoned: Mapping[str, str] | None = None,
        trials: Mapping[str, Mapping[str, Any]] | None = None,
        keep: Callable[[str, Mapping[str, Any]], None] = lambda key, trace: None,
        processes: int = 1,
    ) -> None:
        """``progress(what, done, of)`` is told how far a training is; for ``measuring`` and ``poisoned`` see ``Memo``,
        for ``trials`` and ``keep`` see ``KeptTrials``; ``processes``: trials that may run side by side."""
        self.source = source
        self.seed = seed
        self.device = torch.device(device)
        self.fraction = fraction
        self.reference_name = reference
        self.download = download
        self.full_scan = full_scan
        self.progress = progress
        self.processes = processes
        self.deadline: float | None = None
        self.rows: list[Mapping[str, Any]] = []
        self.notes: list[str] = []
        self.kept = KeptTrials(trials or {}, keep)
        self._data = DataMeasurements(self)
        self._passes = PassMeasurements(self)
        self._steps = StepMeasurements(self)
        self._trainings = ShortTrainings(self)
        self._memo = Memo(measuring, poisoned or {})
        self._facts: Facts | None = None

    def once(self, key: str, what: str, measure: Callable[[], T]) -> T:
        """See ``Memo.once``; the measurement leaves the global random generators as they were."""

        def guarded() -> T:
            with preserved():  # libraries draw too: importing scikit-learn does
                return measure()

        return self._memo.once(key, what, guarded)

    def knows(self, key: str) -> bool:
        return self._memo.knows(key)

    def retry(self) -> None:
        """Let failures be met and reported anew."""
        self._memo.retry()

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def pipeline(self) -> Pipeline:
        """As the source builds it under the run's seed; for reading only."""
        return self.once("pipeline", "building the pipeline", lambda: self.source.build(self.seed))

    @property
    def known(self) -> Facts:
        """The facts as far as they are known without a run of the model."""
        return known_facts(self.pipeline, self.source, str(self.device), self.notes)

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = self.known
            if self._ignores_labels(self._facts):
                self.notes.append("The loss does not judge these labels: no accuracy is taken (task custom).")
                self._facts = replace(self._facts, task="custom")
        return replace(self._facts, notes=(*self.source.notes, *self.notes))

    def _ignores_labels(self, known: Facts) -> bool:
        """Labels that were taken for the task only because they are there."""
        own = self.pipeline.compute_loss is not None or self.pipeline.train_step is not None
        if not own or known.task_stated or known.task != "classification" or not known.has_data:
            return False
        try:
            attempt = self.attempt()
            classes = known.num_classes or len(set(self.scan().labels))
            return not judges_labels(attempt, classes)
        except Skip:
            return False
        except UserCodeError:
            self.retry()  # a probe meets it again, and reports it
            return False

    @property
    def trainings(self) -> ShortTrainings:
        """Whoever asks for one has the memory of the models that measurements kept."""
        self._passes.let_go()
        self._steps.let_go()
        return self._trainings

    def set_aside(self) -> None:
        """Let go of the pipeline, so that data in memory are there once while a training has its own."""
        self._memo.forget("pipeline")
        self._passes.let_go()
        self._steps.let_go()
        gc.collect()

    def created_at(self, module: nn.Module | str) -> Sequence[Where]:
        """Where a module, or the module of that path, was created in the user's code; empty if unknown."""
        if isinstance(module, str):
            found = dict(self.pipeline.model.named_modules()).get(module)
            return () if found is None else self.made_at(found)
        return self.made_at(module)

    def forward_at(self) -> Sequence[Where]:
        """Where the model's own forward begins; where it was created if that is not the user's code."""
        return _begins(type(self.pipeline.model).forward) or self.made_at(self.pipeline.model)

    def optimizer_at(self) -> Sequence[Where]:
        """Where the optimizer was constructed; empty if unknown."""
        return self.made_at(self.pipeline.optimizer)

    def scheduler_at(self) -> Sequence[Where]:
        """Where the scheduler, or one that it is made of, was constructed; else the optimizer."""
        scheduler = self.pipeline.scheduler
        made = (scheduler, *getattr(scheduler, "_schedulers", ()))  # SequentialLR does not run the constructor it has
        return next((where for part in made if (where := self.made_at(part))), self.optimizer_at())

    def loader_at(self, split: str) -> Sequence[Where]:
        """Where the DataLoader of a split was constructed; empty if unknown."""
        return self.made_at(getattr(self.pipeline, split, None))

    def data_at(self, split: str) -> Sequence[Where]:
        """Where the DataLoader of a split was constructed, and where its data set's own reading begins."""
        dataset = getattr(getattr(self.pipeline, split, None), "dataset", None)
        while (inner := getattr(dataset, "dataset", None)) is not None:  # of a Subset
            dataset = inner
        reading = getattr(type(dataset), "__getitem__", None) or getattr(type(dataset), "__iter__", None)
        return (*self.loader_at(split), *_begins(reading))

    def loss_at(self) -> Sequence[Where]:
        """Where the user's function of the loss begins, or its module was constructed; empty if it is torch's own."""
        loss = self.pipeline.train_step or self.pipeline.compute_loss or self.pipeline.loss
        return self.made_at(loss) or _begins(loss)

    def made_at(self, made: Any) -> Sequence[Where]:
        """Where an object was constructed in the user's code; empty if unknown."""
        where = self.source.created_at(made)
        return () if where is None else (where,)

    def fresh_model(self, seed: int | None = None) -> nn.Module:
        """A model of its own for a probe that touches it."""
        with preserved():
            return self.fresh(self.seed if seed is None else seed).model

    def fresh(self, seed: int) -> Pipeline:
        """A fresh pipeline; the loaders of a model factory are those of the first one."""
        return self.source.build(seed, reuse_data=self.pipeline)

    @contextmanager
    def engine(self, *, channels_last: bool = False, kept: Pipeline | None = None) -> Iterator[Engine]:
        """A fresh pipeline to run, or one that another measurement ``kept``, under the run's seed; afterwards the
        generators are as before."""
        with seeded(self.seed):
            engine = Engine(kept or self.fresh(self.seed), self.device, channels_last=channels_last)
            seed_all(self.seed)  # whatever building drew, the measurement begins alike
            try:
                yield engine
            finally:
                engine.close()

    # -- data: diagnose.measure.of_data --------------------------------------------------------------------------

    def need_data(self) -> None:
        """Raises Skip where the data are made up."""
        self._data.need_data()

    def raws(self) -> list[Any]:
        """The first raw training batches, FIRST_BATCHES at most. Raises Skip where there is none."""
        return self._data.raws()

    def batch(self) -> Batch:
        """The first training batch, on the CPU."""
        return understand(self.raws()[0])

    def scan(self, split: str = "train") -> Scan:
        return self._data.scan(split)

    def plain_scan(self) -> Scan:
        return self._data.plain_scan()

    def reread(self, split: str) -> Reread:
        return self._data.reread(split)

    def shared_items(self) -> tuple[int, int] | None:
        return self._data.shared_items()

    def worker_draws(self) -> WorkerDraws:
        return self._data.worker_draws()

    def single_process_hashes(self) -> Sequence[int]:
        return self._data.single_process_hashes()

    def association(self, *, thorough: bool = False) -> Association:
        return self._data.association(thorough=thorough)

    def shifted_associations(self) -> Mapping[int, Association]:
        return self._data.shifted_associations()

    def predicted_across(self) -> tuple[Sequence[int], Sequence[int]]:
        return self._data.predicted_across()

    def near_copies(self, split: str = "train") -> NearCopies:
        return self._data.near_copies(split)

    def turned_validation(self) -> Turned:
        return self._data.turned_validation()

    def augmentation_swaps(self) -> Sequence[tuple[int, int, float]]:
        return self._data.augmentation_swaps()

    # -- forward and backward: diagnose.measure.of_passes --------------------------------------------------------

    def outputs(self) -> Outputs:
        return self._passes.outputs()

    def evaluate(
        self, change: Callable[[Sequence[Any]], Sequence[Any]] | None = None, *, whole: bool = False
    ) -> Tensor:
        return self._passes.evaluate(change, whole=whole)

    def inspection(self) -> Inspection:
        return self._passes.inspection()

    def random_calls(self) -> Sequence[RandomCall]:
        return self._passes.random_calls()

    def moves_loss(self, names: Sequence[str]) -> bool | None:
        return self._passes.moves_loss(names)

    def cancels_in_loss(self, names: Sequence[str]) -> bool:
        return self._passes.cancels_in_loss(names)

    def gradients(self) -> Mapping[str, float | None]:
        return self._passes.gradients()

    def nonfinite_operation(self) -> str:
        return self._passes.nonfinite_operation()

    def loss_parts(self) -> LossParts:
        return self._passes.loss_parts()

    def custom_functions(self) -> Sequence[CustomFunction]:
        return self._passes.custom_functions()

    def half_gradients(self) -> HalfGradients:
        return self._passes.half_gradients()

    def dropout_sites(self) -> Sequence[DropoutSite]:
        return self._passes.dropout_sites()

    def weight_loads(self) -> Sequence[WeightLoad]:
        return self.source.loads_into(self.pipeline.model)

    # -- first steps: diagnose.measure.of_steps ------------------------------------------------------------------

    def attempt(self) -> Attempt:
        return self._steps.attempt()

    def completed_attempt(self) -> Attempt:
        """The attempt, where it ran to its end; dependents of a failed one are skipped with its reason."""
        return self._steps.completed_attempt()

    def as_built(self) -> Sequence[AsBuilt]:
        return self._steps.as_built()

    def updates(self) -> Updates:
        return self._steps.updates()

    def coverage(self) -> Coverage:
        return self._steps.coverage()

    def learning_rates(self) -> Sequence[float]:
        return self._steps.learning_rates()

    def planned_steps(self) -> int:
        return self._steps.planned_steps()

    def forward_operations(self) -> float:
        """Of the forward pass over the first batch; inf where they cannot be counted."""
        return self._steps.forward_operations()

    def most_steps(self) -> dict[str, int]:
        """Training steps that each stage takes at most; without those whose length is not known."""
        return self._steps.most_steps()

    # -- trainings: diagnose.experiments.short_trainings, diagnose.training --------------------------------------

    def overfit(self) -> Trace:
        return self.trainings.overfit()

    def overfit_as_configured(self) -> Trace | None:
        return self.trainings.overfit_as_configured()

    def subset(self) -> Trace:
        return self.trainings.subset()

    def ablation(self, knob: str) -> Ablation:
        return self.trainings.ablation(knob)

    def relief(self, knob: str) -> Relief:
        return self.trainings.relief(knob)

    def comparison(self) -> Ablation:
        return self.trainings.last_comparison()

    def learning_rate_range(self) -> LearningRateRange:
        return self.trainings.learning_rate_range()

    def learns_later(self) -> str:
        later = self.trainings.given_longer()
        return later.told if later is not None and later.learns else ""

    def subset_given_time(self) -> Trace:
        later = self.trainings.given_longer()
        return later.trace if later is not None and later.learns else self.subset()

    def search(self) -> Search:
        return self.trainings.search()

    def as_is_and_standardised(self, place: int) -> tuple[Trace, Trace]:
        pair = (AS_CONFIGURED, data_knobs.inputs(self, ())[0])
        return self.trainings.to_the_end(pair[0], place), self.trainings.to_the_end(pair[1], place)

    def plain_subset(self) -> Trace:
        return self.trainings.trial(data_knobs.augmentation(self, ())[0], self.seed)

    def learned_by_heart(self, share: float) -> Trace:
        return self.trainings.learned_by_heart(share)

    def overfit_data_term(self) -> Trace:
        return self.trainings.overfit_data_term()

    def widened_overfit(self) -> Trace:
        return self.trainings.widened_overfit()

    def repaired_by(self) -> str | None:
        return self.trainings.repaired_by

    def reference(self) -> Reference:
        return self.trainings.reference()

    def history(self) -> Sequence[Mapping[str, Any]]:
        return self.rows

    def expected(self) -> Sequence[Expected]:
        return self.once("expected", "looking up what is expected", lambda: expected_for(self.pipeline, self.facts))


def _begins(function: Any) -> tuple[Where, ...]:
    """The first line of a function of the user's; empty for any other object."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return (place(code.co_filename, code.co_firstlineno),) if code and is_user_file(code.co_filename) else ()
