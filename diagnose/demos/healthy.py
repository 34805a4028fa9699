"""A small network that learns the bundled handwritten digits, dropout and weight decay included."""

import torch
from torch import nn
from torch.utils.data import DataLoader

import diagnose
from diagnose.datasets import builtin_loaders


class DigitNet(nn.Module):
    """Input (N, 1, 8, 8), output (N, 10) logits."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 4 * 4, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def get_pipeline() -> diagnose.Pipeline:
    loaders = builtin_loaders("digits", batch_size=32)
    train: DataLoader[tuple[torch.Tensor, torch.Tensor]] = loaders["train"]
    model = DigitNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return diagnose.Pipeline(
        model,
        train,
        loaders["val"],
        nn.CrossEntropyLoss(),
        optimizer,
        num_classes=10,
        class_names=loaders["class_names"],
    )
