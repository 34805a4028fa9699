"""Run folders: created, found, resumed, written whole, and without anything private."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from diagnose.errors import UsageError
from diagnose.redact import Redactor, is_secret
from diagnose.store import RunFolder, find_run, is_run, list_runs, new_id, redact
from probes.results import RunResults, Verdict
from reports.load import load_results

HEADER = {"tool_version": "0.1.0", "command": "run", "reproduce": "diagnose run", "target": "m:f"}


def planted(root: Path, name: str) -> Path:
    path = root / ".diagnose" / "runs" / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"run_id": name}))
    return path


def test_a_new_run_has_a_header_and_can_be_read_at_once(tmp_path: Path) -> None:
    folder = RunFolder.create(HEADER, project=tmp_path)
    assert folder.path.parent == tmp_path / ".diagnose" / "runs"
    assert folder.path.name == folder.run_id
    assert (tmp_path / ".diagnose" / ".gitignore").read_text() == "*\n"
    results = load_results(folder.path)
    assert (results.run_id, results.target, results.verdict) == (folder.run_id, "m:f", Verdict.INTERRUPTED)


def test_results_are_replaced_as_a_whole_and_hold_no_nan(tmp_path: Path) -> None:
    folder = RunFolder.create(HEADER, project=tmp_path)
    results = RunResults(
        "0.1.0", folder.run_id, "run", "now", "diagnose run", "m:f", Verdict.HEALTHY,
        evaluation={"loss": float("nan"), "odd": "\ud800"},
    )  # fmt: skip
    folder.write_results(results)
    folder.write_results(results)
    text = (folder.path / "results.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["evaluation"] == {"loss": None, "odd": "\ud800"}
    assert sorted(path.name for path in folder.path.iterdir()) == ["events.jsonl", "results.json", "run.json"]
    assert load_results(folder.path).verdict is Verdict.HEALTHY


def test_out(tmp_path: Path) -> None:
    out = tmp_path / "there" / "deep"
    folder = RunFolder.create(HEADER, project=tmp_path, out=out)
    assert is_run(out)
    with pytest.raises(UsageError, match="--resume"):
        RunFolder.create(HEADER, project=tmp_path, out=out)
    resumed = RunFolder.create({**HEADER, "command": "train"}, project=tmp_path, out=out, resume=True)
    assert resumed.run_id == folder.run_id
    assert load_results(out).command == "train"
    assert not (tmp_path / ".diagnose").exists()


def test_out_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UsageError, match="not empty"):
            RunFolder.create(HEADER, out=tmp_path, resume=resume)
    with pytest.raises(UsageError, match="file"):
        RunFolder.create(HEADER, out=tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="no run to resume"):
        RunFolder.create(HEADER, out=tmp_path / "new", resume=True)
    with pytest.raises(UsageError, match="no run"):
        RunFolder.resume(tmp_path)


def test_find_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no run"):
        find_run("latest", tmp_path)
    old, new = planted(tmp_path, "20260101-000000-aaaa"), planted(tmp_path, "20260102-000000-abcd")
    (tmp_path / ".diagnose" / "runs" / "20270101-000000-ffff").mkdir()  # no header: died while it was made
    (tmp_path / ".diagnose" / "runs" / "notes").mkdir()
    assert list_runs(tmp_path) == [new, old]
    assert find_run("latest", tmp_path) == new
    assert find_run("20260101", tmp_path) == old
    assert find_run("aaaa", tmp_path) == old
    assert find_run(old.name, tmp_path) == old
    assert find_run(str(old), tmp_path) == old
    assert find_run(str(old / "results.json"), tmp_path) == old
    with pytest.raises(UsageError, match="fits 2 runs: 20260102-000000-abcd, 20260101-000000-aaaa"):
        find_run("2026", tmp_path)
    with pytest.raises(UsageError, match=f"did you mean {new.name}"):
        find_run("20260102-000000-abce", tmp_path)
    with pytest.raises(UsageError, match="fits 2 runs"):
        find_run("000000", tmp_path)
    with pytest.raises(UsageError, match="did you mean latest"):
        find_run("lastest", tmp_path)
    with pytest.raises(UsageError, match="not a run folder"):
        find_run(str(tmp_path), tmp_path)


def test_ids_sort_by_time() -> None:
    assert len(new_id()) == len("20261122-064100-ab12")


CLEAN = Redactor(Path("/home/ada/work/proj"), Path("/home/ada"), {"ada": "[user]", "lovelace": "[host]"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/work/proj/models.py:f", "models.py:f"),
        ('File "/home/ada/work/proj/a/b.py", line 3', 'File "a/b.py", line 3'),
        ("in /home/ada/work/proj", "in ."),
        ("/home/ada/work/project2/x", "~/work/project2/x"),
        ("/home/adalbert/x", "/home/adalbert/x"),
        ("/data/home/ada/x.bin", "/data/home/[user]/x.bin"),
        ("run by ada on lovelace, in canada", "run by [user] on [host], in canada"),
        ("--set data.token=abc --set lr=0.1", "--set data.token=[redacted] --set lr=0.1"),
        ("--set 'data.token=a b' --seed 1", "--set 'data.token=[redacted]' --seed 1"),
        ("--set data.key=abc", "--set data.key=[redacted]"),
        ("--api-key abc --seed 0", "--api-key [redacted] --seed 0"),
        ("--api-key=abc --seed 0", "--api-key=[redacted] --seed 0"),
        ("--token --quiet", "--token --quiet"),
        ("WANDB_API_KEY=abc diagnose run", "WANDB_API_KEY=[redacted] diagnose run"),
        ("https://me:pw@host.org/x?token=abc&n=1", "https://[redacted]@host.org/x?token=[redacted]&n=1"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ('{"password": "abc", "lr": "1"}', '{"password": "[redacted]", "lr": "1"}'),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [redacted]"),
        ("login with hf_abcdefghijklmnopqrst", "login with [redacted]"),
        ("sorted(names, key=len)", "sorted(names, key=len)"),
        ("monkey=1 num_tokens=5 token_loss=0.5", "monkey=1 num_tokens=5 token_loss=0.5"),
        ("pad_token=<pad>", "pad_token=<pad>"),
    ],
)  # fmt: skip
def test_redacted_text(text: str, expected: str) -> None:
    assert CLEAN(text) == expected
    assert CLEAN(expected) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"api_key": "abc", "lr": 0.1}, {"api_key": "[redacted]", "lr": 0.1}),
        ({"apiKey": "abc", "key": "y"}, {"apiKey": "[redacted]", "key": "[redacted]"}),
        ({"db": {"password": 1234}, "token": None}, {"db": {"password": "[redacted]"}, "token": None}),
        ({"secrets": {"a": ["b"]}}, {"secrets": {"a": ["[redacted]"]}}),
        ({"monkey": "x", "attn.key.weight": "w"}, {"monkey": "x", "attn.key.weight": "w"}),
        ({"token_loss": 1.5, "eos_token": "</s>"}, {"token_loss": 1.5, "eos_token": "</s>"}),
        (["--token", "abc", "data.key=a b"], ["--token", "[redacted]", "data.key=[redacted]"]),
        ({"name": "token", "value": "abc"}, {"name": "token", "value": "[redacted]"}),
        ({"stage": "ada", "message": "ada"}, {"stage": "ada", "message": "[user]"}),
        (True, True),
    ],
)  # fmt: skip
def test_redacted_data(value: Any, expected: Any) -> None:
    assert CLEAN(value) == expected


@pytest.mark.parametrize("unit", ["-", "x-", "x", "--a", '"', "a=", " ", "/home/ada", "'a':"])
def test_long_lines_cost_no_more_than_short_ones(unit: str) -> None:
    begin = time.process_time()
    CLEAN.text(unit * (400_000 // len(unit)))
    assert time.process_time() - begin < 5.0  # quadratic behaviour takes minutes


def test_secret_words_are_whole_words() -> None:
    assert all(is_secret(name) for name in ("token", "data.token", "AWS_SECRET_ACCESS_KEY", "accessKey", "--password"))
    assert not any(is_secret(name) for name in ("monkey", "keys", "tokens", "tokenizer", "lr", "", "pad_token"))


def test_what_is_written_is_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    project = home / "proj"
    folder = RunFolder.create({**HEADER, "config": {"data.token": "abc"}}, project=project)
    folder.append({"event": "environment", "environment": {"cache": f"{home}/cache", "file": f"{project}/m.py"}})
    results = load_results(folder.path)
    assert results.config == {"data.token": "[redacted]"}
    assert results.environment == {"cache": "~/cache", "file": "m.py"}
    for path in folder.path.iterdir():
        assert str(home) not in path.read_text()
    assert redact({"x": 1}) == {"x": 1}
