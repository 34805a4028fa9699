"""The answer as a whole: no alarm on healthy pipelines, the right name first on faulty ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from faults import FAULTS
from lookalikes import LOOKALIKES
from rehearsal import rehearse
from small_pipelines import HEALTHY

from probes.results import Grade, Verdict

# A loss that lives inside the user's own step only, and has no known floor: nothing more can be said of it.
MAY_BE_INCONCLUSIVE = {"adversarial"}


@pytest.mark.slow
@pytest.mark.parametrize("build", [*HEALTHY, *LOOKALIKES], ids=lambda build: build.__name__)
def test_healthy_pipelines_raise_no_alarm(build: Callable[[], Any]) -> None:
    seen = rehearse(build, seed=0)
    assert seen.alarms == []
    assert seen.answer == ""
    allowed = {Verdict.HEALTHY} | ({Verdict.INCONCLUSIVE} if build.__name__ in MAY_BE_INCONCLUSIVE else set())
    assert seen.verdict in allowed, [(s.name, s.status, s.reason) for s in seen.stages]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "names"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_right_name_comes_first(build: Callable[[], Any], names: tuple[str, ...]) -> None:
    seen = rehearse(build, seed=0)
    assert seen.answer in names
    assert seen.verdict is Verdict.FAULTY
    inferred = names[0] == "labels-unrelated-to-inputs"  # what nothing shows is never proved
    assert seen.diagnosis.causes[0].grade is (Grade.SUPPORTED if inferred else Grade.PROVED)


@pytest.mark.slow
def test_what_a_cause_brings_about_is_listed_under_it() -> None:
    build = next(build for build, names in FAULTS if names == ("dropout-too-strong",))
    causes = rehearse(build).diagnosis.causes
    assert [cause.name for cause in causes] == ["dropout-too-strong"]
    assert "stuck-at-chance" in causes[0].consequences
