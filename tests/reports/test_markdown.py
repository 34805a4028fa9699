"""The markdown report: word for word, honest, complete without pictures, safe against the user's text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import samples
from markdown_it import MarkdownIt
from markdown_it.token import Token

from diagnose.config import Config
from probes.results import Because, Diagnosis, Expected, Finding, Result, Severity, Status, Training, Verdict
from reports.compare import build_comparison
from reports.markdown import render_markdown
from reports.markup import cell, code, diff, diff_lines, fence, inline
from reports.view import build_view

CASES = ("stuck", "healthy", "inconclusive", "crashed")
ALL = (*CASES, "hostile", "empty", "not_finite")


def parse(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def flat(tokens: list[Token]) -> list[Token]:
    return [inner for token in tokens for inner in (token, *flat(token.children or []))]


def headings(text: str) -> list[str]:
    tokens = parse(text)
    return [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]


@pytest.mark.parametrize("name", CASES)
def test_report_word_for_word(name: str, check_golden: Callable[[str, str], None]) -> None:
    check_golden(f"report_{name}.md", render_markdown(getattr(samples, name)(), None))


def test_rendering_is_pure() -> None:
    assert render_markdown(samples.stuck(), None) == render_markdown(samples.stuck(), None)


@pytest.mark.parametrize("name", ALL)
def test_every_table_is_parsed_as_one(name: str) -> None:
    text = render_markdown(getattr(samples, name)(), None)
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)
    tables = [line for line in outside.splitlines() if re.fullmatch(r"\|( ---:? \|)+", line)]
    tokens = parse(text)
    assert sum(token.type == "table_open" for token in tokens) == len(tables)
    prose = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "paragraph_open"]
    assert not any(content.startswith("|") for content in prose), "a stray table row"


@pytest.mark.parametrize("name", ALL)
def test_no_more_than_one_blank_line(name: str) -> None:
    text = render_markdown(getattr(samples, name)(), None)
    assert "\n\n\n" not in text
    assert text.endswith("\n")
    assert not re.search(r"\bNone\b|\bnan\b|Undefined|<probes", text)


def test_the_answer_comes_first() -> None:
    lines = render_markdown(samples.stuck(), None).splitlines()
    assert "dropout-too-strong" in lines[0]
    assert lines[2].startswith("**Faulty.** The cause is dropout-too-strong (proved, at models.py:41")


def test_sections_in_order() -> None:
    assert [h for h in headings(render_markdown(samples.stuck(), None)) if h != "Proof"][1:12] == [
        "Symptom",
        "What was checked",
        "Root cause",
        "The fix",
        "Observed and expected",
        "Why this happens",
        "What to take away",
        "Next steps",
        "Other causes",
        "Warnings and notes",
        "Ruled out",
    ]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_empty_results_render(verdict: Verdict) -> None:
    text = render_markdown(samples.empty(verdict), None)
    rest = [heading for heading in headings(text)[1:] if heading != "Next steps"]
    assert rest == ["What was checked", "Not checked", "Appendix, for a helper"]
    assert "Start it" not in text


def test_an_unknown_name_does_not_break() -> None:
    base = samples.stuck()
    cause = replace(base.diagnosis.causes[0], name="from-a-later-version")
    text = render_markdown(replace(base, diagnosis=replace(base.diagnosis, causes=(cause,))), None)
    assert "from-a-later-version" in text


def test_what_was_not_decided_is_never_shown_as_passed() -> None:
    text = render_markdown(samples.inconclusive(), None)
    for name in ("cannot-overfit", "dead-gradient"):
        lines = [line for line in text.splitlines() if name in line]
        assert lines
        assert not any(word in line for line in lines for word in ("*not found*", "passed"))
    folded = re.findall(r"(?s)<details>.*?</details>", text)
    assert folded
    assert not any(name in part for part in folded for name in ("cannot-overfit", "dead-gradient"))


def test_what_was_not_found_is_told_once_and_folded() -> None:
    text = render_markdown(samples.stuck(), None)
    folded = "".join(re.findall(r"(?s)<details>.*?</details>", text))
    for name in ("split-overlap", "output-shape", "softmax-before-cross-entropy"):
        assert name in folded
        assert text.count(name) == 1


def test_ruled_out_shows_the_rivals_and_counts_the_rest() -> None:
    found = build_view(samples.stuck()).ruled_out
    assert found is not None
    assert [group.names for group in found.experiments][-1] == ("weight-decay-too-strong",)
    assert [group.names for group in found.learned] == [("cannot-overfit",)]
    assert [group.names for group in found.usual] == [("labels-out-of-range",)]
    assert found.rest.startswith("6 more defects were looked for")


def test_a_healthy_run_has_no_list_of_what_was_ruled_out_by_its_checks() -> None:
    base = samples.healthy()
    rows = (Because("labels-out-of-range", "200 classes, labels 0 to 199"),)
    assert build_view(replace(base, diagnosis=Diagnosis("It learns.", ruled_out=rows))).ruled_out is None


def test_the_configuration_shows_what_differs_from_the_defaults() -> None:
    table = next(t for t in build_view(samples.stuck()).appendix.tables if t.title.startswith("Configuration"))
    assert dict(table.rows) == {
        "set": "model.name=deeper_wider, data.batch_size=64",
        "fail_on": "warning",
        "seed": "0",
    }


def test_the_defaults_of_the_configuration_are_known() -> None:
    base = replace(samples.empty(), config=Config().to_dict())
    (table,) = build_view(base).appendix.tables
    assert dict(table.rows) == {"seed": "0"}


def test_long_lists_are_cut() -> None:
    table = next(t for t in build_view(samples.stuck()).appendix.tables if t.title == "Pipeline")
    assert dict(table.rows)["class_names"].endswith("class 11, ... 188 more")


def test_a_fix_names_each_place_once() -> None:
    before, after = "nn.Dropout(0.5),  # models.py:41", "nn.Dropout(0.2),  # models.py:41"
    assert diff_lines(before, after) == ["@@ models.py:41 @@", "- nn.Dropout(0.5),", "+ nn.Dropout(0.2),"]
    assert diff_lines(before, "a") == [f"- {before}", "+ a"]


def test_stages_without_a_reason_tell_their_figures() -> None:
    facts = {stage.name: stage.fact for stage in build_view(samples.healthy()).stages}
    assert facts["data"] == "train 100,000 / val 10,000, 10 classes"
    assert facts["smoke"] == "731,112 parameters, Adam, lr 0.0003"
    assert facts["train"] == "10 epochs, val accuracy 34.7 % to 93.9 % (guessing 10 %), val loss 1.871 to 0.269"
    assert facts["evaluate"] == "accuracy 94.1 %, loss 0.231"


def test_a_training_that_ended_early_and_a_model_without_training_are_said_so() -> None:
    run = samples.healthy()
    short = replace(run, training=replace(run.training, history=run.training.history[:3]))
    raw = replace(run, evaluation={"checkpoint": "untrained model", "accuracy": 0.1, "pixel_accuracy": 0.1})
    facts = [{stage.name: stage.fact for stage in build_view(each).stages} for each in (short, raw)]
    assert facts[0]["train"].startswith("3 of 10 epochs, ")
    assert facts[1]["evaluate"] == "not trained, pixel accuracy 10 %"


def test_what_to_expect_is_what_the_experiment_measured() -> None:
    cause = build_view(samples.stuck()).cause
    assert cause is not None
    assert cause.after_fix is not None
    assert cause.after_fix.columns == ("step", "val loss, as configured", "val loss, after the fix")
    (table,) = cause.curves
    by_name = {row[0]: row for row in table.rows}
    assert cause.after_fix.rows[-1][0] == "400"
    for column, name in ((1, "as configured"), (2, "head dropout 0.2")):
        assert by_name[name][-1].startswith(cause.after_fix.rows[-1][column])


@pytest.mark.parametrize("text", ["78.7 % of", "3.1 s", "-0.3", "--download fetches it", "#3", "=> x"])
def test_what_is_no_markup_is_not_escaped(text: str) -> None:
    assert str(inline(text)).replace("&gt;", ">") == text


def test_healthy_says_which_stages_ran() -> None:
    base = samples.healthy()
    view = build_view(replace(base, stages=base.stages[:2]))
    assert view.headline == "No fault was found; these stages ran and passed: data, smoke."
    assert view.not_run == "Not part of this run: mnist, overfit, subset, train, evaluate."


def test_a_healthy_run_says_once_that_no_fault_was_found() -> None:
    base = samples.healthy()
    diagnosis = Diagnosis("No error was found in data and smoke. Worth a look: class-imbalance.")
    warned = Result("DAT114", "class-imbalance", "data", Status.FAIL, "", (
        Finding("class-imbalance", Severity.WARNING, "9 of 10 samples are of one class"),
    ))  # fmt: skip
    view = build_view(replace(base, diagnosis=diagnosis, stages=base.stages[:2], results=(warned,)))
    assert view.headline == "No error was found, but 1 warning; these stages ran and passed: data, smoke."
    assert view.summary == "Worth a look: class-imbalance."
    assert view.steps[0].command == "diagnose run digits.py:pipeline --seed 0"


def test_guessing_is_told_by_the_labels_wherever_a_report_compares() -> None:
    """Where 70 % of the labels are alike, an accuracy of 70 % is no skill, and ln 2 is not the loss of guessing."""
    base = samples.healthy()
    rows = [{"epoch": n, "train_loss": 0.62, "val_loss": 0.615, "val_accuracy": 0.7} for n in (1, 2)]
    pipeline = {**base.pipeline, "num_classes": 2, "chance": 0.7, "guess_loss": 0.611}
    view = build_view(replace(base, pipeline=pipeline, training=Training(rows), evaluation={}))
    assert view.figures is not None
    assert {row[2] for row in view.figures.rows} == {"guessing gives 70 %", "a model that only guesses has 0.611"}
    assert "but the accuracy, 70 %, is no better than always naming the most frequent class" in view.headline
    for other in (
        {"val_accuracy": 0.72},
        {"val_loss": 0.4},
    ):  # one under a weighted loss may give up accuracy for recall
        learned = [{**row, **other} for row in rows]
        assert "frequent" not in build_view(replace(base, pipeline=pipeline, training=Training(learned))).headline


def test_a_loss_that_became_nan_is_said_so() -> None:
    figures = build_view(samples.not_finite()).figures
    assert figures is not None
    seen = {row[0]: row[1] for row in figures.rows}
    assert seen["train loss, first to last"] == "5.300 to 5.300; no finite figure after epoch 1"


def test_only_existing_pictures_are_shown(tmp_path: Path) -> None:
    assert "![" not in render_markdown(samples.stuck(), tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "proof.png").write_bytes(b"")
    (tmp_path / "figures" / "a](b).png").write_bytes(b"")
    text = render_markdown(samples.stuck(), tmp_path)
    assert re.findall(r"\]\((.*?)\)", text) == ["figures/proof.png"]


def test_observed_beside_expected_at_the_key_epochs() -> None:
    base = samples.stuck()
    given = tuple(Expected(n, "val_accuracy", 0.1, 0.2) for n in (1, 50))
    progress = build_view(replace(base, training=Training(samples.history(50), given))).progress
    assert progress is not None
    assert [row[0] for row in progress.rows] == ["1", "5", "10", "20", "30", "50"]


def test_reasons_that_repeat_are_told_once() -> None:
    rows = tuple(Because(name, "no GPU") for name in ("a", "b", "c"))
    view = build_view(replace(samples.empty(), diagnosis=Diagnosis(not_checked=rows)))
    assert [group.names for group in view.not_checked.shown] == [("a", "b", "c")]


def test_a_skipped_result_is_listed_as_not_checked() -> None:
    result = Result("X", "some-name", "smoke", Status.SKIPPED, "no CUDA device")
    view = build_view(replace(samples.empty(), results=(result,)))
    assert view.not_checked.skipped[0].because == "skipped: no CUDA device"


def test_hostile_text_stays_text() -> None:
    text = render_markdown(samples.hostile(), None)
    tokens = flat(parse(text))
    kinds = {token.type for token in tokens}
    assert not kinds & {"link_open", "image", "html_inline", "s_open"}
    assert not any("<script" in token.content for token in tokens if token.type == "html_block")
    assert "h" not in headings(text)
    assert "out" not in headings(text)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_no_control_character_reaches_any_view() -> None:
    text = repr(build_view(samples.hostile())) + repr(build_comparison(samples.hostile(), samples.stuck()))
    assert "\\x1b" not in text
    assert "\\u202e" not in text


def test_hostile_text_leaves_the_tables_whole() -> None:
    tokens = parse(render_markdown(samples.hostile(), None))
    rows: list[int] = []
    width = 0
    for token in tokens:
        width = 0 if token.type == "tr_open" else width + (token.type in ("td_open", "th_open"))
        if token.type == "tr_close":
            rows.append(width)
        if token.type == "table_close":
            assert len(set(rows)) == 1
            rows = []


PIECES = [
    "| a",
    "# h",
    "- x",
    "1. x",
    "+ x",
    "===",
    "> q",
    "    code",
    "<b>",
    "&lt;",
    "[x](y)",
    "`a",
    "a_b_c",
    "_a_",
    "~~~",
]
PIECES += ["*", "\\", "\\|", "a\nb", "```", "![i](u)", "http://a.b", "www.a.b", "<!-- x", "", " ", "$x$", "\x00\ud800"]


@pytest.mark.parametrize("piece", PIECES)
def test_inline_text_comes_back_as_it_was(piece: str) -> None:
    plain = " ".join(piece.replace("\x00", "").replace("\ud800", "").split())
    for tokens in (parse(str(inline(piece))), parse(f"| x |\n| --- |\n| {cell(piece) or ' '} |")[-10:]):
        inlines = [token for token in tokens if token.type == "inline"]
        children = inlines[-1].children if inlines else []
        assert {token.type for token in children or []} <= {"text", "text_special"}
        assert "".join(token.content for token in children or []) == plain


@pytest.mark.parametrize("piece", PIECES)
def test_code_comes_back_as_it_was(piece: str) -> None:
    block = [token for token in parse(str(fence(piece))) if token.type == "fence"]
    assert len(block) == 1
    plain = " ".join(piece.replace("\x00", "").replace("\ud800", "").split())
    if plain:
        (span,) = parse(str(code(piece)))[1].children or []
        assert span.type == "code_inline"
        assert span.content == plain


def test_links_do_not_link_themselves() -> None:
    for text in ("see https://evil.example", "www.evil.example", "ftp://x.y"):
        assert not re.search(r"https?://|ftp://|www\.", str(inline(text)))


def test_diff_marks_only_what_changes() -> None:
    body = str(diff("a\nb\nc", "a\nB\nc")).splitlines()
    assert body == ["```diff", "  a", "- b", "+ B", "  c", "```"]


def test_what_was_only_measured_is_not_called_healthy() -> None:
    note = Finding(
        "learning-rate-range",
        Severity.NOTE,
        "suggested learning rate 1.0e-02; yours is 1.0e-05",
        {"suggested": 0.01},
    )
    result = Result("FIT010", "learning-rate-range", "subset", Status.PASS, "", (note,))
    base = replace(samples.healthy(), command="lr", reproduce="diagnose lr net:get_pipeline", results=(result,))
    view = build_view(base)
    assert view.verdict == "Measured"
    assert view.title.endswith(": learning-rate range")
    assert view.headline == "Suggested learning rate 1.0e-02; yours is 1.0e-05."
    assert view.steps[0].command == "diagnose ablate net:get_pipeline --knob lr --values 1.0e-02"
    assert build_view(samples.healthy()).verdict == "Healthy"
