"""The batches of a loader by epoch, whether or not it knows its length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from diagnose.user_code import user_code

EPOCH_BATCHES = 2_000  # of a training loader that has no length
PASS_BATCHES = 1_000  # of a validation or test loader that has no length


class BatchStream:
    """``epoch()`` yields the batches of the next epoch.

    An epoch is one iteration. A loader without a length may be endless: its epoch ends after ``limit`` batches at the
    latest, and the next one goes on where this one stopped, so that no batch is left out for good.
    """

    def __init__(self, loader: Any, name: str, limit: int, say: Callable[[str], None]) -> None:
        self.loader, self._name, self._limit, self._say = loader, name, limit, say
        self._iterator: Iterator[Any] | None = None
        try:
            self.length: int | None = len(loader)
        except (TypeError, NotImplementedError):
            self.length = None

    @property
    def most(self) -> int:
        """How many batches an epoch has, or has at most."""
        return self._limit if self.length is None else self.length

    @property
    def generators(self) -> list[torch.Generator]:
        """The random generators of the loader's own, which a checkpoint keeps."""
        batch_sampler = getattr(self.loader, "batch_sampler", None)
        holders = (
            self.loader,
            getattr(self.loader, "sampler", None),
            batch_sampler,
            getattr(batch_sampler, "sampler", None),
        )
        found = [getattr(holder, "generator", None) for holder in holders]
        return list({id(item): item for item in found if isinstance(item, torch.Generator)}.values())

    def set_epoch(self, epoch: int) -> None:
        """Tell samplers that shuffle by epoch (DistributedSampler and its like)."""
        for holder in (getattr(self.loader, "sampler", None), getattr(self.loader, "batch_sampler", None)):
            if callable(getattr(holder, "set_epoch", None)):
                with user_code("reading data"):
                    holder.set_epoch(epoch)  # type: ignore[union-attr]

    def epoch(self) -> Iterator[Any]:
        """Raises UserCodeError("reading data")."""
        if self._iterator is None:
            with user_code("reading data"):
                self._iterator = iter(self.loader)
        iterator = self._iterator
        for _ in range(self.most):
            with user_code("reading data"):
                try:
                    raw = next(iterator)
                except StopIteration:
                    self._iterator = None
                    return
            yield raw
        if self.length is not None:
            self._iterator = None  # whatever comes beyond the length it told
        else:
            self._say(
                f"The {self._name} loader tells no length: an epoch ends after {self._limit:,} batches, and "
                "the next one goes on from there."
            )
