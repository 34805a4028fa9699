"""Minibatches cut from tensors by hand, no loader; validation on all at once after each epoch."""

import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(os.environ.get("SEED", "0")))
images, labels = load_digits(return_X_y=True)
X, Y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
X_train, Y_train, X_val, Y_val = X[:700], Y[:700], X[700:900], Y[700:900]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 80)
        self.fc2 = nn.Linear(80, 10)

    def forward(self, x):
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.3, training=self.training))


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(5):
    net.train()
    permutation = torch.randperm(len(X_train))
    for i in range(0, len(X_train), 50):
        index = permutation[i : i + 50]
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X_train[index]), Y_train[index])
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        val_loss = F.cross_entropy(net(X_val), Y_val)
    print(epoch, loss.item(), val_loss.item())
