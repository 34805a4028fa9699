"""Flags over diagnose.toml over pyproject.toml, and every problem at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diagnose.config import Config, load_config, parse_duration
from diagnose.errors import UsageError


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "seconds"), [(90, 90.0), ("90", 90.0), ("90s", 90.0), ("2m", 120.0), ("1h", 3600.0), ("1h30m", 5400.0)]
)
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3", "0", "5d", "1 2", True])
def test_what_is_no_duration(text: str | bool) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


def test_flags_win_over_files_and_diagnose_toml_over_pyproject(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", '[tool.diagnose]\ntarget = "a:b"\nseed = 3\nepochs = 7\ndata = "digits"\n')
    write(tmp_path, "diagnose.toml", 'seed = 4\nbudget = "2m"\nfail-on = "warning"\n')
    config = load_config({"epochs": 9, "quiet": False, "seed": None, "select": ()}, tmp_path)
    assert (config.target, config.seed, config.epochs, config.budget) == ("a:b", 4, 9, 120.0)
    assert config.fail_on == "warning"
    assert config.origins["epochs"] == "flag"
    assert config.origins["data"] == "configuration"


def test_which_task_two_classes_are_is_told_by_loss_and_targets(tmp_path: Path) -> None:
    assert load_config({"target": "a:b", "task": "binary"}, tmp_path).task is None


def test_settings_add_up_key_by_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        "pyproject.toml",
        '[tool.diagnose]\ntarget = "a:b"\n[tool.diagnose.set.model]\nname = "x"\nwide = true\nsizes = [1, 2]\n'
        '[tool.diagnose.set.data]\nname = "200"\nbatch_size = 8\n',
    )
    config = load_config({"set": ["name=y", "optimizer.lr=0.1"]}, tmp_path)
    assert set(config.set) == {
        "model.name=y",
        "model.wide=true",
        "model.sizes=1,2",
        "data.name='200'",
        "data.batch_size=8",
        "optimizer.lr=0.1",
    }


def test_settings_as_a_list_of_texts(tmp_path: Path) -> None:
    write(tmp_path, "diagnose.toml", 'target = "a:b"\nset = ["name=x", "data.root=a=b"]\n')
    assert load_config({}, tmp_path).set == ("model.name=x", "data.root=a=b")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", '[tool.diagnose]\nbuget = 3\nfail_on = "errors"\nepochs = 0\n')
    flags = {"task": "clasification", "set": ["modle.name=x"], "device": "gpu", "target": "models.py"}
    with pytest.raises(UsageError) as caught:
        load_config(flags, tmp_path)
    problems = caught.value.problems
    assert len(problems) == 7
    text = str(caught.value)
    for expected in ("buget", "Did you mean budget?", "Did you mean error?", "Did you mean classification?"):
        assert expected in text
    assert "Did you mean model?" in text
    assert "models.py:get_model" in text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def helper(): ...\ndef get_pipeline(): ...", "get_pipeline"),
        ("def build_my_model(): ...", "build_my_model"),
        ("x = 1", "get_model"),
        ("def broken(", "get_model"),
    ],
)
def test_a_file_as_target_is_told_with_the_function_it_has(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / "train.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"for example {re.escape(str(path))}:{name}\\."):
        load_config({"target": str(path)}, tmp_path)


def test_missing_target_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_config({}, tmp_path)
    for example in ("package.module:attribute", "path/to/file.py:attribute", "[tool.diagnose] target"):
        assert example in str(caught.value)
    assert load_config({}, tmp_path, require_target=False).target is None


def test_broken_toml_is_a_usage_error(tmp_path: Path) -> None:
    write(tmp_path, "diagnose.toml", "seed = \n")
    with pytest.raises(UsageError, match=r"diagnose\.toml: not readable as TOML"):
        load_config({"target": "a:b"}, tmp_path)


def test_ignore_tables_expire(tmp_path: Path) -> None:
    write(
        tmp_path,
        "diagnose.toml",
        'target = "a:b"\nignore = ["DATA", {name = "no-shuffle", reason = "sorted on purpose", until = 2999-01-01},'
        ' {name = "dead-relu", until = "2001-01-01"}]\n',
    )
    config = load_config({}, tmp_path)
    assert config.ignore == ("DATA", "no-shuffle")
    assert config.ignore_expired == ("dead-relu",)
    assert config.ignore_reasons[0] == {"name": "no-shuffle", "reason": "sorted on purpose", "until": "2999-01-01"}
    assert load_config({"ignore": ["x,y"]}, tmp_path).ignore == ("x", "y")


def test_survives_the_way_to_the_worker(tmp_path: Path) -> None:
    config = load_config({"target": "a:b", "set": ["x=1"], "values": ["0,0.1"], "budget": "1m"}, tmp_path)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.values == ("0", "0.1")


def test_intents_are_checked(tmp_path: Path) -> None:
    write(tmp_path, "diagnose.toml", 'target = "a:b"\nintents = ["frozen", "imbalance"]\n')
    with pytest.raises(UsageError, match="Did you mean imbalanced"):
        load_config({}, tmp_path)


def test_an_unknown_flag_is_our_mistake(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        load_config({"target": "a:b", "colour": 1}, tmp_path)


def test_imports_nothing_heavy() -> None:
    code = (
        "import sys, diagnose.config; print([m for m in ('torch', 'numpy', 'pydantic', 'probes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
