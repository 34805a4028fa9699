"""From a target and its flags to complete pipelines, and every target that does not fit."""

from __future__ import annotations

import linecache
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diagnose.config import Config
from diagnose.errors import UsageError
from diagnose.target.arguments import convert
from diagnose.target.source import Source, load_source
from diagnose.user_code import UserCodeError, user_code, user_frames

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import diagnose

def data(n=16, c=3, features=4, batch_size=8):
    return DataLoader(TensorDataset(torch.randn(n, features), torch.arange(n) % c), batch_size=batch_size)
"""
Project = Callable[..., Source]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """``project(text_of_models_py, target=..., **other_files, flags)`` -> Source, in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def load(text: str, target: str = "models:get_model", files: dict[str, str] | None = None, **flags: Any) -> Source:
        for name, content in {"models.py": text, **(files or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(HEAD + content, encoding="utf-8")
        forget()
        flags["set"] = tuple(item if "." in item.split("=")[0] else f"model.{item}" for item in flags.get("set", ()))
        return load_source(Config(target=target, **flags), tmp_path)

    def forget() -> None:
        linecache.clearcache()
        for name in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]

    yield load
    forget()


LINEAR = "def get_model():\n    return nn.Linear(4, 3)\n"
LOADERS = "def get_loaders():\n    return data(), data()\n"


def weights(pipeline: Any) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in pipeline.model.parameters()])


def test_a_model_factory_with_loaders_gets_stated_defaults(project: Project) -> None:
    source = project(LINEAR + LOADERS)
    pipeline = source.build(0)
    assert (source.kind, source.has_data, source.takes_num_classes) == ("model factory", True, False)
    assert isinstance(pipeline.loss, nn.CrossEntropyLoss)
    assert isinstance(pipeline.optimizer, torch.optim.Adam)
    assert pipeline.optimizer.param_groups[0]["lr"] == 1e-3
    assert (pipeline.task, pipeline.scheduler) == ("classification", None)
    assert "No optimizer was given: Adam, lr 0.001." in source.notes
    assert source.provenance["data"] == "function get_loaders"
    assert source.provenance["optimizer"] == source.provenance["loss"] == "default"


def test_every_build_is_fresh_and_follows_its_seed(project: Project) -> None:
    source = project(LINEAR + LOADERS)
    first, again, other = source.build(0), source.build(0), source.build(1)
    assert first.model is not again.model
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))
    assert source.build(0, reuse_data=other).train is other.train
    assert torch.equal(weights(source.build(0, reuse_data=other)), weights(first))
    assert torch.equal(torch.cat([p.flatten() for p in source.build_model(1).parameters()]), weights(other))


def test_the_callers_random_state_is_left_alone(project: Project) -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(1)), random.random(), float(np.random.rand())

    def reseed() -> None:
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)

    reseed()
    expected = draw()
    reseed()
    source = project(LINEAR + LOADERS)
    source.build(3)
    source.build_model(4)
    assert draw() == expected


def test_a_file_target_and_a_file_inside_a_package(project: Project) -> None:
    assert project(LINEAR + LOADERS, "models.py:get_model").build(0).num_classes is None
    inner = "from .parts import width\nimport beside\ndef get_model():\n    return nn.Linear(4, width)\n" + LOADERS
    files = {"pkg/__init__.py": "", "pkg/net.py": inner, "pkg/parts.py": "width = 5\n", "pkg/beside.py": ""}
    assert project("", "pkg/net.py:get_model", files).build(0).model.out_features == 5


def test_a_pipeline_factory(project: Project) -> None:
    source = project(
        """
def make():
    model = nn.Linear(4, 3)
    return diagnose.Pipeline(model, data(), data(), optimizer=torch.optim.SGD(model.parameters(), 0.5), epochs=3)
""",
        "models:make",
        epochs=4,
    )
    pipeline = source.build(0)
    assert (source.kind, pipeline.epochs, pipeline.task) == ("pipeline factory", 4, "classification")
    assert pipeline.optimizer is not None
    assert pipeline.optimizer.param_groups[0]["lr"] == 0.5
    assert pipeline.optimizer.param_groups[0]["params"][0] is pipeline.model.weight
    assert source.provenance["optimizer"] == "function make"
    assert isinstance(source.build_model(0), nn.Linear)
    reused = source.build(1, reuse_data=pipeline)
    assert reused.train is pipeline.train
    assert reused.model is not pipeline.model


def test_flags_replace_parts_of_a_pipeline(project: Project) -> None:
    text = """
def make():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    return diagnose.Pipeline(model, data(), optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 1))
"""
    source = project(text, "models:make", optimizer="torch.optim:AdamW", set=["optimizer.lr=0.25"])
    pipeline = source.build(0)
    assert isinstance(pipeline.optimizer, torch.optim.AdamW)
    assert pipeline.optimizer.param_groups[0]["lr"] == 0.25
    assert pipeline.scheduler is None
    assert source.provenance["optimizer"] == "flag"
    with pytest.raises(UsageError, match="makes the optimizer itself"):
        project(text, "models:make", set=["optimizer.lr=0.25"])


def test_a_module_instance_is_copied(project: Project) -> None:
    source = project("model = nn.Sequential(nn.Linear(4, 3))\n" + LOADERS, "models:model")
    first, second = source.build(0), source.build(1)
    assert source.kind == "module instance"
    assert first.model is not second.model
    assert torch.equal(weights(first), weights(second))
    where = source.created_at(second.model[0])
    assert where is not None
    assert (where.file, where.text) == ("models.py", "model = nn.Sequential(nn.Linear(4, 3))")


def test_a_module_class_is_a_factory(project: Project) -> None:
    text = """
class Net(nn.Module):
    def __init__(self, width: int, depth: int = 1):
        super().__init__()
        self.head = nn.Linear(4, width)
"""
    assert project(text + LOADERS, "models:Net", set=["width=6"]).build(0).model.head.out_features == 6
    with pytest.raises(UsageError, match=r"Net of models needs width: give --set model\.width="):
        project(text, "models:Net")


def test_companions_of_every_kind(project: Project) -> None:
    source = project(
        LINEAR
        + """
scheduler_interval = "step"
def get_dataloaders(batch_size: int): return {"train": data(batch_size=batch_size), "val": None, "num_classes": 3}
def get_criterion(): return nn.NLLLoss()
def get_optimizer(parameters, lr=0.1): return torch.optim.SGD(parameters, lr)
def get_scheduler(optimizer, epochs, steps_per_epoch):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, epochs=epochs, steps_per_epoch=steps_per_epoch)
def compute_loss(model, batch): return model(batch[0]).sum()
def train_step(model, batch, optimizer): return 0.0
""",
        set=["data.batch_size=4", "optimizer.lr=0.2"],
    )
    pipeline = source.build(0)
    assert next(iter(pipeline.train))[0].shape == (4, 4)
    assert isinstance(pipeline.loss, nn.NLLLoss)
    assert pipeline.optimizer is not None
    assert isinstance(pipeline.optimizer, torch.optim.SGD)
    assert pipeline.scheduler is not None
    assert pipeline.scheduler.total_steps == 40
    assert pipeline.scheduler_interval == "step"
    assert pipeline.num_classes == 3
    assert pipeline.compute_loss is not None
    assert pipeline.train_step is not None
    assert source.provenance["scheduler"] == "function get_scheduler"
    assert source.created_at(pipeline.optimizer) is not None


SPEC_FILES = {
    "dataset_utils.py": """
def get_dataset_loaders(name, batch_size, num_workers, augmentation_type):
    assert (name, augmentation_type) == ("TinyImageNet", "none")
    return data(c=7, batch_size=batch_size), data(c=7, batch_size=batch_size), 7
""",
    "training_utils.py": """
def get_optimizer(model, name, **config):
    return getattr(torch.optim, name)(model.parameters(), **config)
""",
}
SPEC_MODEL = """
def get_model(name, num_classes):
    assert name == "deeper_wider"
    return nn.Linear(4, num_classes)
"""
SPEC_SETTINGS = [
    "model.name=deeper_wider",
    "data.name=TinyImageNet",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.augmentation_type=none",
    "optimizer.name=SGD",
    "optimizer.lr=0.3",
    "optimizer.nesterov=false",
]
SPEC_FLAGS = {"data": "dataset_utils:get_dataset_loaders", "optimizer": "training_utils:get_optimizer"}


def test_the_layout_of_the_contract_needs_no_adapter(project: Project) -> None:
    settings = [
        item if item != "data.augmentation_type=none" else "data.augmentation_type='none'" for item in SPEC_SETTINGS
    ]
    source = project(SPEC_MODEL, files=SPEC_FILES, set=settings, **SPEC_FLAGS)
    pipeline = source.build(0)
    assert pipeline.model.out_features == pipeline.num_classes == 7
    assert isinstance(pipeline.optimizer, torch.optim.SGD)
    assert pipeline.optimizer.param_groups[0]["lr"] == 0.3
    assert source.provenance["data"] == "flag"
    assert source.takes_num_classes
    assert source.build_model(0, num_classes=10).out_features == 10


def test_all_missing_arguments_are_one_usage_error(project: Project) -> None:
    with pytest.raises(UsageError) as caught:
        project(SPEC_MODEL, files=SPEC_FILES, set=["data.nmae=x"], **SPEC_FLAGS)
    text = str(caught.value)
    for flag in ("model.name", "data.name", "data.batch_size", "data.num_workers", "optimizer.name"):
        assert f"--set {flag}=" in text
    assert "num_classes:" not in text
    assert "Did you mean name?" in text


def test_a_class_count_that_nobody_knows_is_asked_for(project: Project) -> None:
    with pytest.raises(UsageError, match=r"--set model\.num_classes="):
        project(SPEC_MODEL, set=["name=deeper_wider"])
    with pytest.raises(UsageError, match=r"--set model\.num_classes="):
        project(SPEC_MODEL + LOADERS, set=["name=deeper_wider"])
    assert project(SPEC_MODEL + LOADERS, set=["name=deeper_wider", "num_classes=5"]).build(0).num_classes == 5


def test_the_class_count_comes_from_the_dataset(project: Project) -> None:
    text = """
def get_model(num_classes=10): return nn.Linear(4, num_classes)
def get_loaders():
    train = data()
    train.dataset.classes = ["a", "b", "c"]
    return DataLoader(torch.utils.data.Subset(train.dataset, range(8)), batch_size=4), train
"""
    pipeline = project(text).build(0)
    assert (pipeline.model.out_features, pipeline.num_classes) == (3, 3)
    assert pipeline.class_names == ["a", "b", "c"]


def test_built_in_data_take_settings(project: Project) -> None:
    text = "def get_model(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    pipeline = project(text, data="digits", set=["data.batch_size=16"]).build(0)
    assert next(iter(pipeline.train))[0].shape == (16, 1, 8, 8)
    with pytest.raises(UsageError, match="Did you mean batch_size"):
        project(text, data="digits", set=["data.batchsize=16"])


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("epochs=2", "Give --epochs 2 instead"),
        ("train.epochs=2", "Give --epochs 2 instead"),
        ("batch_size=8", "--set data.batch_size=8"),
        ("model.lr=0.1", "--set optimizer.lr=0.1"),
    ],
)
def test_a_setting_of_something_else_is_told_where_it_goes(project: Project, setting: str, advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        project("def get_model(width=8): return nn.Linear(64, width)\n", data="digits", set=[setting])


@pytest.mark.parametrize(
    ("layer", "flags", "shape"),
    [
        ("nn.Conv2d(3, 5, 3)", {}, (8, 3, 32, 32)),
        ("nn.Conv1d(2, 5, 3)", {}, (8, 2, 32)),
        ("nn.Linear(7, 5)", {}, (8, 7)),
        ("nn.Embedding(11, 5)", {}, (8, 16)),
        ("nn.Conv2d(3, 5, 3)", {"input": "3x8x9"}, (8, 3, 8, 9)),
        ("nn.LazyLinear(5)", {"input": "6"}, (8, 6)),
    ],
)
def test_inputs_are_made_up_where_there_are_no_data(
    project: Project, layer: str, flags: dict[str, str], shape: tuple[int, ...]
) -> None:
    source = project(f"def get_model(): return {layer}\n", **flags)
    inputs = next(iter(source.build(0).train))
    assert (inputs if isinstance(inputs, torch.Tensor) else inputs[0]).shape == shape
    assert not source.has_data
    assert any("made-up inputs" in note for note in source.notes)
    with pytest.raises(UsageError, match="overfit needs data"):
        source.require_data("overfit")


def test_made_up_targets_fit_the_output(project: Project) -> None:
    pipeline = project("def get_model(): return nn.Linear(7, 5)\n").build(0)
    assert (pipeline.task, pipeline.num_classes) == ("classification", 5)
    broken = project(
        "class Net(nn.Linear):\n    def forward(self, x): raise ValueError\ndef make(): return Net(7, 5)\n",
        "models:make",
    )
    assert broken.build(0).task == "custom"
    with pytest.raises(UsageError, match="--input 3x32x32"):
        project("def get_model(): return nn.ReLU()\n")


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("", "modles:get_model", "there is no module modles. Did you mean models?"),
        ("", "model.py:get_model", "there is no file model.py. Did you mean models.py?"),
        ("def get_model(): ...", "models:get_modle", "has no attribute 'get_modle'. Did you mean get_model?"),
        ("def make_it(): ...", "models:zzz", "It defines data, make_it."),
        ("get_model = 3", "models:get_model", "is of type int and cannot be called"),
        ("def get_model(): ...", "models:get_model", "returned None, expected an nn.Module"),
        ("def get_model(): return 'x'", "models:get_model", "returned a str, expected an nn.Module"),
        ("def get_model(): return nn.ReLU", "models:get_model", "returned the class ReLU"),
        (
            "def get_model(): return diagnose.Pipeline(nn.Linear(1, 1), None)",
            "models:get_model",
            "Pipeline.train is None",
        ),
        (
            "def get_model(): return diagnose.Pipeline(nn.Linear(4, 1), data(), task='x')",
            "models:get_model",
            "Pipeline.task",
        ),
        (
            LINEAR + "def get_loaders(): return 3",
            "models:get_model",
            "get_loaders of models.py returned a int, expected",
        ),
        (LINEAR + "def get_loaders(): return {'trian': 1}", "models:get_model", "Did you mean train?"),
        (LINEAR + "def get_loaders(): return data().dataset, None", "models:get_model", "wrap it in torch.utils.data"),
        (LINEAR + "def get_loaders(): return iter(data()), None", "models:get_model", "can be read only once"),
        (LINEAR + "def get_loaders(): return [object()], None", "models:get_model", "batch not understood"),
        (
            LINEAR + "def get_optimizer(model): ...",
            "models:get_model",
            "returned None, expected a torch.optim.Optimizer",
        ),
        (LINEAR + "def get_optimizer(model): return [1, 2]", "models:get_model", "define train_step"),
        (LINEAR + "def get_scheduler(optimizer): return 3", "models:get_model", "expected a scheduler"),
        (LINEAR + "def get_loss(): return nn.MSELoss", "models:get_model", "returned the class MSELoss"),
    ],
)
def test_targets_that_do_not_fit(project: Project, text: str, target: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        project(text + "\n", target)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["nmae=x"], "get_model of models takes name, width. Did you mean name?"),
        (["width=wide"], "--set model.width=wide: got 'wide', expected a whole number"),
        (["loss.x=1"], "no loss function takes it"),
        (["optimizer.momentum=1"], "takes lr, weight_decay"),
    ],
)
def test_settings_that_do_not_fit(project: Project, settings: list[str], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        project("def get_model(name='x', width: int = 3): return nn.Linear(4, width)\n" + LOADERS, set=settings)
    assert expected in str(caught.value)


def test_an_exception_in_the_users_code_is_not_a_usage_error(project: Project) -> None:
    with pytest.raises(UserCodeError) as caught:
        project("def helper():\n    return 1 / 0\n\ndef get_model():\n    return helper()\n")
    assert isinstance(caught.value.original, ZeroDivisionError)
    assert [(frame.file, frame.text) for frame in caught.value.frames][-2:] == [
        ("models.py", "return helper()"),
        ("models.py", "return 1 / 0"),
    ]
    assert caught.value.what == "get_model of models"


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("import nowhere_at_all\n", ModuleNotFoundError, "import nowhere_at_all"),
        ("raise SystemExit(3)\n", SystemExit, "raise SystemExit(3)"),
        ("def broken(:\n", SyntaxError, "def broken(:"),
    ],
)
def test_a_module_that_cannot_be_imported(project: Project, text: str, kind: type[BaseException], line: str) -> None:
    with pytest.raises(UserCodeError) as caught:
        project(text)
    assert isinstance(caught.value.original, kind)
    assert caught.value.frames[-1].text == line
    assert caught.value.frames[-1].file == "models.py"


def test_failing_and_empty_loaders_are_left_to_the_data_stage(project: Project) -> None:
    empty = project(LINEAR + "def get_loaders(): return [], []\n")
    assert (empty.build(0).task, empty.build(0).loss) == ("custom", None)
    failing = """
class Failing:
    def __iter__(self): raise ValueError("no such image")
def get_loaders(): return Failing(), None, 3
"""
    source = project("", "failing:get_model", {"failing.py": LINEAR + failing})
    assert source.build(0).task == "classification"
    assert any("could not be read (ValueError)" in note for note in source.notes)


def test_where_modules_were_created(project: Project) -> None:
    source = project(
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, 8),
            nn.Dropout(0.5),
        )
    def __eq__(self, other): raise RuntimeError("compared")
    __hash__ = nn.Module.__hash__

def get_model():
    return nn.Sequential(Net(), nn.TransformerEncoderLayer(8, 2))
"""
        + LOADERS
    )
    model = source.build(0).model
    dropout = source.created_at(model[0].body[1])
    assert dropout is not None
    assert (dropout.file, dropout.text) == ("models.py", "nn.Dropout(0.5),")
    inner = source.created_at(model[1].self_attn)
    assert inner is not None
    assert inner.text.startswith("return nn.Sequential(")
    assert source.created_at(nn.Linear(1, 1)) is None
    assert nn.Module.__init__.__qualname__ == "Module.__init__"
    assert torch.optim.Optimizer.__init__.__qualname__ == "Optimizer.__init__"


def test_a_loss_function_itself_is_accepted(project: Project) -> None:
    text = LINEAR + LOADERS + "def focal(output, target): return nn.functional.cross_entropy(output, target)\n"
    loss = project(text, loss="models:focal").build(0).loss
    assert loss is not None
    assert loss.__name__ == "focal"
    made = project(text, loss="torch.nn:CrossEntropyLoss", set=["loss.label_smoothing=0.1"]).build(0).loss
    assert isinstance(made, nn.CrossEntropyLoss)
    assert made.label_smoothing == 0.1


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("true", bool, True),
        ("3", int, 3),
        ("3", float, 3.0),
        ("3", str, "3"),
        ("none", int | None, None),
        ("4", int | None, 4),
        ("none", str | None, None),
        ("1,2,3", list[int], [1, 2, 3]),
        ("(1,x)", tuple[int, str], (1, "x")),
        ("0.5", "float | None", 0.5),
        ("data", Path, Path("data")),
    ],
)
def test_conversion_by_annotation(text: str, annotation: Any, value: object) -> None:
    converted = convert(text, annotation)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("no", True, False),
        ("0.3", 0, 0.3),
        ("1", 0.5, 1.0),
        ("8,9", (1, 2), (8, 9)),
        ("7", "x", "7"),
        ("x", None, "x"),
        ("7", None, 7),
    ],
)
def test_conversion_by_default(text: str, default: object, value: object) -> None:
    assert convert(text, default=default) == value


def test_frames_of_a_loader_worker_are_read_from_its_message() -> None:
    lines = ("Caught ValueError in DataLoader worker process 0.", "Original Traceback (most recent call last):")
    message = "\n".join((*lines, f'  File "{__file__}", line 1, in x', "ValueError: y"))
    assert [frame.line for frame in user_frames(ValueError(message))] == [1]


def test_usage_errors_and_interrupts_pass_through() -> None:
    for error in (UsageError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), user_code("testing"):
            raise error


def test_settings_reach_the_keywords_of_a_stepwise_scheduler(project: Project) -> None:
    source = project(
        LINEAR + LOADERS,
        scheduler="torch.optim.lr_scheduler:CyclicLR",
        set=["scheduler.base_lr=0.1", "scheduler.max_lr=0.2", "scheduler.cycle_momentum=false"],
    )
    assert source.build(0).scheduler_interval == "step"
    assert any("CyclicLR is stepped after every batch" in note for note in source.notes)


def test_a_pipeline_factory_that_requires_a_class_count(project: Project) -> None:
    text = "def make(num_classes): return diagnose.Pipeline(nn.Linear(4, num_classes), data())\n" + LOADERS
    assert project(text, "models:make", set=["num_classes=3"]).kind == "pipeline factory"
    with pytest.raises(UsageError, match=r"num_classes"):
        project(text.replace("data(), data()", "data(), data(), 3"), "models:make")


def test_a_scheduler_beside_the_optimizer_is_used_where_it_can_be(project: Project) -> None:
    optimizer = "def get_optimizer(model, lr=0.1): return torch.optim.SGD(model.parameters(), lr)\n"
    schedule = "def get_scheduler(optimizer, {}): return torch.optim.lr_scheduler.StepLR(optimizer, 3)\n"
    usable = {"training_utils.py": optimizer + schedule.format("epochs") + "scheduler_interval = 'step'\n"}
    source = project(LINEAR + LOADERS, files=usable, optimizer="training_utils:get_optimizer")
    assert isinstance(source.build(0).scheduler, torch.optim.lr_scheduler.StepLR)
    assert source.build(0).scheduler_interval == "step"
    assert source.provenance["scheduler"] == "function get_scheduler of training_utils.py"
    needy = {"training_utils.py": optimizer + schedule.format("name")}
    source = project(LINEAR + LOADERS, files=needy, optimizer="training_utils:get_optimizer")
    assert source.build(0).scheduler is None
    (note,) = [note for note in source.notes if note.startswith("No scheduler was given")]
    assert "it needs name" in note
    named = project(
        LINEAR + LOADERS, files=needy, optimizer="training_utils:get_optimizer", set=["scheduler.name=step"]
    )
    assert named.build(0).scheduler is not None


def test_what_stands_in_other_files_is_told_and_not_imported(project: Project) -> None:
    script = (
        "raise SystemExit('a script that trains')\ndef get_scheduler(optimizer): ...\ndef get_optimizer(model): ...\n"
    )
    source = project(LINEAR + LOADERS, files={"train.py": script})
    pipeline = source.build(0)
    assert isinstance(pipeline.optimizer, torch.optim.Adam)
    assert pipeline.scheduler is None
    source.build(1)
    assert sorted(note for note in source.notes if "train.py" in note) == [
        "No optimizer was given: Adam, lr 0.001. train.py has get_optimizer: give --optimizer train:get_optimizer to "
        "use it.",
        "No scheduler was given: the learning rate stays as it is. train.py has get_scheduler: give --scheduler "
        "train:get_scheduler to use it.",
    ]


def test_the_number_of_epochs_is_assumed_only_where_nobody_gave_one(project: Project) -> None:
    assert "No number of epochs was given: 10." in project(LINEAR + LOADERS).notes
    assert not [note for note in project(LINEAR + LOADERS, epochs=10).notes if "epochs" in note]
