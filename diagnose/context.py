"""The measurements of one pipeline, each taken once, handed to the probes (see ``probes.measurements.Context``)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from diagnose.batches import Batch, map_tensors, understand
from diagnose.experiments import dropout, judge
from diagnose.experiments.ablate import ablate
from diagnose.experiments.material import Material
from diagnose.experiments.reference import train_on_reference
from diagnose.experiments.trial import AS_CONFIGURED, Change, Samples, Setting, gradient_agreement, run_trial
from diagnose.measure import items, sensitivity
from diagnose.measure import updates as update_measures
from diagnose.measure.attempt import attempt
from diagnose.measure.inspection import inspection
from diagnose.measure.recorder import plain
from diagnose.measure.scan import scan
from diagnose.measure.updates import dry_run
from diagnose.rng import loader_untouched, preserved, seeded
from diagnose.training.expected import expected_for
from diagnose.training.metrics import IGNORE_INDEX, Yardsticks, main_output, yardsticks
from diagnose.training.step import Engine, Forwarded
from diagnose.user_code import UserCodeError, user_code
from probes.api import Inconclusive, Skip
from probes.measurements import (
    Ablation,
    Attempt,
    Coverage,
    DropoutSite,
    Facts,
    Inspection,
    LossCall,
    Outputs,
    Reference,
    Reread,
    Scan,
    Trace,
    Updates,
)
from probes.results import Expected, Where

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diagnose.pipeline import Pipeline
    from diagnose.target import Source

T = TypeVar("T")

FIRST_BATCHES = 4
OUTPUT_SAMPLES = 512
OVERFIT_SAMPLES = 16  # a smaller first batch is joined by the second
OVERFIT_STEPS = 300
OVERFIT_MORE = 700  # further steps for a pipeline that is still getting better
SUBSET_STEPS = 600
MIN_CHANNELS_LAST_PIXELS = 256  # below, the layout makes no difference that is worth a conversion


class MeasuringContext:
    """Implements ``probes.measurements.Context`` over a source of fresh pipelines."""

    def __init__(
        self,
        source: Source,
        *,
        seed: int = 0,
        device: str = "cpu",
        fraction: float | None = None,
        reference: str | None = None,
        download: bool = False,
        progress: Callable[[str, int, int], None] = lambda what, done, of: None,
        measuring: Callable[[str, bool], None] = lambda key, begins: None,
        poisoned: Mapping[str, str] | None = None,
    ) -> None:
        """``measuring(key, begins)`` is told when a measurement begins and ends; ``poisoned`` names those that killed an
        earlier worker, with how, and are not taken again."""
        self.source = source
        self.seed = seed
        self.device = torch.device(device)
        self.fraction = fraction
        self.reference_name = reference
        self.download = download
        self.progress = progress
        self.measuring = measuring
        self.poisoned = dict(poisoned or {})
        self.deadline: float | None = None
        self.rows: list[Mapping[str, Any]] = []
        self.notes: list[str] = []  # what was done otherwise than asked, as sentences; see Facts.notes
        self.has_proof = False
        self._ablation_steps = SUBSET_STEPS
        self._memo: dict[str, Any] = {}
        self._failed: dict[str, Exception] = {}

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def pipeline(self) -> Pipeline:
        return self._once("pipeline", "building the pipeline", lambda: self.source.build(self.seed))

    @property
    def facts(self) -> Facts:
        pipeline = self.pipeline
        splits = [name for name in ("train", "val", "test") if getattr(pipeline, name) is not None]
        loss = pipeline.compute_loss or pipeline.loss
        return Facts(
            task=pipeline.task or "custom",
            num_classes=pipeline.num_classes,
            class_names=tuple(pipeline.class_names or ()),
            intents=frozenset(pipeline.intents),
            has_data=self.source.has_data,
            epochs=pipeline.epochs,
            device=str(self.device),
            loss_name=getattr(loss, "__name__", type(loss).__name__),
            splits=tuple(splits if self.source.has_data else ()),
            notes=(*self.source.notes, *self.notes),
            custom_step=pipeline.train_step is not None,
        )

    def created_at(self, module: nn.Module | str) -> Sequence[Where]:
        if isinstance(module, str):
            found = dict(self.pipeline.model.named_modules()).get(module)
            if found is None:
                return ()
            module = found
        return self._created(module)

    def optimizer_at(self) -> Sequence[Where]:
        where = self.source.created_at(self.pipeline.optimizer)
        return () if where is None else (where,)

    def fresh_model(self, seed: int | None = None) -> nn.Module:
        with preserved():
            return self.fresh(self.seed if seed is None else seed).model

    def fresh(self, seed: int) -> Pipeline:
        """A fresh pipeline; the loaders of a model factory are those of the first one."""
        return self.source.build(seed, reuse_data=self.pipeline)

    # -- measurements -------------------------------------------------------------------------------------------

    def scan(self, split: str = "train") -> Scan:
        if not self.source.has_data:
            raise Skip("no data was given")
        loader = getattr(self.pipeline, split)
        if loader is None:
            raise Skip(f"there is no {split} split")
        return self._once(f"scan {split}", f"reading the {split} split", lambda: scan(loader, split, self.seed))

    def reread(self, split: str) -> Reread:
        if not self.source.has_data:
            raise Skip("no data was given")
        loader = getattr(self.pipeline, split)
        if loader is None:
            raise Skip(f"there is no {split} split")

        def measure() -> Reread:
            found = items.reread(loader, split, self.seed)
            if found is None:
                raise Skip(f"the items of the {split} split cannot be read one by one")
            return found

        return self._once(f"reread {split}", f"reading items of the {split} split twice", measure)

    def shared_items(self) -> tuple[int, int] | None:
        pipeline = self.pipeline
        return self._once(
            "shared items", "comparing the splits", lambda: items.shared_items(pipeline.train, pipeline.val)
        )

    def raws(self, count: int = FIRST_BATCHES) -> list[Any]:
        """The first ``count`` raw training batches (fewer if there are fewer)."""

        def read() -> list[Any]:
            loader = self.pipeline.train
            with seeded(self.seed), loader_untouched(loader), user_code("reading data"):
                return list(islice(iter(loader), count))

        found = self._once(f"batches {count}", "reading the first batches", read)
        if not found:
            raise Skip("the training loader is empty")
        return found

    def batch(self) -> Batch:
        return understand(self.raws()[0])

    def attempt(self) -> Attempt:
        def measure() -> Attempt:
            with preserved():
                engine = self._engine()
                try:
                    return attempt(engine, self.raws())
                finally:
                    engine.close()

        return self._once("attempt", "the first forward and backward", measure)

    def _ran(self) -> Attempt:
        """The attempt, where it ran to its end; dependents of a failed one are skipped with its reason."""
        done = self.attempt()
        if done.failure is not None:
            raise Skip(f"{done.failure.phase} raised {done.failure.type}")
        if done.loss is None or not done.loss_has_graph:
            raise Skip("the loss cannot be differentiated")
        return done

    def updates(self) -> Updates:
        def measure() -> Updates:
            self._ran()
            with seeded(self.seed):
                engine = self._engine()
                try:
                    return update_measures.updates(engine, self.raws())
                finally:
                    engine.close()

        return self._once("updates", "the first updates", measure)

    def moves_loss(self, names: Sequence[str]) -> bool | None:
        def loss(disturbed: Sequence[str]) -> float:
            with seeded(self.seed):
                engine = self._engine()
                engine.model.train()
                try:
                    with sensitivity.disturbed(engine.model, sensitivity.JOLT, disturbed):
                        return sensitivity.loss_of(engine, self.raws()[0])
                finally:
                    engine.close()

        try:
            before = self._once("undisturbed loss", "the loss of the first batch", lambda: loss(()))
            after = loss(names)
        except UserCodeError:
            return None
        return before != after if math.isfinite(before) and math.isfinite(after) else None

    def jittered_gradients(self) -> Mapping[str, float | None]:
        def measure() -> Mapping[str, float | None]:
            self._ran()
            if sensitivity.only_step(self.pipeline):
                raise Skip("only the pipeline's own train_step computes the loss")
            with seeded(self.seed):
                engine = self._engine()
                engine.model.train()
                try:
                    with sensitivity.disturbed(engine.model, sensitivity.JITTER):
                        return sensitivity.gradients(engine, self.raws())
                finally:
                    engine.close()

        return self._once("jittered gradients", "the gradient of a slightly changed model", measure)

    def nonfinite_operation(self) -> str:
        def measure() -> str:
            if sensitivity.only_step(self.pipeline):
                return ""
            with seeded(self.seed):
                engine = self._engine()
                engine.model.train()
                try:
                    return sensitivity.nonfinite_operation(engine, self.raws())
                finally:
                    engine.close()

        return self._once("nonfinite operation", "looking for the operation", measure)

    def coverage(self) -> Coverage:
        def measure() -> Coverage:
            pipeline = self.fresh(self.seed)
            seen = update_measures.coverage(
                pipeline.model, pipeline.optimizer, pipeline.loss, pipeline.compute_loss, pipeline.train_step
            )
            where = self.source.created_at(pipeline.optimizer)
            return Coverage(
                seen.missing, seen.stray, seen.frozen, seen.trainable, seen.total, seen.optimized,
                () if where is None else (where,),
            )  # fmt: skip

        return self._once("coverage", "comparing optimizer and model", measure)

    def learning_rates(self) -> Sequence[float]:
        return self._dry_run()[0]

    def _dry_run(self) -> tuple[list[float], bool]:
        def measure() -> tuple[list[float], bool]:
            with preserved(), user_code("the scheduler's dry run"):
                return dry_run(self.fresh(self.seed), self._steps_per_epoch())

        return self._once("dry run", "the schedule's dry run", measure)

    def _steps_per_epoch(self) -> int:
        try:
            batches = len(self.pipeline.train)  # type: ignore[arg-type]
        except TypeError:
            batches = 1_000
        return max(1, batches // max(1, self.pipeline.accumulate))

    def outputs(self) -> Outputs:
        def measure() -> Outputs:
            done = self.attempt()
            if done.failure is not None and done.failure.phase not in {"loss", "backward", "step"}:
                raise Skip(f"{done.failure.phase} raised {done.failure.type}")
            with seeded(self.seed):
                return self._outputs()

        return self._once("outputs", "outputs in eval mode", measure)

    def _outputs(self) -> Outputs:
        engine = self._engine()
        engine.model.eval()
        found: list[Tensor] = []
        targets: list[Tensor] = []
        raws = self.raws()
        try:
            for raw in raws:
                done = self._forward(engine, raw)
                main = done.main
                if main is None:
                    raise Skip(f"the model returns no tensor but {type(done.output).__name__}")
                found.append(plain(main).float())
                if isinstance(done.batch.target, torch.Tensor):
                    targets.append(plain(done.batch.target))
                if sum(len(x) for x in found if x.ndim) >= OUTPUT_SAMPLES:
                    break
            again = main_output(self._forward(engine, raws[0]).output)
        finally:
            engine.close()
        assert again is not None
        alike = len({x.shape[1:] for x in found}) == 1
        return Outputs(
            output=torch.cat(found) if alike and found[0].ndim else found[0],
            target=torch.cat(targets) if alike and len(targets) == len(found) and _concatenable(targets) else None,
            first=found[0],
            again=plain(again).float(),
            batches=len(found),
        )

    def inspection(self) -> Inspection:
        def measure() -> Inspection:
            self._ran()
            with seeded(self.seed):
                engine = self._engine()
                try:
                    return inspection(engine.model, lambda raw: self._forward(engine, raw).main, self.raws())
                finally:
                    engine.close()

        return self._once("inspection", "a closer look at the forward", measure)

    def _forward(self, engine: Engine, raw: Any) -> Forwarded:
        """The model on a batch: by way of the loss where only the user's own function knows how to call the model."""
        if engine.pipeline.compute_loss is not None:
            return engine.loss(raw)
        try:
            with torch.no_grad():
                return engine.forward(raw)
        except UserCodeError as error:
            if engine.pipeline.train_step is None:
                raise
            raise Skip("only the pipeline's own train_step knows how to call the model") from error

    def evaluate(
        self, change: Callable[[Sequence[Any]], Sequence[Any]] | None = None, *, stirred: bool = False
    ) -> Tensor:
        self.outputs()  # the user's failure belongs to the unchanged input
        engine = self._engine()
        engine.model.eval()
        stir = sensitivity.disturbed(engine.model, sensitivity.JITTER) if stirred else nullcontext()
        try:
            with torch.no_grad(), seeded(self.seed), stir:
                batch = engine.prepare(map_tensors(self.raws()[0], lambda x: x.clone()))
                inputs, kwargs = batch.inputs, batch.kwargs
                if change is not None and inputs:
                    inputs = tuple(change(inputs))
                elif change is not None:
                    kwargs = dict(zip(kwargs, change(tuple(kwargs.values())), strict=True))
                with user_code("forward"):
                    main = main_output(engine.model(*inputs, **kwargs))
        except UserCodeError as error:
            raise Skip(f"the model does not take the changed input ({type(error.original).__name__})") from error
        finally:
            engine.close()
        if main is None:
            raise Skip("the model returns no tensor")
        return plain(main).float()

    # -- short trainings ----------------------------------------------------------------------------------------

    def overfit(self, regularised: bool = False) -> Trace:
        key = "overfit regularised" if regularised else "overfit"
        return self._once(key, "overfitting a batch", lambda: self._overfit(regularised))

    def _overfit(self, regularised: bool) -> Trace:
        self._need_data()
        self._ran()
        raws = self.raws()
        if understand(raws[0]).size >= OVERFIT_SAMPLES or len(raws) < 2:
            raws = raws[:1]
        else:
            raws = raws[:2]
        setting = self.setting(raws)
        samples = Samples(lambda seed: _cycle(raws), raws, ())
        change = AS_CONFIGURED if regularised else Change("unregularised", "no dropout, no weight decay", 0, _plain_training)
        name = "with regularisation" if regularised else "without regularisation"

        def trial(steps: int) -> Trace:
            return run_trial(
                setting, samples, change, self.seed, steps, name=name, looks=max(12, steps // 25), look_mode="train",
                stop=judge.stop_when_memorised, progress=self._steps("overfit " + name),
            )  # fmt: skip

        first = trial(OVERFIT_STEPS)
        if regularised or first.stopped != "steps" or not _still_falling(first):
            return first
        return trial(OVERFIT_STEPS + OVERFIT_MORE)

    def subset(self) -> Trace:
        return self.trial(AS_CONFIGURED, self.seed)

    def material(self) -> Material:
        self._need_data()
        fraction = 0.1 if self.fraction is None else self.fraction
        return self._once(
            "material", "choosing samples", lambda: Material(self.pipeline, fraction, exact=self.fraction is not None)
        )

    def trial(self, change: Change, seed: int, steps: int = SUBSET_STEPS) -> Trace:
        """A short training on the subset, remembered by change and seed."""

        def train() -> Trace:
            self._ran()
            material = self.material()
            samples = Samples(material.batches, material.look_train, material.look_val)
            what = f"{change.label}, seed {seed}"
            return run_trial(
                self.setting(material.look_train), samples, change, seed, steps, progress=self._steps(what)
            )

        return self._once(f"trial {change.key} {seed} {steps}", f"training {change.label}", train)

    def ablation(self, knob: str) -> Ablation:
        def turn() -> Ablation:
            found = ablate(self, knob, self._ablation_steps)
            if found.proved:  # the rivals get as many steps as the repair was given, not more
                self.has_proof = True
                self._ablation_steps = min(self._ablation_steps, found.steps)
            return found

        return self._once(f"ablation {knob}", f"the {knob} ablation", turn)

    def comparison(self, knob: str, values: Sequence[str]) -> Ablation:
        """Every arm over every seed; it stands in for the ablation of that knob from then on."""
        return self._once(
            f"ablation {knob}",
            f"comparing values of {knob}",
            lambda: ablate(self, knob, SUBSET_STEPS, values, every_arm=True),
        )

    def dropout_sites(self) -> Sequence[DropoutSite]:
        def measure() -> list[DropoutSite]:
            self._ran()
            with seeded(self.seed):
                engine = self._engine()
                try:
                    return dropout.sites(engine, self.raws()[0], self._created)
                finally:
                    engine.close()

        return self._once("dropout sites", "looking for dropout", measure)

    def _created(self, module: nn.Module) -> Sequence[Where]:
        where = self.source.created_at(module)
        return () if where is None else (where,)

    def gradient_agreement(self, change: Change) -> float | None:
        material = self.material()
        samples = Samples(material.batches, material.look_train, material.look_val)
        setting = self.setting(material.look_train)
        return self._once(
            f"agreement {change.key}",
            "comparing gradients",
            lambda: gradient_agreement(setting, samples, change, self.seed),
        )

    def reference(self) -> Reference:
        return self._once("reference", "training on reference data", lambda: train_on_reference(self))

    def history(self) -> Sequence[Mapping[str, Any]]:
        return self.rows

    def expected(self) -> Sequence[Expected]:
        return self._once(
            "expected", "looking up what is expected", lambda: expected_for(self.pipeline, self.facts)
        )

    def setting(self, raws: Sequence[Any], build: Callable[[int], Pipeline] | None = None) -> Setting:
        """What the trials over ``raws`` share, with their yardsticks."""
        call = self.loss_call()
        return Setting(
            build=build or self.fresh,
            task=self.facts.task,
            device=self.device,
            channels_last=self.channels_last(),
            yardsticks=self.yardsticks(raws),
            learning_rates=self.learning_rates(),
            ignore_index=_ignore_index(call),
            deadline=self.deadline,
        )

    def loss_call(self) -> LossCall | None:
        calls = self.attempt().loss_calls
        return calls[0] if calls else None

    def yardsticks(self, raws: Sequence[Any]) -> Yardsticks:
        targets = [understand(raw).target for raw in raws]
        tensors = [plain(target) for target in targets if isinstance(target, torch.Tensor)]
        if not tensors or not _concatenable(tensors):
            return Yardsticks()
        call = self.loss_call()
        if len(self.attempt().loss_calls) != 1:  # a sum of several losses has no floor that is known
            return yardsticks(torch.cat(tensors), self.facts.task, "", {}, self.facts.num_classes, 1)
        assert call is not None
        batch = tensors[0].numel()
        return yardsticks(torch.cat(tensors), self.facts.task, call.function, call.options, self.facts.num_classes, batch)

    def channels_last(self) -> bool:
        """Whether short trainings may use the layout: a convolutional model on the CPU whose code accepts it."""

        def measure() -> bool:
            pipeline = self.pipeline
            image = next((x for x in self.batch().inputs if isinstance(x, torch.Tensor) and x.ndim == 4), None)
            convolutional = any(isinstance(m, torch.nn.Conv2d) for m in pipeline.model.modules())
            if self.device.type != "cpu" or not convolutional or image is None or pipeline.train_step:
                return False
            if image.shape[2] * image.shape[3] < MIN_CHANNELS_LAST_PIXELS or pipeline.compute_loss:
                return False
            with preserved():
                engine = Engine(self.fresh(self.seed), self.device, channels_last=True)
                try:
                    engine.step(self.raws()[0])
                except UserCodeError:  # the user's forward needs contiguous tensors (view): keep their layout
                    return False
                finally:
                    engine.close()
            return True

        return self._once("channels_last", "choosing the memory layout", measure)

    # -- machinery ----------------------------------------------------------------------------------------------

    def _engine(self) -> Engine:
        with seeded(self.seed):
            return Engine(self.fresh(self.seed), self.device)

    def _need_data(self) -> None:
        if not self.source.has_data:
            raise Skip("no data was given")

    def _steps(self, what: str) -> Callable[[int, int, float], None]:
        last = [0.0]

        def report(step: int, steps: int, loss: float) -> None:
            if time.monotonic() - last[0] > 0.3 or step == steps:
                last[0] = time.monotonic()
                self.progress(f"{what}: loss {loss:.3f}" if math.isfinite(loss) else what, step, steps)

        return report

    def _once(self, key: str, what: str, measure: Callable[[], T]) -> T:
        """Measured once. The user's failure is raised as such once; whoever asks again is skipped."""
        if key in self._failed:
            error = self._failed[key]
            if isinstance(error, UserCodeError):
                raise Skip(f"{what} failed: {error.what} raised {type(error.original).__name__}") from error
            raise error
        if key in self.poisoned:
            raise Skip(f"{what} ended the process: {self.poisoned[key]}")
        if key not in self._memo:
            self.measuring(key, True)
            try:
                self._memo[key] = measure()
            except (UserCodeError, Skip, Inconclusive) as error:
                self._failed[key] = error
                raise
            finally:
                self.measuring(key, False)
        found: T = self._memo[key]
        return found


def _plain_training(pipeline: Pipeline) -> Any:
    """Without dropout and weight decay."""
    for group in pipeline.optimizer.param_groups if pipeline.optimizer else ():
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    return dropout.off(pipeline)


def _cycle(raws: list[Any]) -> Any:
    while True:
        yield from raws


def _still_falling(trace: Trace) -> bool:
    """Whether the last third of a short training closed a further twentieth of what the whole closed."""
    points = trace.points
    last, earlier, first = points[-1], points[len(points) * 2 // 3], points[0]
    return (earlier.train_loss - last.train_loss) > 0.05 * max(first.train_loss - last.train_loss, 1e-9)


def _concatenable(tensors: Sequence[Tensor]) -> bool:
    return len({tensor.shape[1:] for tensor in tensors}) == 1 and all(tensor.ndim for tensor in tensors)


def _ignore_index(call: LossCall | None) -> int:
    return int(call.options.get("ignore_index", IGNORE_INDEX)) if call is not None else IGNORE_INDEX
