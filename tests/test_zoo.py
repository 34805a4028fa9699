"""The zoo holds what it should, its faults hurt, and a fixed slice of it is answered right. The whole is measured by
``benchmarks/accuracy``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import torch
from rehearsal import rehearse
from zoo import all_cases
from zoo.cases import Case
from zoo.harm import hurts

from probes import catalogue
from probes.api import Stage
from probes.results import Status

# The programs are users' own: a warning of theirs is no error of ours.
pytestmark = pytest.mark.filterwarnings("default")
CASES = all_cases(families=True)
FAULTY = {name: case for name, case in CASES.items() if case.fault}
HEALTHY = {name: case for name, case in CASES.items() if not case.fault}
STAGES = (Stage.DATA, Stage.SMOKE, Stage.OVERFIT, Stage.SUBSET)
SLICE = (
    "digits_plain/nonfinite-inputs", "digits_plain/softmax-before-cross-entropy",
    "digits_plain/labels-unrelated-to-inputs", "digits_plain/wrong-custom-backward",
    "digits_plain/regulariser-dominates",
    "digits_batchnorm/scrambled-image-layout", "digits_batchnorm/batchnorm-statistics-lag",
    "digits_batchnorm/duplicate-worker-randomness", "digits_batchnorm/unregistered-modules",
    "tabular/features-on-wild-scales", "tabular/graph-cut/list", "tabular/gradients-not-cleared",
    "regression/target-broadcast", "regression/accumulation-not-averaged", "regression/iterable-dataset-not-sharded",
    "multilabel/bce-on-probabilities", "finetune/pretrained-weights-not-loaded/prefix",
    "text/padding-affects-output/mean", "language_model/future-leak/off-by-one", "segmentation/graph-cut",
    "vit/stale-optimizer-parameters/head", "sequence/batch-mixing/view",
    "sentiment/padding-affects-output/last_step_of_a_padded_batch", "stream/target-leaked-into-input/reads_the_answer",
    "tags/activation-on-logits/softmax_over_tags", "waves/train-val-leakage/copies_before_the_split",
    "project/parameters-missing-from-optimizer/names_that_never_occur", "tags/healthy/focal", "stream/healthy/endless",
    "waves/healthy/weighted_sampler", "houses/saturated-activations/tanh_of_unscaled_columns",
    "digits_batchnorm/healthy", "multilabel/healthy", "sequence/healthy", "healthy/healthy/mixup_in_collate",
    "healthy/healthy/rezero", "healthy/healthy/packed_sequences", "healthy/healthy/triplets_from_the_dataset",
    "healthy/healthy/constant_column",
)  # fmt: skip
FAMILIES = (
    "torchvision/healthy/resnet18",
    "torchvision/healthy/googlenet",
    "timm/healthy/convnextv2_atto",
)
KILLED = (
    "digits_plain/softmax-before-cross-entropy", "digits_batchnorm/batchnorm-statistics-lag",
    "tabular/features-on-wild-scales", "regression/loss-summed", "sequence/batch-mixing/view",
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small convolutions run many times slower on two threads than on one when another process is at work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_zoo_is_large_and_varied() -> None:
    assert len(FAULTY) >= 130
    assert len(HEALTHY) >= 60
    assert len({case.program for case in FAULTY.values()}) >= 8
    assert len({case.fault for case in FAULTY.values()}) >= 70
    programs: dict[str, set[str]] = {}
    for case in FAULTY.values():
        programs.setdefault(case.fault, set()).add(case.program)
    assert sum(len(found) >= 2 for found in programs.values()) >= 40


@pytest.mark.parametrize("case", FAULTY.values(), ids=lambda case: case.id)
def test_faults_have_names_of_the_catalogue(case: Case) -> None:
    for name in (case.fault, *case.also):
        assert not catalogue.doc(name).symptom


def test_every_program_stands_healthy_beside_its_faults() -> None:
    assert {case.program for case in FAULTY.values()} <= {case.program for case in HEALTHY.values()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLICE)
def test_the_answer(name: str) -> None:
    case = CASES[name]
    seen = rehearse(case.build, 0, STAGES)
    assert not [r for r in seen.results if r.status is Status.INTERNAL]
    if case.fault:
        assert seen.answer in {case.fault, *case.also}
    else:
        assert seen.alarms == []
        assert seen.answer == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_a_fault_hurts(name: str) -> None:
    program = importlib.import_module(f"zoo.programs.{CASES[name].program}")
    assert hurts(CASES[name], program.build)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_families_stay_silent(name: str) -> None:
    seen = rehearse(CASES[name].build, 0, (Stage.DATA, Stage.SMOKE))
    assert seen.alarms == []
