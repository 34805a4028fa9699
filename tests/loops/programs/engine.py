"""An engine that runs a step function, with handlers attached as closures."""

# ruff: noqa
# fmt: off
import os
from collections import defaultdict

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset


class Engine:
    def __init__(self, step):
        self.step, self.handlers, self.outputs = step, defaultdict(list), []

    def on(self, event):
        def attach(handler):
            self.handlers[event].append(handler)
            return handler

        return attach

    def fire(self, event):
        for handler in self.handlers[event]:
            handler(self)

    def run(self, loader, epochs=1):
        for self.epoch in range(1, epochs + 1):
            self.outputs = []
            self.fire("epoch_started")
            for self.iteration, batch in enumerate(loader):
                self.outputs.append(self.step(self, batch))
                self.fire("iteration_completed")
            self.fire("epoch_completed")


def build(model, optimizer, loss_fn):
    def train_step(engine, batch):
        model.train()
        features, target = batch
        optimizer.zero_grad()
        loss = loss_fn(model(features).flatten(), target)
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    def eval_step(engine, batch):
        model.eval()
        with torch.no_grad():
            features, target = batch
            logits = model(features).flatten()
            return ((logits > 0) == (target > 0.5)).float().mean().item()

    return Engine(train_step), Engine(eval_step)


torch.manual_seed(int(os.environ.get("SEED", "0")))
table, labels = load_breast_cancer(return_X_y=True)
permutation = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
train_ids, val_ids = permutation[:400].tolist(), permutation[400:].tolist()
table = StandardScaler().fit(table[train_ids]).transform(table)
data = TensorDataset(torch.tensor(table, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32))
train_loader = DataLoader(Subset(data, train_ids), batch_size=16, shuffle=True)
val_loader = DataLoader(Subset(data, val_ids), batch_size=64)
model = nn.Sequential(nn.Linear(30, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[8, 11], gamma=0.2)
trainer, evaluator = build(model, optimizer, nn.BCEWithLogitsLoss())


@trainer.on("epoch_completed")
def validate(engine):
    evaluator.run(val_loader)
    mean = sum(evaluator.outputs) / len(evaluator.outputs)
    print(f"epoch {engine.epoch}: loss {sum(engine.outputs) / len(engine.outputs):.4f} accuracy {mean:.3f}")


@trainer.on("epoch_completed")
def decay(engine):
    scheduler.step()


trainer.run(train_loader, epochs=12)
