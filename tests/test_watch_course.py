"""How the loss went, as the report of a watched training tells it."""

from __future__ import annotations

from diagnose.watch.course import MOST_PARTS, Course, told
from diagnose.watch.validation import Evaluation


def fed(course: Course, losses: list[float], optimizer: int = 1) -> Course:
    for loss in losses:
        course.add(loss, optimizer)
    return course


def test_a_training_without_passes_is_told_in_parts() -> None:
    course = fed(Course(), [2.0] + [1.0 / step for step in range(2, 1001)])
    rows = course.rows(())
    assert (rows[0], rows[-1]["step"]) == ({"step": 1, "train_loss": 2.0}, 1000)
    assert MOST_PARTS / 2 < len(rows) <= MOST_PARTS + 1
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert told(rows, course.trainings).startswith("loss 2 to 0.001")


def test_epochs_carry_the_accuracies_of_their_evaluations() -> None:
    course = fed(Course(), [2.3] + [1.0] * 9)
    course.epoch({"epoch": 1, "step": 10, "train_loss": 1.13, "train_accuracy": 0.4})
    fed(course, [0.5] * 10)
    course.epoch({"epoch": 2, "step": 20, "train_loss": 0.5, "train_accuracy": 0.8})
    evaluations = [Evaluation(10, 1, 50, 0.9, 50, 0.6, 0.1), Evaluation(20, 1, 50, 0.7, 50, 0.7, 0.1)]
    rows = course.rows(evaluations)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row.get("val_loss") for row in rows] == [None, 0.9, 0.7]
    assert told(rows, 1) == "loss 2.3 to 0.5, training accuracy 80.0%, validation accuracy 70.0%"


def test_of_trainings_one_after_the_other_the_last_is_told() -> None:
    course = fed(fed(Course(), [5.0] * 30, 1), [4.0, 3.0, 2.0], 2)
    assert course.trainings == 2
    assert [row["step"] for row in course.rows(())] == [1, 2, 3]
    assert told(course.rows(()), 2) == "loss 4 to 2 (the last of 2 trainings)"


def test_optimizers_in_turns_make_no_curve() -> None:
    course = Course()
    for _ in range(5):
        fed(fed(course, [0.7], 1), [1.3], 2)
    assert course.trainings == 0
    assert told(course.rows(()), course.trainings) == ""


def test_a_loss_that_is_not_finite_is_no_number() -> None:
    rows = fed(Course(), [1.0, float("nan")]).rows(())
    assert [row["train_loss"] for row in rows] == [1.0, None]
    assert told(rows, 1) == "loss 1 to no finite number"


def test_nothing_seen_is_nothing_told() -> None:
    assert (Course().rows(()), told((), 0)) == ([], "")
