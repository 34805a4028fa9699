"""The measurements of one pipeline, each taken once, handed to the probes (see ``probes.measurements.Context``).

Not covered: how a measurement is taken (``diagnose.measure``), short trainings (``diagnose.experiments``), and the full
training (``diagnose.training``), which leaves its rows here.
"""

from __future__ import annotations

import gc
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from diagnose.batches import Batch, understand
from diagnose.experiments import data_knobs, dropout
from diagnose.experiments.change import AS_CONFIGURED
from diagnose.experiments.kept import KeptTrials
from diagnose.experiments.short_trainings import MOST_STEPS, ShortTrainings
from diagnose.facts import known_facts
from diagnose.measure import (
    association,
    attempt,
    custom_functions,
    inspection,
    items,
    loss_parts,
    near,
    outputs,
    scan,
    sensitivity,
    turned,
    updates,
    workers,
)
from diagnose.memo import Memo
from diagnose.rng import loader_untouched, preserved, seed_all, seeded
from diagnose.training.expected import expected_for
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError, is_user_file, place, user_code
from probes.api import Skip
from probes.measurements import Facts
from probes.records.data import Association, NearCopies, Reread, Rows, Scan, Turned, WorkerDraws
from probes.records.forward import Attempt, CustomFunction, HalfGradients, LossParts, Outputs, WeightLoad
from probes.records.inspection import Inspection
from probes.records.trials import Ablation, DropoutSite, LearningRateRange, Reference, Relief, Search, Trace
from probes.records.updates import Coverage, Updates
from probes.results import Expected, Where

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diagnose.pipeline import Pipeline
    from diagnose.target import Source

T = TypeVar("T")

FIRST_BATCHES = 4
UNKNOWN_LENGTH = 1_000  # batches per epoch that the schedule's dry run assumes of a loader that does not tell


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
        self.trainings = ShortTrainings(self)
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
    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = known_facts(self.pipeline, self.source, str(self.device), ())
        return replace(self._facts, notes=(*self.source.notes, *self.notes))

    def set_aside(self) -> None:
        """Let go of the pipeline, so that data in memory are there once while a training has its own."""
        self._memo.forget("pipeline")
        gc.collect()

    def created_at(self, module: nn.Module | str) -> Sequence[Where]:
        """Where a module, or the module of that path, was created in the user's code; empty if unknown."""
        if isinstance(module, str):
            found = dict(self.pipeline.model.named_modules()).get(module)
            return () if found is None else self._created(found)
        return self._created(module)

    def forward_at(self) -> Sequence[Where]:
        """Where the model's own forward begins; where it was created if that is not the user's code."""
        code = getattr(inspect.unwrap(type(self.pipeline.model).forward), "__code__", None)
        if code is None or not is_user_file(code.co_filename):
            return self._created(self.pipeline.model)
        return (place(code.co_filename, code.co_firstlineno),)

    def optimizer_at(self) -> Sequence[Where]:
        """Where the optimizer was constructed; empty if unknown."""
        return self._created(self.pipeline.optimizer)

    def scheduler_at(self) -> Sequence[Where]:
        """Where the scheduler, or one that it is made of, was constructed; else the optimizer."""
        scheduler = self.pipeline.scheduler
        made = (scheduler, *getattr(scheduler, "_schedulers", ()))  # SequentialLR does not run the constructor it has
        return next((where for part in made if (where := self._created(part))), self.optimizer_at())

    def loader_at(self, split: str) -> Sequence[Where]:
        """Where the DataLoader of a split was constructed; empty if unknown."""
        return self._created(getattr(self.pipeline, split, None))

    def _created(self, made: Any) -> Sequence[Where]:
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
    def engine(self, *, channels_last: bool = False) -> Iterator[Engine]:
        """A fresh pipeline to run, under the run's seed; afterwards the generators are as before."""
        with seeded(self.seed):
            engine = Engine(self.fresh(self.seed), self.device, channels_last=channels_last)
            seed_all(self.seed)  # whatever building drew, the measurement begins alike
            try:
                yield engine
            finally:
                engine.close()

    # -- data ---------------------------------------------------------------------------------------------------

    def need_data(self) -> None:
        """Raises Skip where the data are made up."""
        if not self.source.has_data:
            raise Skip("no data was given")

    def _loader(self, split: str) -> Any:
        self.need_data()
        loader = getattr(self.pipeline, split)
        if loader is None:
            raise Skip(f"there is no {split} split")
        return loader

    def scan(self, split: str = "train") -> Scan:
        loader = self._loader(split)
        return self.once(
            f"scan {split}",
            f"reading the {split} split",
            lambda: scan.scan(loader, split, self.seed, full=self.full_scan),
        )

    def _need_readable(self, split: str) -> None:
        """Raises Skip where reading failed: what reads items in this process would meet the same end."""
        failure = self.scan(split).failure
        if failure is not None:
            raise Skip(f"reading the {split} split raised {failure.type}")

    def reread(self, split: str) -> Reread:
        loader = self._loader(split)

        def measure() -> Reread:
            self._need_readable(split)
            found = items.reread(loader, split, self.seed)
            if found is None:
                raise Skip(f"the items of the {split} split cannot be read one by one")
            return found

        return self.once(f"reread {split}", f"reading items of the {split} split twice", measure)

    def shared_items(self) -> tuple[int, int] | None:
        train, val = self.pipeline.train, self.pipeline.val
        return self.once("shared items", "comparing the splits", lambda: items.shared_items(train, val))

    def worker_draws(self) -> WorkerDraws:
        loader = self._loader("train")

        def measure() -> WorkerDraws:
            self._need_readable("train")
            found = workers.worker_draws(loader, self.seed)
            if found is None:
                raise Skip("the loader is none of torch's with two workers over a data set of items")
            return found

        return self.once("worker draws", "reading an item in two workers", measure)

    def plain_scan(self) -> Scan:
        as_given = self.scan("train")
        if as_given.failure is not None:
            return as_given
        try:
            if not self.reread("train").changed:
                return as_given
        except Skip:
            return as_given

        def measure() -> Scan:
            plain = data_knobs.plain_loader(self.pipeline)
            if plain is None:
                return as_given
            loader, switch = plain
            switch(True)
            try:
                return scan.scan(loader, "train", self.seed, full=self.full_scan)
            finally:
                switch(False)

        return self.once("plain scan", "reading the train split without augmentation", measure)

    def single_process_hashes(self) -> Sequence[int]:
        loader = self._loader("train")
        return self.once(
            "single process", "reading the training data in one process", lambda: scan.hashes_alone(loader, self.seed)
        )

    def association(self, *, thorough: bool = False) -> Association:
        if self.facts.task not in {"classification", "regression", "multilabel"}:
            raise Skip(f"judged for one target per sample, not for {self.facts.task}")

        def measure() -> Association:
            rows = self._plain_rows()
            classes = self._picks_a_class(rows)
            found = association.association(rows, classes=classes, thorough=thorough, seed=self.seed)
            if found is None:
                raise Skip("there are too few samples, or a single class")
            return found

        return self.once(f"association {thorough}", "asking simple predictors", measure)

    def _picks_a_class(self, rows: Rows) -> bool:
        """Whether the targets are one class each; several tags at once are taken for numbers to predict."""
        y = rows.targets
        binary = self.facts.task == "multilabel" and y.ndim == 1 and bool(((y == 0) | (y == 1)).all())
        return self.facts.task == "classification" or binary

    def _plain_rows(self) -> Rows:
        return _table(self.plain_scan())

    def _rows(self, split: str) -> Rows:
        return _table(self.scan(split))

    def predicted_across(self) -> tuple[Sequence[int], Sequence[int]]:
        def measure() -> tuple[Sequence[int], Sequence[int]]:
            found = association.across(self._plain_rows(), self._rows("val"))
            if found is None:
                raise Skip("the splits do not make tables alike")
            return found

        return self.once("across", "asking the neighbours in train about val", measure)

    def near_copies(self, split: str = "train") -> NearCopies:
        def measure() -> NearCopies:
            other = None if split == "train" else self._rows(split)
            found = near.near_copies(self._plain_rows(), other, self.seed, table=len(self.scan().input_shape) == 2)
            if found is None:
                raise Skip("the samples do not make a table that is large enough")
            return found

        return self.once(f"near {split}", f"looking for copies in the {split} split", measure)

    def turned_validation(self) -> Turned:
        def measure() -> Turned:
            within, rows = self.association(), self._plain_rows()
            shape, score = self.scan("val").input_shape[1:], within.scores["nearest neighbours"]
            other, classes = self._rows("val"), self._picks_a_class(rows)
            found = turned.turned(rows, other, shape, score, classes=classes) if within.related else None
            if found is None:
                raise Skip("nearest neighbours know too little of these data, or cannot read them")
            return found

        return self.once("turned", "comparing val with train, turned round", measure)

    def shifted_associations(self) -> Mapping[int, Association]:
        loader = self._loader("train")

        def measure() -> Mapping[int, Association]:
            self._need_readable("train")
            raws = items.in_order(loader, self.seed)
            if raws is None:
                raise Skip("the items of the train split cannot be read one by one")
            return association.shifted(raws, classes=self._picks_a_class(self._plain_rows()), seed=self.seed)

        return self.once("shifted", "comparing inputs with the labels of their neighbours", measure)

    def raws(self) -> list[Any]:
        """The first raw training batches, FIRST_BATCHES at most. Raises Skip where there is none."""

        def read() -> list[Any]:
            loader = self.pipeline.train
            with seeded(self.seed), loader_untouched(loader), user_code("reading data"):
                return list(islice(iter(loader), FIRST_BATCHES))

        found = self.once("first batches", "reading the first batches", read)
        if not found:
            raise Skip("the training loader is empty")
        return found

    def batch(self) -> Batch:
        """The first training batch, on the CPU."""
        return understand(self.raws()[0])

    # -- forward and backward -----------------------------------------------------------------------------------

    def attempt(self) -> Attempt:
        def measure() -> Attempt:
            with self.engine() as engine:
                return attempt.attempt(engine, self.raws())

        return self.once("attempt", "the first forward and backward", measure)

    def completed_attempt(self) -> Attempt:
        """The attempt, where it ran to its end; dependents of a failed one are skipped with its reason."""
        done = self.attempt()
        if done.failure is not None:
            raise Skip(f"{done.failure.phase} raised {done.failure.type}")
        if done.loss is None or not done.loss_has_graph:
            raise Skip("the loss cannot be differentiated")
        return done

    def outputs(self) -> Outputs:
        def measure() -> Outputs:
            failure = self.attempt().failure
            if failure is not None and failure.phase not in {"loss", "backward", "step"}:
                raise Skip(f"{failure.phase} raised {failure.type}")
            with self.engine() as engine:
                return outputs.outputs(engine, self.raws())

        return self.once("outputs", "outputs in eval mode", measure)

    def evaluate(
        self, change: Callable[[Sequence[Any]], Sequence[Any]] | None = None, *, stirred: bool = False
    ) -> Tensor:
        seen = self.outputs()  # the user's failure belongs to the unchanged input
        if stirred and change is None and seen.stirred is not None:
            return seen.stirred
        return self._evaluated([change], stirred)[0]

    def evaluate_each(
        self, changes: Sequence[Callable[[Sequence[Any]], Sequence[Any]]], *, stirred: bool = False
    ) -> Sequence[Tensor]:
        if self.outputs().stirred is None:  # the model keeps something of what it sees: a fresh one each time
            return [self.evaluate(change, stirred=stirred) for change in changes]
        return self._evaluated(changes, stirred)

    def _evaluated(self, changes: Sequence[Any], stirred: bool) -> list[Tensor]:
        with self.engine() as engine:
            stir = sensitivity.disturbed(engine.model, sensitivity.JITTER) if stirred else nullcontext()
            with stir:
                return [outputs.changed_output(engine, self.raws()[0], change) for change in changes]

    def inspection(self) -> Inspection:
        def measure() -> Inspection:
            self.completed_attempt()
            with self.engine() as engine:
                return inspection.inspection(engine.model, lambda raw: outputs.forward(engine, raw).main, self.raws())

        return self.once("inspection", "a closer look at the forward", measure)

    def moves_loss(self, names: Sequence[str]) -> bool | None:
        def loss(disturbed: Sequence[str], jolt: float = 0.0) -> float:
            with self.engine() as engine:
                engine.model.train()
                with sensitivity.disturbed(engine.model, jolt, disturbed):
                    return sensitivity.loss_of(engine, self.raws()[0])

        try:
            before = self.once("undisturbed loss", "the loss of the first batch", lambda: loss(()))
            after = [loss(names, jolt) for jolt in sensitivity.JOLTS]
        except UserCodeError:
            return None
        if not math.isfinite(before) or not math.isfinite(after[0]):
            return None
        return any(before != value for value in after if math.isfinite(value))

    def jittered_gradients(self) -> Mapping[str, float | None]:
        def measure() -> Mapping[str, float | None]:
            self.completed_attempt()
            if sensitivity.only_step(self.pipeline):
                raise Skip("only the pipeline's own train_step computes the loss")
            with self.engine() as engine:
                engine.model.train()
                with sensitivity.disturbed(engine.model, sensitivity.JITTER):
                    return sensitivity.gradients(engine, self.raws())

        return self.once("jittered gradients", "the gradient of a slightly changed model", measure)

    def nonfinite_operation(self) -> str:
        def measure() -> str:
            if sensitivity.only_step(self.pipeline):
                return ""
            with self.engine() as engine:
                engine.model.train()
                return sensitivity.nonfinite_operation(engine, self.raws())

        return self.once("nonfinite operation", "looking for the operation", measure)

    def weight_loads(self) -> Sequence[WeightLoad]:
        return self.source.loads_into(self.pipeline.model)

    def loss_parts(self) -> LossParts:
        def measure() -> LossParts:
            self.completed_attempt()
            if sensitivity.only_step(self.pipeline):
                raise Skip("only the pipeline's own train_step computes the loss")
            with self.engine() as engine:
                found = loss_parts.loss_parts(engine, self.raws())
            if found is None:
                raise Skip("the loss is not one of torch's losses plus something else")
            return found

        return self.once("loss parts", "taking the loss apart", measure)

    def custom_functions(self) -> Sequence[CustomFunction]:
        def measure() -> Sequence[CustomFunction]:
            tried = self.completed_attempt()
            if sensitivity.only_step(self.pipeline):
                raise Skip("only the pipeline's own train_step computes the loss")
            if not tried.own_functions:
                return ()
            with self.engine() as engine:
                engine.model.train()
                return custom_functions.custom_functions(lambda: engine.loss(self.raws()[0]).loss)

        return self.once("custom functions", "checking the user's own autograd functions", measure)

    def half_gradients(self) -> HalfGradients:
        """Skip where everything is computed in float32 or more."""
        fresh = self.pipeline
        stored = {p.dtype for p in fresh.model.parameters()} & {torch.float16, torch.bfloat16}
        dtype = "fp16" if fresh.precision == "fp16" or torch.float16 in stored else "bf16"
        if fresh.precision == "fp32" and not stored:
            raise Skip("everything is computed in float32")

        def measure() -> HalfGradients:
            self.completed_attempt()
            if sensitivity.only_step(self.pipeline):
                raise Skip("only the pipeline's own train_step computes the loss")
            with self.engine() as own, self.engine() as full:
                full.pipeline.precision = "fp32"
                full.model.float()
                return sensitivity.half_gradients(own, full, self.raws()[0], dtype)

        return self.once("half gradients", "comparing with float32", measure)

    def dropout_sites(self) -> Sequence[DropoutSite]:
        def measure() -> list[DropoutSite]:
            self.completed_attempt()
            with self.engine() as engine:
                return dropout.sites(engine, self.raws()[0], self._created)

        return self.once("dropout sites", "looking for dropout", measure)

    # -- steps --------------------------------------------------------------------------------------------------

    def updates(self) -> Updates:
        def measure() -> Updates:
            self.completed_attempt()
            with self.engine() as engine:
                return updates.updates(engine, self.raws())

        return self.once("updates", "the first updates", measure)

    def coverage(self) -> Coverage:
        def measure() -> Coverage:
            made = self.pipeline
            seen = updates.coverage(made.model, made.optimizer, made.loss, made.compute_loss, made.train_step)
            return replace(seen, where=self._created(made.optimizer))

        return self.once("coverage", "comparing optimizer and model", measure)

    def learning_rates(self) -> Sequence[float]:
        def measure() -> Sequence[float]:
            scheduled = self.pipeline.scheduler is not None
            with user_code("the scheduler's dry run"):
                return updates.dry_run(self.fresh(self.seed) if scheduled else self.pipeline, self._steps_per_epoch())

        return self.once("dry run", "the schedule's dry run", measure)

    def planned_steps(self) -> int:
        return self.pipeline.epochs * self._steps_per_epoch()

    def forward_operations(self) -> float:
        """Floating-point operations of the forward pass over the first batch, as far as torch can count them; inf where
        the loss lives in the user's own step, or the forward pass fails."""

        def count() -> float:
            from torch.utils.flop_counter import FlopCounterMode

            with self.engine() as engine:
                if not engine.has_loss:
                    return math.inf
                with torch.no_grad(), FlopCounterMode(display=False) as counted:
                    engine.loss(self.raws()[0])
            return float(counted.get_total_flops())

        try:
            return self.once("operations", "counting operations", count)
        except (UserCodeError, Skip):  # a probe of the forward pass tells it
            return math.inf

    def most_steps(self) -> dict[str, int]:
        """Training steps that each stage takes at most; without those whose length is not known."""
        known = scan.batch_count(self.pipeline.train) is not None
        return {**MOST_STEPS, **({"train": self.planned_steps()} if known else {})}

    def _steps_per_epoch(self) -> int:
        batches = scan.batch_count(self.pipeline.train)
        return max(1, (UNKNOWN_LENGTH if batches is None else batches) // max(1, self.pipeline.accumulate))

    # -- trainings ----------------------------------------------------------------------------------------------

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

    def search(self) -> Search:
        return self.trainings.search()

    def as_is_and_standardised(self, place: int) -> tuple[Trace, Trace]:
        pair = (AS_CONFIGURED, data_knobs.inputs(self, ())[0])
        return self.trainings.to_the_end(pair[0], place), self.trainings.to_the_end(pair[1], place)

    def plain_subset(self) -> Trace:
        return self.trainings.trial(data_knobs.augmentation(self, ())[0], self.seed)

    def augmentation_swaps(self) -> Sequence[tuple[int, int, float]]:
        if self.facts.task != "classification":
            raise Skip(f"judged for one class per sample, not for {self.facts.task}")
        if not self.reread("train").changed:
            raise Skip("the training data are not augmented at random")

        def measure() -> Sequence[tuple[int, int, float]]:
            self._need_readable("train")
            return data_knobs.augmentation_swaps(self.pipeline, self.seed)

        return self.once("augmentation swaps", "comparing augmented samples with plain ones", measure)

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


def _table(seen: Scan) -> Rows:
    if seen.rows is None:
        raise Skip("the samples do not make a table of features and targets")
    return seen.rows
