"""The random generators that a loader, its samplers and its data set keep to themselves.

Not covered: generators in loader workers, which have copies of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

DEPTH = 5  # of attributes and containers, from the loader down: loader, data set, subset, transforms, one transform
MOST_OBJECTS = 500
_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.Tensor, np.ndarray, type)
_SKIPPED = {"_iterator"}  # of a loader with persistent workers

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


def generators_of(loader: Any) -> list[Generator]:
    """Each generator once, in an order that depends on the program alone."""
    found: dict[int, Generator] = {}
    seen: set[int] = set()
    layer = [loader]
    for _ in range(DEPTH):
        below: list[Any] = []
        for holder in layer:
            for value in _parts(holder):
                if isinstance(value, Generator):
                    found.setdefault(id(value), value)
                elif not isinstance(value, _PLAIN) and id(value) not in seen and len(seen) < MOST_OBJECTS:
                    seen.add(id(value))
                    below.append(value)
        layer = below
    return list(found.values())


def _parts(holder: Any) -> Iterator[Any]:
    if isinstance(holder, Mapping):
        yield from list(holder.values())[:MOST_OBJECTS]
    elif isinstance(holder, (list, tuple)):
        yield from holder[:20]  # a list of transforms, not a data set kept in a list
    else:
        attributes = getattr(holder, "__dict__", None)
        if isinstance(attributes, dict) and not callable(getattr(holder, "__code__", None)):
            yield from (value for name, value in attributes.items() if name not in _SKIPPED)


def state_of(generator: Generator) -> Any:
    """Tensors and plain data."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return generator.getstate()


def set_state(generator: Generator, state: Any) -> None:
    """The inverse of ``state_of``."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        version, internal, gauss = state
        generator.setstate((version, tuple(internal), gauss))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
