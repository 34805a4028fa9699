"""From the configuration to pipelines: the target is found once, and called anew for each pipeline.

Runs in the worker. ``load_source`` imports the user's code, so an error in there is a ``UserCodeError``; a target that
cannot be used as given is a ``UsageError``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from diagnose.config import NO_TARGET, Config
from diagnose.creation import CreationLog
from diagnose.errors import UsageError
from diagnose.pipeline import Pipeline, check_fields
from diagnose.rng import preserved, seed_all, seeded
from diagnose.settings import parse_setting
from diagnose.target.arguments import Call
from diagnose.target.completion import complete
from diagnose.target.defaults import Choices, default_optimizer_call
from diagnose.target.loaders import Loaders, class_count, class_names, read_loaders
from diagnose.target.locate import Located, locate
from diagnose.target.parts import SCHEDULER_KNOWN, Parts, add_companions, flagged_parts, read_settings
from diagnose.target.synthetic import input_shape, synthetic_batches
from diagnose.training.options import laid_over, training_options
from diagnose.user_code import user_code
from probes.records.forward import WeightLoad
from probes.results import Where

WITH_DATA = "get_pipeline"  # by the usual name of a function that gives the data as well
_EXPECTED = "expected an nn.Module, a function that returns one, or a function that returns a diagnose.Pipeline"


def load_source(config: Config, cwd: Path | None = None) -> Source:
    """Find the target of ``config`` and its parts, and build the first pipeline to see what it is.

    Raises UsageError where the target, a flag or a setting does not fit; UserCodeError where the user's code raises.
    """
    if not config.target:
        raise UsageError(NO_TARGET)
    folder = cwd or Path.cwd()
    log = CreationLog()
    with seeded(config.seed), log.recording():
        located = locate(config.target, "target", folder)
        settings = read_settings(config)
        parts = flagged_parts(config, settings, folder)
    return Source(config, located, parts, settings, log)


class Source:
    """Makes fresh pipelines of one target.

    ``kind``: "model factory", "pipeline factory" or "module instance". ``notes``: the defaults that were chosen, as
    sentences. ``provenance``: part -> "flag", "configuration", "function get_loss" or "default". ``has_data``: False
    where the batches are made up. ``takes_num_classes``: whether ``build_model`` can be given a class count.
    ``training``: how the full training runs.
    """

    def __init__(
        self,
        config: Config,
        located: Located,
        parts: Parts,
        settings: Mapping[str, Mapping[str, str]],
        log: CreationLog,
    ) -> None:
        self.config = config
        self.has_data = True
        self._located, self._parts, self._settings, self._log = located, parts, settings, log
        self._choices = Choices()
        self._call: Call | None = None
        if isinstance(located.value, nn.Module):
            self.kind = "module instance"
            self._choices.notes["model"] = "The target is a model, not a factory: every seed starts from a copy of it."
        else:
            self.kind = "model factory"
            self._call = _callable(located, settings["model"])
        self.training = training_options(settings["train"])
        with preserved():
            self._first: tuple[int, Pipeline] | None = (config.seed, self._first_pipeline(config.seed))
        taken = self._call is not None and self._call.takes("num_classes")
        self.takes_num_classes = self.kind == "model factory" and taken

    @property
    def notes(self) -> list[str]:
        return list(self._choices.notes.values())

    @property
    def provenance(self) -> dict[str, str]:
        return dict(self._choices.provenance)

    def build(self, seed: int, reuse_data: Pipeline | None = None, num_classes: int | None = None) -> Pipeline:
        """A complete, fresh pipeline under ``seed``; the caller's random state is left as it was.

        Each part is made right after seeding, so model and data of a seed do not depend on one another.
        ``reuse_data``: take the loaders of this pipeline instead of making new ones. ``num_classes``: a model for so
        many classes instead of its own, where ``takes_num_classes``.
        """
        if self._first is not None:
            (made_for, first), self._first = self._first, None
            if made_for == seed and reuse_data is None and num_classes is None:
                return first
        with preserved():
            return self._built(seed, reuse_data, num_classes)

    def _built(self, seed: int, reuse_data: Pipeline | None, num_classes: int | None) -> Pipeline:
        reuse_data = reuse_data if self.has_data else None  # made-up batches belong to no loader
        if self.kind == "pipeline factory":
            return self._completed(self._from_factory(self._made(seed, {}), seed, reuse_data), seed)
        loaders = _loaders_of(reuse_data) if reuse_data is not None and self.has_data else self._make_loaders(seed)
        known = self._known(loaders)
        model = self._make_model(seed, known) if num_classes is None else self._model_for(seed, num_classes)
        return self._completed(self._around(model, loaders, seed), seed)

    def build_model(self, seed: int, num_classes: int | None = None) -> nn.Module:
        """A fresh model, for ``num_classes`` classes instead of its own; ValueError where it takes no such number."""
        with preserved():
            if num_classes is not None:
                return self._model_for(seed, num_classes)
            if self.kind == "pipeline factory":
                return self._from_factory(self._made(seed, {}), seed, None).model
            needs_count = self._call is not None and self._call.takes("num_classes")
            return self._make_model(seed, self._known(self._make_loaders(seed) if needs_count else None))

    def _model_for(self, seed: int, num_classes: int) -> nn.Module:
        if self._call is None or not self.takes_num_classes:
            raise ValueError(f"{self._located.label} takes no num_classes")
        settings = {key: value for key, value in self._call.settings.items() if key != "num_classes"}
        call = Call(self._call.function, "model", self._call.label, {**settings, "num_classes": str(num_classes)})
        seed_all(seed)
        with self._log.recording():
            return self._checked_model(call())

    def takes_list(self, setting: str) -> bool:
        """Whether the function that takes a setting ("scope.key=value") reads its value as a list."""
        scope, key, text = parse_setting(setting)
        if scope == "model":
            return self._call is not None and self._call.reads_list(key, text)
        part = self._parts.by_scope.get(scope)
        return part is not None and part.call is not None and part.call.reads_list(key, text)

    def created_at(self, created: object) -> Where | None:
        """The line of the user's code that created a module, an optimizer or a loader of a pipeline of this source."""
        return self._log.created_at(created)

    def loads_into(self, model: nn.Module) -> list[WeightLoad]:
        """What was loaded into ``model`` while its pipeline was built."""
        return self._log.loads_into(model)

    def copied(self, original: nn.Module, duplicate: nn.Module) -> None:
        """Let ``created_at`` know the modules of a deep copy too."""
        self._log.copied(original, duplicate)

    def require_data(self, stage: str) -> None:
        """Raise UsageError where ``stage`` needs data and there are none."""
        if not self.has_data:
            raise UsageError(
                f"{stage} needs data, and none were given: define get_loaders() beside {self._located.label}, or give "
                "--data module:function, or a built-in name such as --data digits."
            )

    def _first_pipeline(self, seed: int) -> Pipeline:
        """Build once, and find out on the way what the target returns and whether all settings fit."""
        needs_count = self._call is not None and "num_classes" in self._call.required()
        if self._call is None or needs_count:  # a model, or a function that needs the data's class count: no pipeline
            self._join_companions()
            loaders = self._make_loaders(seed)
            return self._completed(self._around(self._make_model(seed, self._known(loaders)), loaders, seed), seed)
        if problems := self._call.problems():
            with_parts = self._call.returns not in (Pipeline, "Pipeline", "diagnose.Pipeline")
            raise UsageError(*problems, *(self._part_problems() if with_parts else []))
        made = self._made(seed, {})
        if isinstance(made, Pipeline):
            self.kind = "pipeline factory"
            problems = self._parts.problems(("num_classes",), self._settings, SCHEDULER_KNOWN)
            problems += self._stray_optimizer_settings(made)
            if problems:
                raise UsageError(*problems)
            return self._completed(self._from_factory(made, seed, None), seed)
        self._checked_model(made)
        self._join_companions()
        loaders = self._make_loaders(seed)
        if self._call.takes("num_classes"):
            made = self._make_model(seed, self._known(loaders))
        return self._completed(self._around(made, loaders, seed), seed)

    def _join_companions(self) -> None:
        if problems := self._part_problems():
            raise UsageError(*problems)

    def _part_problems(self) -> list[str]:
        """Look beside the target for the missing parts, and tell what is wrong with the settings of all."""
        add_companions(self._parts, self._located.module, self._settings)
        known: tuple[str, ...] = ("num_classes",) if "data" in self._parts.by_scope else ()
        problems = self._call.problems(known) if self._call is not None else []
        if self._call is None and self._settings["model"]:
            keys = " ".join(f"--set model.{key}=..." for key in self._settings["model"])
            problems.append(f"{keys}: {self._located.label} is a model already, and takes no settings.")
        if "optimizer" not in self._parts.by_scope:
            problems += default_optimizer_call(self._settings["optimizer"]).problems()
        return problems + self._parts.problems((*known, "num_classes"), self._settings, SCHEDULER_KNOWN)

    def _stray_optimizer_settings(self, made: Pipeline) -> list[str]:
        settings = self._settings["optimizer"]
        if not settings or "optimizer" in self._parts.by_scope:
            return []
        if made.optimizer is None:
            return default_optimizer_call(settings).problems()
        keys = " ".join(f"--set optimizer.{key}=..." for key in settings)
        return [f"{keys}: {self._located.label} makes the optimizer itself. Give another with --optimizer."]

    def _made(self, seed: int, known: Mapping[str, Any]) -> Any:
        """What the target returns under ``seed``: a model, a pipeline, or anything."""
        assert self._call is not None
        seed_all(seed)
        with self._log.recording():
            return self._call(known=known)

    def _make_model(self, seed: int, known: Mapping[str, Any]) -> nn.Module:
        if self._call is None:
            with user_code(f"copying {self._located.label}"):
                model: nn.Module = copy.deepcopy(self._located.value)
            self._log.copied(self._located.value, model)
            return model
        if problems := self._call.problems(tuple(known)):
            raise UsageError(*problems)
        return self._checked_model(self._made(seed, known))

    def _checked_model(self, made: Any) -> nn.Module:
        if isinstance(made, nn.Module):
            return made
        got = "None" if made is None else f"a {type(made).__name__}"
        if isinstance(made, type):
            got = f"the class {made.__name__}"
        advice = " Does it lack a return statement?" if made is None else ""
        if isinstance(made, Pipeline):  # called with the class count of the data, as only a model factory is
            advice = " A pipeline factory gets its num_classes by --set model.num_classes=N."
        raise UsageError(f"target: {self._located.label} returned {got}, {_EXPECTED}.{advice}")

    def _make_loaders(self, seed: int) -> Loaders | None:
        """None where there are no data."""
        part = self._parts.by_scope.get("data")
        if part is None:
            return None
        seed_all(seed)
        with self._log.recording():
            return read_loaders(part.make(known=self._declared()), part.label)

    def _declared(self) -> dict[str, Any]:
        """The class count as the settings tell it."""
        count = self._settings["model"].get("num_classes", "")
        return {"num_classes": int(count)} if count.isdigit() else {}

    def _known(self, loaders: Loaders | None) -> dict[str, Any]:
        if loaders is not None and loaders.num_classes is not None:
            return {"num_classes": loaders.num_classes}
        return self._declared()

    def _around(self, model: nn.Module, loaders: Loaders | None, seed: int) -> Pipeline:
        """A pipeline of the parts around a model."""
        functions: dict[str, Any] = self._parts.functions
        for name in functions:
            self._choices.provenance[name] = f"function {name}"
        if loaders is not None:
            self._choices.provenance["data"] = self._parts.by_scope["data"].origin
            pipeline = Pipeline(model, loaders.train, loaders.val, test=loaders.test, **functions)
            pipeline.num_classes = self._known(loaders).get("num_classes")
            pipeline.class_names = loaders.class_names
            if "scheduler" not in self._parts.by_scope:
                self._choices.by_default("scheduler", "No scheduler was given: the learning rate stays as it is.")
            return pipeline
        self.has_data = False
        seed_all(seed)
        shape = input_shape(model, self.config.input)
        batches, task, classes = synthetic_batches(model, shape)
        text = f"No data were given: made-up inputs {shape} (by {shape.source}), for the checks of the model alone."
        if self._located.name != WITH_DATA and callable(getattr(self._located.module, WITH_DATA, None)):
            text += f" {WITH_DATA} of the same module may give them: take it as the target."
        self._choices.by_default("data", text)
        return Pipeline(model, batches, task=task, num_classes=classes, **functions)

    def _from_factory(self, made: Any, seed: int, reuse_data: Pipeline | None) -> Pipeline:
        """Check the pipeline that the user's function returned, and lay the flags over it."""
        if not isinstance(made, Pipeline):
            raise UsageError(
                f"target: {self._located.label} returned a Pipeline first and a {type(made).__name__} now, {_EXPECTED}."
            )
        self._checked_model(made.model)
        loaders = None
        if reuse_data is not None:
            loaders = _loaders_of(reuse_data)
        elif "data" in self._parts.by_scope:
            loaders = self._make_loaders(seed)
        if loaders is not None:
            made.train, made.val, made.test = loaders.train, loaders.val, loaders.test
            made.num_classes = loaders.num_classes or made.num_classes
            made.class_names = loaders.class_names or made.class_names
        origin = f"function {self._located.name}"
        for part in ("data", "loss", "optimizer", "scheduler", "compute_loss", "train_step"):
            if getattr(made, "train" if part == "data" else part) is not None:
                self._choices.provenance[part] = origin
        if "data" in self._parts.by_scope:
            self._choices.provenance["data"] = self._parts.by_scope["data"].origin
        check_fields(made)
        made.class_names = made.class_names or class_names(made.train)
        made.num_classes = made.num_classes or (len(made.class_names) if made.class_names else class_count(made.train))
        return made

    def _completed(self, pipeline: Pipeline, seed: int) -> Pipeline:
        laid_over(pipeline, self.training)
        return complete(
            pipeline,
            seed,
            config=self.config,
            parts=self._parts,
            settings=self._settings,
            choices=self._choices,
            log=self._log,
        )


def _callable(located: Located, settings: Mapping[str, str]) -> Call:
    if not callable(located.value):
        kind = type(located.value).__name__
        raise UsageError(f"target: {located.label} is of type {kind} and cannot be called, {_EXPECTED}.")
    return Call(located.value, "model", located.label, settings)


def _loaders_of(pipeline: Pipeline) -> Loaders:
    return Loaders(pipeline.train, pipeline.val, pipeline.test, pipeline.num_classes, pipeline.class_names)
