"""Values side by side: one is only better where its seeds stand apart from those of the others."""

from __future__ import annotations

from math import inf

from probes.learning.settings_compared import ahead


def test_seeds_that_stand_apart_make_one_value_the_best() -> None:
    assert ahead({"a": [0.5, 0.6, 0.7], "b": [0.8, 0.9, 0.95]}, largest=True) == ["b"]
    assert ahead({"a": [0.5, 0.6, 0.7], "b": [0.8, 0.9, 0.95]}, largest=False) == ["a"]


def test_seeds_that_overlap_leave_it_open() -> None:
    ends = {"a": [0.90, 0.91, 0.93], "b": [0.92, 0.94, 0.95], "c": [0.1, 0.1, 0.2]}
    assert ahead(ends, largest=True) == ["b", "a"]
    assert ahead({"a": [0.9] * 3, "b": [0.9] * 3}, largest=True) == ["a", "b"]


def test_a_loss_that_blew_up_is_never_level_with_one_that_did_not() -> None:
    assert ahead({"a": [inf, inf, inf], "b": [1.0, 1.1, 1.2]}, largest=False) == ["b"]
