"""What is measured of the data: scans of the splits, items read again, and what simple predictors know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from diagnose.experiments import data_knobs
from diagnose.measure import association, items, near, scan, turned, workers
from diagnose.rng import loader_untouched, seeded
from diagnose.user_code import user_code
from probes.api import Skip
from probes.records.data import Association, NearCopies, Reread, Rows, Scan, Turned, WorkerDraws

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext

FIRST_BATCHES = 4


class DataMeasurements:
    """Those of ``probes.measurements.Context`` that read the loaders, and run no model."""

    def __init__(self, ctx: MeasuringContext) -> None:
        self._ctx = ctx

    def need_data(self) -> None:
        """Raises Skip where the data are made up."""
        if not self._ctx.source.has_data:
            raise Skip("no data was given")

    def _loader(self, split: str) -> Any:
        self.need_data()
        loader = getattr(self._ctx.pipeline, split)
        if loader is None:
            raise Skip(f"there is no {split} split")
        return loader

    def scan(self, split: str = "train") -> Scan:
        loader = self._loader(split)
        return self._ctx.once(
            f"scan {split}",
            f"reading the {split} split",
            lambda: scan.scan(loader, split, self._ctx.seed, full=self._ctx.full_scan),
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
            found = items.reread(loader, split, self._ctx.seed)
            if found is None:
                raise Skip(f"the items of the {split} split cannot be read one by one")
            return found

        return self._ctx.once(f"reread {split}", f"reading items of the {split} split twice", measure)

    def shared_items(self) -> tuple[int, int] | None:
        train, val = self._ctx.pipeline.train, self._ctx.pipeline.val
        return self._ctx.once("shared items", "comparing the splits", lambda: items.shared_items(train, val))

    def worker_draws(self) -> WorkerDraws:
        loader = self._loader("train")

        def measure() -> WorkerDraws:
            self._need_readable("train")
            found = workers.worker_draws(loader, self._ctx.seed)
            if found is None:
                raise Skip("the loader is none of torch's with two workers over a data set of items")
            return found

        return self._ctx.once("worker draws", "reading an item in two workers", measure)

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
            plain = data_knobs.plain_loader(self._ctx.pipeline)
            if plain is None:
                return as_given
            loader, switch = plain
            switch(True)
            try:
                return scan.scan(loader, "train", self._ctx.seed, full=self._ctx.full_scan)
            finally:
                switch(False)

        return self._ctx.once("plain scan", "reading the train split without augmentation", measure)

    def single_process_hashes(self) -> Sequence[int]:
        loader = self._loader("train")
        return self._ctx.once(
            "single process",
            "reading the training data in one process",
            lambda: scan.hashes_alone(loader, self._ctx.seed),
        )

    def association(self, *, thorough: bool = False) -> Association:
        if self._ctx.facts.task not in {"classification", "regression", "multilabel"}:
            raise Skip(f"judged for one target per sample, not for {self._ctx.facts.task}")

        def measure() -> Association:
            rows = self._plain_rows()
            classes = self._picks_a_class(rows)
            found = association.association(rows, classes=classes, thorough=thorough, seed=self._ctx.seed)
            if found is None:
                raise Skip("there are too few samples, or a single class")
            return found

        return self._ctx.once(f"association {thorough}", "asking simple predictors", measure)

    def _picks_a_class(self, rows: Rows) -> bool:
        """Whether the targets are one class each; several tags at once are taken for numbers to predict."""
        y = rows.targets
        binary = self._ctx.facts.task == "multilabel" and y.ndim == 1 and bool(((y == 0) | (y == 1)).all())
        return self._ctx.facts.task == "classification" or binary

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

        return self._ctx.once("across", "asking the neighbours in train about val", measure)

    def near_copies(self, split: str = "train") -> NearCopies:
        def measure() -> NearCopies:
            other = None if split == "train" else self._rows(split)
            found = near.near_copies(self._plain_rows(), other, self._ctx.seed, table=len(self.scan().input_shape) == 2)
            if found is None:
                raise Skip("the samples do not make a table that is large enough")
            return found

        return self._ctx.once(f"near {split}", f"looking for copies in the {split} split", measure)

    def turned_validation(self) -> Turned:
        def measure() -> Turned:
            within, rows = self.association(), self._plain_rows()
            shape, score = self.scan("val").input_shape[1:], within.scores["nearest neighbours"]
            other, classes = self._rows("val"), self._picks_a_class(rows)
            found = turned.turned(rows, other, shape, score, classes=classes) if within.related else None
            if found is None:
                raise Skip("nearest neighbours know too little of these data, or cannot read them")
            return found

        return self._ctx.once("turned", "comparing val with train, turned round", measure)

    def shifted_associations(self) -> Mapping[int, Association]:
        loader = self._loader("train")

        def measure() -> Mapping[int, Association]:
            self._need_readable("train")
            raws = items.in_order(loader, self._ctx.seed)
            if raws is None:
                raise Skip("the items of the train split cannot be read one by one")
            return association.shifted(raws, classes=self._picks_a_class(self._plain_rows()), seed=self._ctx.seed)

        return self._ctx.once("shifted", "comparing inputs with the labels of their neighbours", measure)

    def raws(self) -> list[Any]:
        """The first raw training batches, FIRST_BATCHES at most. Raises Skip where there is none."""

        def read() -> list[Any]:
            loader = self._ctx.pipeline.train
            with seeded(self._ctx.seed), loader_untouched(loader), user_code("reading data"):
                return list(islice(iter(loader), FIRST_BATCHES))

        found = self._ctx.once("first batches", "reading the first batches", read)
        if not found:
            raise Skip("the training loader is empty")
        return found

    def augmentation_swaps(self) -> Sequence[tuple[int, int, float]]:
        if self._ctx.facts.task != "classification":
            raise Skip(f"judged for one class per sample, not for {self._ctx.facts.task}")
        if not self.reread("train").changed:
            raise Skip("the training data are not augmented at random")

        def measure() -> Sequence[tuple[int, int, float]]:
            self._need_readable("train")
            return data_knobs.augmentation_swaps(self._ctx.pipeline, self._ctx.seed)

        return self._ctx.once("augmentation swaps", "comparing augmented samples with plain ones", measure)


def _table(seen: Scan) -> Rows:
    if seen.rows is None:
        raise Skip("the samples do not make a table of features and targets")
    return seen.rows
