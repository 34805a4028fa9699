"""A frozen backbone whose batch norm rests in eval mode, with a new head."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(20, 40), nn.BatchNorm1d(40), nn.ReLU())
        self.middle = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Dropout(0.2))
        self.fc = nn.Linear(40, classes)

    def forward(self, x):
        return self.fc(self.middle(self.backbone(x)))


model = Net(1000)
for parameter in model.backbone.parameters():
    parameter.requires_grad = False
model.fc = nn.Linear(40, 3)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
x = torch.randn(450, 20)
y = x[:, :3].argmax(1)
dataloaders = {
    "train": DataLoader(TensorDataset(x[:360], y[:360]), batch_size=30, shuffle=True),
    "val": DataLoader(TensorDataset(x[360:], y[360:]), batch_size=45),
}
for epoch in range(5):
    for phase in ["train", "val"]:
        if phase == "train":
            model.train()
            model.backbone.eval()
        else:
            model.eval()
        running = 0.0
        for inputs, labels in dataloaders[phase]:
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                loss = nn.functional.cross_entropy(model(inputs), labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
            running += loss.item() * len(inputs)
        print(epoch, phase, running / len(dataloaders[phase].dataset))
