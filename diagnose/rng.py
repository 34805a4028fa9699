"""Random state: kept as it was, or set for one block."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def preserved() -> Iterator[None]:
    """Leaves the global generators of torch, CUDA (where it is in use), numpy and random as they were."""
    numpy = sys.modules.get("numpy")
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    numpy_state = numpy.random.get_state() if numpy else None
    # Asking an unused CUDA for its state would start it, and with CUDA started no loader worker can be forked.
    cuda_states = torch.cuda.get_rng_state_all() if _cuda_in_use() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


@cache
def _only_cpu() -> bool:
    """Whether there is no other device; asked in ways that do not start one."""
    return not (torch.cuda.device_count() or torch.xpu.device_count() or torch.backends.mps.is_available())


def seed_all(seed: int) -> None:
    """Seeds torch (all devices), random, and numpy where it is imported."""
    if _only_cpu():  # torch.manual_seed would keep a call, with its traceback, for each device that never comes
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy:
        numpy.random.seed(seed % 2**32)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Everything inside draws from ``seed``; afterwards the generators are as before."""
    with preserved():
        seed_all(seed)
        yield


@contextmanager
def loader_untouched(loader: Any) -> Iterator[None]:
    """A loader's own generators (of the loader and its sampler) are put back after an iteration over it."""
    sampler = getattr(loader, "sampler", None)
    generators = {
        id(g): g for g in (getattr(loader, "generator", None), getattr(sampler, "generator", None)) if g is not None
    }
    states = {key: g.get_state() for key, g in generators.items()}
    try:
        yield
    finally:
        for key, generator in generators.items():
            generator.set_state(states[key])


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only algorithms that give the same result each time; torch raises where an operation has none."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
