"""Faults in the vision transformer: its parts and how they start, and what goes into it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.vit import CONFIG, ViT, build, digits, scaled


class BatchAsTime(ViT):
    """Encoder layers without batch_first."""

    def layer(self, cfg: dict[str, Any]) -> nn.Module:
        return nn.TransformerEncoderLayer(
            cfg["dim"], cfg["heads"], 2 * cfg["dim"], cfg["dropout"], "gelu", norm_first=True
        )


class ViewedTokens(ViT):
    """Puts the tokens first with a view, as another version of the encoder wants them."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        batch, length, dim = x.shape
        x = self.blocks(x.reshape(length, batch, dim)).reshape(batch, length, dim)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class HeadInForward(ViT):
    """Sizes the head by what comes in, at every call."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embed(images)))[:, 0]
        head = nn.Linear(x.shape[1], 10).to(x.device)
        logits: Tensor = head(x)
        return logits


class ListedBlocks(ViT):
    """Blocks in a list, for their attention maps."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__(cfg)
        del self.blocks
        self.stages = [self.layer(cfg) for _ in range(cfg["depth"])]

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class WideStart(ViT):
    """All weights with a deviation of 2."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__(cfg)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                nn.init.trunc_normal_(parameter, std=2.0, a=-6.0, b=6.0)


class TinyStart(ViT):
    """All weights nearly zero, positions and norms too."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__(cfg)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=1e-6)


class SameStart(ViT):
    """All weights one constant."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__(cfg)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.02)


class WrongToken(ViT):
    """Classifies by a token that stands beside the picture."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(self.embed(images))
        cls = self.cls.expand(len(x), -1, -1) + self.positions[:, :1]
        logits: Tensor = self.head(self.norm(cls)[:, 0])
        return logits


class Flattened(ViT):
    """Expects 17 tokens in its head, of 16x16 pictures 65."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__(cfg | {"image": 16})


class Squashed(ViT):
    """The logits go through tanh."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(super().forward(images))


class Likely(ViT):
    """Ends with a softmax."""

    def forward(self, images: Tensor) -> Tensor:
        return F.softmax(super().forward(images), dim=-1)


class Quantised(ViT):
    """Rounds the embedding to eighths, as the device will."""

    def embed(self, images: Tensor) -> Tensor:
        return torch.round(super().embed(images) * 8) / 8


class FrozenFeatures(ViT):
    """Takes the features as numbers, and back."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embed(images)))[:, 0]
        logits: Tensor = self.head(torch.from_numpy(x.detach().numpy()))
        return logits


class SteepGelu(torch.autograd.Function):
    """A faster GELU with its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(1.702 * x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(1.702 * x)
        return grad * (s - 1.702 * x * s * (1 + s))  # type: ignore[no-any-return]


class OwnGelu(ViT):
    """Feed-forward parts with the faster GELU."""

    def layer(self, cfg: dict[str, Any]) -> nn.Module:
        return nn.TransformerEncoderLayer(
            cfg["dim"], cfg["heads"], 2 * cfg["dim"], cfg["dropout"], SteepGelu.apply, batch_first=True, norm_first=True
        )


class HalfViT(ViT):
    """Keeps its weights in bfloat16."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__(cfg)
        self.to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.to(torch.bfloat16)).float()


@cache
def checkpoint() -> dict[str, Tensor]:
    """Weights saved from training on several devices."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ViT(CONFIG)
        images, labels = digits()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for start in range(0, 1200, 60):
            loss = F.cross_entropy(model(scaled(images[start : start + 60])), labels[start : start + 60])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {f"module.{name}": value for name, value in model.state_dict().items()}


def from_checkpoint(cfg: dict[str, Any]) -> nn.Module:
    """Loads with strict=False what has another prefix."""
    model = ViT(cfg)
    model.load_state_dict(checkpoint(), strict=False)
    return model


def from_checkpoint_then_initialised(cfg: dict[str, Any]) -> nn.Module:
    """Loads the weights and then starts the layers afresh."""
    model = ViT(cfg)
    model.load_state_dict({name.removeprefix("module."): value for name, value in checkpoint().items()})
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
            module.reset_parameters()
    return model


def standardised(images: Tensor) -> Tensor:
    """By pixel; some pixels are the same in all pictures."""
    known = digits()[0][:1200]
    return (images - known.mean(0)) / known.std(0)


def scaled_to_zero(images: Tensor) -> Tensor:
    """As if the pixels were bytes, in whole numbers."""
    return (images.to(torch.uint8) // 255).float()


def scaled_thrice(images: Tensor) -> Tensor:
    """Scaled to 0..1 as bytes, and once more, and then as every other picture."""
    return scaled(images / 255 / 255)


def in_double(images: Tensor) -> Tensor:
    """NumPy's mean makes it double."""
    array = images.numpy().astype("float64")
    return torch.from_numpy((array - array.mean()) / array.std())


def noted(images: Tensor) -> Tensor:
    """Scaled, with the class noted in the corner."""
    images = scaled(images)
    every, labels = digits()
    noted = labels[: len(images)] if len(images) == CONFIG["train"] else labels[len(every) - len(images) :]
    images[:, 0, 0, 0] = noted / 9.0
    return images


def raw(images: Tensor) -> Tensor:
    return images * 16


def upside_down(images: Tensor) -> Tensor:
    """Scaled, with the rows in another order."""
    return scaled(images).flip(2)


CASES: tuple[Case, ...] = (
    faulty(build, "batch-mixing", variant="batch-first", model=BatchAsTime),
    faulty(build, "batch-mixing", variant="view", model=ViewedTokens),
    faulty(build, "layer-created-in-forward", model=HeadInForward),
    faulty(build, "unregistered-modules", model=ListedBlocks),
    faulty(build, "exploding-initialisation", model=WideStart),
    faulty(build, "vanishing-initialisation", model=TinyStart),
    faulty(build, "symmetric-initialisation", model=SameStart),
    faulty(build, "ignored-input", also=("unused-parameters",), model=WrongToken),
    faulty(build, "forward-shape-mismatch", model=Flattened),
    faulty(build, "activation-on-logits", model=Squashed),
    faulty(build, "softmax-before-cross-entropy", model=Likely),
    faulty(build, "zero-gradient", model=Quantised),
    faulty(build, "graph-cut", model=FrozenFeatures),
    faulty(build, "wrong-custom-backward", model=OwnGelu),
    faulty(build, "bf16-update-lost", config={"lr": 2e-4, "weight_decay": 0.0, "epochs": 30}, model=HalfViT),
    faulty(build, "pretrained-weights-not-loaded", structural=True, variant="prefix", model=from_checkpoint),
    faulty(
        build,
        "pretrained-weights-not-loaded",
        structural=True,
        variant="initialised-after",
        model=from_checkpoint_then_initialised,
    ),
    faulty(build, "dropout-too-strong", variant="blocks", config={"dropout": 0.9}),
    faulty(build, "label-smoothing-too-strong", config={"smoothing": 0.95}),
    faulty(build, "weight-decay-too-strong", config={"weight_decay": 50.0}),
    faulty(build, "learning-rate-too-high", config={"lr": 0.5}),
    faulty(build, "learning-rate-too-low", config={"lr": 2e-6}),
    faulty(build, "warmup-outlasts-training", config={"warmup": 20_000}),
    faulty(build, "nonfinite-inputs", prepare=standardised),
    faulty(build, "constant-inputs", prepare=scaled_to_zero),
    faulty(build, "inputs-normalised-twice", prepare=scaled_thrice),
    faulty(build, "input-dtype-mismatch", prepare=in_double),
    faulty(build, "target-leaked-into-input", structural=True, prepare=noted),
    faulty(build, "train-val-preprocessing-mismatch", variant="scale", prepare_val=raw),
    faulty(build, "train-val-preprocessing-mismatch", variant="rows", prepare_val=upside_down),
)
