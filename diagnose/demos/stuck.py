"""A training that sits at chance: the loss stays at ln 200, yet model, data, gradients and optimizer look fine."""

import torch
from torch import nn
from torch.utils.data import DataLoader

import diagnose
from diagnose.datasets.glyphs import Glyphs

CLASSES = 200


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.4),
    )


class GlyphNet(nn.Module):
    """Three convolutional blocks and a head of four layers. Input (N, 3, 32, 32), output (N, 200) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(block(3, 16), block(16, 32), block(32, 64))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.6),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Dropout(0.6),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Dropout(0.6),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(0.6),
            nn.Linear(64, CLASSES),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head[-1].weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def get_pipeline() -> diagnose.Pipeline:
    model = GlyphNet()
    train = DataLoader(Glyphs(CLASSES, size=32, samples=10_000), batch_size=64, shuffle=True)
    val = DataLoader(Glyphs(CLASSES, size=32, samples=2_000, split=1), batch_size=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return diagnose.Pipeline(
        model, train, val, loss=nn.CrossEntropyLoss(), optimizer=optimizer, num_classes=CLASSES, epochs=12
    )
