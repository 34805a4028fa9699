"""Faults of dynamics in a recommender with two groups of parameters, and in a ResNet under one-cycle."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.programs import dynamics_recommender as recommender
from zoo.programs import dynamics_resnet as resnet

CASES: tuple[Case, ...] = (
    edited(recommender, "learning-rate-too-high", ('"lr": 5e-3', '"lr": 5.0'), variant="tables-high"),
    edited(recommender, "learning-rate-too-low", ('"lr": 5e-3', '"lr": 5e-9'), variant="tables-low"),
    edited(
        recommender, "weight-decay-too-strong", ('"lr": 5e-3, "weight_decay": 0.0', '"lr": 5e-3, "weight_decay": 1.0'),
        variant="tables-decay",
    ),
    edited(recommender, "dropout-too-strong", ("nn.Dropout(0.05)", "nn.Dropout(0.95)"), variant="embeddings"),
    edited(recommender, "batch-size-extreme", ("batch_size=100", "batch_size=12_000"), variant="full"),
    edited(resnet, "learning-rate-too-high", ("MAX_LR = 8, 32, 0.2", "MAX_LR = 8, 32, 300.0"), variant="one-cycle"),
    edited(resnet, "weight-decay-too-strong", ('"weight_decay": 5e-4', '"weight_decay": 0.5'), variant="matrices"),
    edited(resnet, "dropout-too-strong", ("p=0.1", "p=0.97"), variant="head"),
    edited(
        resnet, "augmentation-too-strong", ("DigitsSet(\"train\", Jitter())", "DigitsSet(\"train\", Jitter(8.0))"),
        variant="jitter", also=("label-destroying-augmentation",),
    ),
    edited(
        resnet, "learning-rate-too-low", ("MAX_LR = 8, 32, 0.2", "MAX_LR = 8, 32, 2e-6"), ("p=0.1", "p=0.97"),
        variant="rate-and-dropout", also=("dropout-too-strong",),
    ),
)  # fmt: skip
