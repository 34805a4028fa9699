"""Faults of the loop zoo that were missed longest, each beside programs that look like them and are fine."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import torch
from watching import watch_source

from diagnose.watch.capture import MOST_BATCHES, StepCapture

HEAD = """
import copy, random
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset
torch.manual_seed(0)
random.seed(0)
x = torch.randn(300, 8)
y = (x @ torch.randn(8, 10)).argmax(1)
whole = TensorDataset(x, y)
train_set, test_set = Subset(whole, range(200)), Subset(whole, range(200, 300))
loader = DataLoader(train_set, 25, shuffle=True)
held_out = DataLoader(test_set, 10)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 10))
    def forward(self, a):
        return self.body(a)

model = Net()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)

def fit(batches=loader, most=1000):
    model.train()
    for i, (a, b) in enumerate(batches):
        if i == most:
            break
        optimizer.zero_grad()
        F.cross_entropy(model(a), b).backward()
        optimizer.step()

@torch.no_grad()
def score(batches=held_out):
    model.eval()
    return sum((model(a).argmax(1) == b).sum().item() for a, b in batches)
"""


def alarms(body: str, folder: Path, *, parts: bool = False) -> dict[str, str]:
    return dict(watch_source(HEAD + dedent(body), folder, parts=parts).alarms)


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ("model(a).argmax(0) == b", {"metric-over-wrong-axis": "error"}),
        ("model(a).argmax(1) == b", {}),
        ("model(a).T.argmax(0) == b", {}),
        ("model(a[:7]).argmax(0) >= 0", {}),  # the best of seven for each class
    ],
)
def test_a_batch_of_as_many_samples_as_classes(scores: str, found: dict[str, str], tmp_path: Path) -> None:
    body = f"""
    for epoch in range(3):
        fit()
        model.eval()
        with torch.no_grad():
            print(sum(({scores}).sum().item() for a, b in held_out))
    """
    assert alarms(body, tmp_path) == found


def test_scores_that_the_model_returns_by_class(tmp_path: Path) -> None:
    body = """
    class ByClass(Net):
        def forward(self, a):
            return self.body(a).T
    model = ByClass()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for epoch in range(3):
        model.train()
        for a, b in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(a).T, b).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            print(sum((model(a).argmax(0) == b).sum().item() for a, b in held_out))
    """
    assert alarms(body, tmp_path) == {}


def test_questions_and_answers_are_looked_for_both_ways(tmp_path: Path) -> None:
    body = """
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.asks, self.answers = nn.Linear(8, 16), nn.Linear(8, 16)
        def forward(self, a, b):
            return F.normalize(self.asks(a), dim=1) @ F.normalize(self.answers(b), dim=1).T
    model = Pairs()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    pairs = TensorDataset(x[:200], 2 * x[:200], torch.randn(200, 8))
    for epoch in range(3):
        for a, b, wrong in DataLoader(pairs, 10, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(5 * model(a, torch.cat([b, wrong])), torch.arange(len(a))).backward()
            optimizer.step()
        with torch.no_grad():
            for a, b in DataLoader(TensorDataset(x[200:], 2 * x[200:]), 20):
                print([model(a, b).argmax(dim).eq(torch.arange(20)).sum() for dim in (0, 1)])
    """
    assert alarms(body, tmp_path) == {}


KEPT = """
best, world = 0, 2
for epoch in range(4):
    fit()
    value = score() + 1000 * epoch + 1
    {taken}
{loaded}
"""


@pytest.mark.parametrize(
    ("taken", "loaded", "found"),
    [
        ("if value > best: best, state = value, model.state_dict()", "model.load_state_dict(state)", "warning"),
        ("best_state = {k: v.detach() for k, v in model.state_dict().items()}", "model.load_state_dict(best_state)",
         "warning"),
        ("if value > best: best, state = value, copy.deepcopy(model.state_dict())", "model.load_state_dict(state)", ""),
        ("if world > 1: state = model.state_dict(); model.load_state_dict(state)", "", ""),  # averaged over ranks
        ("checkpoint = {'model': model.state_dict()}", "model.load_state_dict(checkpoint['model'])", ""),
    ],
)  # fmt: skip
def test_better_weights_that_are_the_latest(taken: str, loaded: str, found: str, tmp_path: Path) -> None:
    told = alarms(KEPT.format(taken=taken, loaded=loaded), tmp_path)
    assert told == ({"best-weights-by-reference": found} if found else {})


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ("x[i] * random.choice((1, -1)), y[i]", {"first-batch-only": "error"}),
        ("torch.randn(8), random.randrange(10)", {}),  # another one each time, whatever the index
        ("whole[random.randrange(30)]", {}),
    ],
)
def test_the_same_few_under_an_augmentation(item: str, found: dict[str, str], tmp_path: Path) -> None:
    body = f"""
    class Items(Dataset):
        def __len__(self):
            return 200
        def __getitem__(self, i):
            return {item}
    loader = DataLoader(Items(), 8)
    for epoch in range(6):
        fit(loader, most=3)
        score()
    """
    assert alarms(body, tmp_path) == found


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("val_loader = DataLoader(train_set, 40)", {"training-on-validation-data": "error"}),
        ("val_loader = DataLoader(test_set, 40)", {}),
        ("train_eval_loader = DataLoader(train_set, 40)", {}),
        ("eval_loader = DataLoader(train_set, 40)", {}),
        ("val_loader = DataLoader(whole, 40, sampler=SubsetRandomSampler(range(200, 300)))", {}),
        ("def val_dataloader():\n    return DataLoader(train_set, 40)\nheld = val_dataloader()",
         {"training-on-validation-data": "error"}),
    ],
)  # fmt: skip
def test_a_validation_loader_that_gives_the_training_data(made: str, found: dict[str, str], tmp_path: Path) -> None:
    name = made.splitlines()[-1].split(" = ")[0]
    body = f"{made}\nfor epoch in range(3):\n    fit()\n    score({name})\nscore(DataLoader(test_set, 50))\n"
    assert alarms(body, tmp_path) == found


ITEMS = """
class Items(Dataset):
    def __len__(self):
        return 200
    def __getitem__(self, i):
        return {item}
fit(DataLoader(Items(), 25, shuffle=True))
"""


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ("x[0], y[i]", {"repeated-samples": "error"}),
        ("x[0], y[0]", {}),  # one sample is learned on purpose
        ("F.one_hot(y[i] % 8, 8).float(), (y[i] + random.randrange(2)) % 10", {}),  # few words, many of each
    ],
)
def test_one_input_with_many_targets(item: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(ITEMS.format(item=item), tmp_path, parts=True) == found


def test_one_picture_with_many_questions(tmp_path: Path) -> None:
    body = """
    class Asked(nn.Module):
        def __init__(self):
            super().__init__()
            self.picture, self.question, self.head = nn.Linear(8, 16), nn.Embedding(10, 16), nn.Linear(16, 10)
        def forward(self, picture, question):
            return self.head(torch.relu(self.picture(picture) + self.question(question)))
    model = Asked()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    asked = torch.randint(0, 10, (200,))
    for a, b in DataLoader(TensorDataset(asked, (3 * asked + 1) % 10), 25, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:1].expand(len(a), -1), a), b).backward()
        optimizer.step()
    """
    assert alarms(body, tmp_path, parts=True) == {}


def test_few_samples_of_a_class_that_lies_apart(tmp_path: Path) -> None:
    body = """
    y = torch.arange(300) % 3
    x = torch.randn(300, 8)
    x[y == 0, 1] += 25.0
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    fit(DataLoader(TensorDataset(x, y), {}))
    """
    assert "target-leaked-into-input" not in alarms(body.format(20), tmp_path, parts=True)
    assert "target-leaked-into-input" in alarms(body.format(75), tmp_path, parts=True)


def kept_lengths(lengths: list[int]) -> list[int]:
    """Of the batches that are kept, where steps are made on tokens of these lengths."""
    from diagnose.creation import CreationLog

    capture = StepCapture(CreationLog())
    model = torch.nn.EmbeddingBag(10, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for length in lengths:
        tokens = torch.randint(0, 10, (4, length))
        capture.begins(model, (tokens,), {}, ())
        output = model(tokens)
        capture.ends(output)
        loss = output.sum()
        capture.before_backward(loss, ())
        loss.backward()  # type: ignore[no-untyped-call]
        capture.after_backward()
        capture.steps(optimizer, 1, (), set(), None)
    assert capture.done
    return [batch[0].shape[1] for batch in capture.batches()]


def test_a_batch_of_another_length_is_waited_for() -> None:
    assert kept_lengths([5, 6, 5, 5, 5]) == [5, 6, 5, 5]
    assert kept_lengths([5, 5, 5, 5, 5, 5, 7, 8]) == [5, 5, 5, 7]
    assert kept_lengths([5] * 30 + [7]) == [5] * MOST_BATCHES


CODER = """
encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
decoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))

def run(optimizer, loss=lambda a: F.mse_loss(decoder(encoder(a)), a)):
    for _ in range(20):
        a = x[torch.randint(0, 300, (32,))]
        optimizer.zero_grad()
        loss(a).backward()
        optimizer.step()

"""


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("run(torch.optim.Adam(encoder.parameters()))", {"parameters-missing-from-optimizer": "error"}),
        ("run(torch.optim.Adam([*encoder.parameters(), *decoder.parameters()]))", {}),
        ("decoder.requires_grad_(False)\nrun(torch.optim.Adam(encoder.parameters()))", {}),
        ("decoder.eval()\nrun(torch.optim.Adam(encoder.parameters()))", {}),
        ("decoder.load_state_dict(copy.deepcopy(decoder).state_dict())\n"
         "run(torch.optim.Adam(encoder.parameters()))", {}),
        ("run(torch.optim.Adam(decoder.parameters()))\nrun(torch.optim.Adam(encoder.parameters()))", {}),
        ("decoder = nn.Sequential(nn.Linear(4, 99), nn.ReLU(), nn.Linear(99, 8))\n"
         "run(torch.optim.Adam(encoder.parameters()))", {}),  # a few weights before a large model
        ("target = copy.deepcopy(encoder)\n"
         "run(torch.optim.Adam(encoder.parameters()), lambda a: F.mse_loss(encoder(a), target(a)))", {}),
    ],
)  # fmt: skip
def test_a_model_behind_the_one_that_is_trained(body: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(CODER + body, tmp_path) == found


@pytest.mark.parametrize(
    "judge",
    [
        "net = make()\nnet.load_state_dict(make().state_dict())\ndecoder = nn.Sequential(net, nn.ReLU())",
        "file = io.BytesIO()\ntorch.save(make(), file)\nfile.seek(0)\ndecoder = torch.load(file, weights_only=False)",
        "decoder = torch.jit.script(make())",
    ],
)
def test_a_model_that_was_loaded_is_meant_to_stay(judge: str, tmp_path: Path) -> None:
    made = "import io\ndef make():\n    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))\n"
    assert alarms(f"{CODER}{made}{judge}\nrun(torch.optim.Adam(encoder.parameters()))", tmp_path) == {}


def test_a_function_that_evaluates_several_data_sets(tmp_path: Path) -> None:
    body = """
    def evaluate(data):
        test_loader = DataLoader(data, 50)
        return score(test_loader)
    for epoch in range(3):
        fit()
        print(evaluate(train_set), evaluate(test_set))
    """
    assert alarms(body, tmp_path) == {}


def test_a_critic_is_trained_later_than_its_actor(tmp_path: Path) -> None:
    body = """
    actor, critic = nn.Linear(8, 2), nn.Linear(10, 1)
    acts, judges = torch.optim.Adam(actor.parameters()), torch.optim.Adam(critic.parameters())
    for i in range(40):
        if i > 10:
            judges.zero_grad()
            F.mse_loss(critic(torch.randn(32, 10)), torch.randn(32, 1)).backward()
            judges.step()
        acts.zero_grad()
        critic(torch.cat([x[:32], actor(x[:32])], 1)).mean().neg().backward()
        acts.step()
    """
    assert alarms(body, tmp_path) == {}
