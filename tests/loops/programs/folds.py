"""Cross-validation: a new model and optimizer for each fold, then a final model on all data."""

# ruff: noqa
# fmt: off
import os

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
features, classes = load_wine(return_X_y=True)
features = torch.tensor(features, dtype=torch.float32)
features = (features - features.mean(0)) / features.std(0)
dataset = TensorDataset(features, torch.tensor(classes))


def new_model():
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))


def fit(model, optimizer, loader, epochs=12):
    loss_fn = nn.CrossEntropyLoss()
    model.train()
    for epoch in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), targets)
            loss.backward()
            optimizer.step()
    return loss.item()


def score(model, loader):
    model.eval()
    with torch.no_grad():
        hits = sum((model(inputs).argmax(dim=1) == targets).sum().item() for inputs, targets in loader)
    return hits / len(loader.dataset)


scores = []
folds = StratifiedKFold(n_splits=4, shuffle=True, random_state=0)
for fold, (train_ids, test_ids) in enumerate(folds.split(features.numpy(), classes)):
    train_loader = DataLoader(Subset(dataset, train_ids.tolist()), batch_size=16, shuffle=True)
    test_loader = DataLoader(Subset(dataset, test_ids.tolist()), batch_size=64)
    model = new_model()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3)
    last = fit(model, optimizer, train_loader)
    scores.append(score(model, test_loader))
    print("fold", fold, "loss", last, "accuracy", scores[-1])
print("mean accuracy", sum(scores) / len(scores))
final = new_model()
optimizer = torch.optim.RMSprop(final.parameters(), lr=3e-3)
fit(final, optimizer, DataLoader(dataset, batch_size=16, shuffle=True))
torch.save(final.state_dict(), "final.pt")
