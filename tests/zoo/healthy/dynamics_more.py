"""Healthy: strong settings that do no harm, in the recommender and in the ResNet."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.programs import dynamics_recommender as recommender
from zoo.programs import dynamics_resnet as resnet

CASES: tuple[Case, ...] = (
    edited(recommender, "", ('"lr": 5e-3', '"lr": 2e-2'), variant="tables-fast"),
    edited(
        recommender, "", ("optim.Adam(", "optim.Adagrad("), ('"lr": 5e-3', '"lr": 0.1'), ('"lr": 1e-3', '"lr": 0.05'),
        variant="adagrad",
    ),
    edited(recommender, "", ('        task="regression"', '        clip_grad_norm=1e-3,\n        task="regression"'),
           variant="adam-clip"),
    edited(resnet, "", ("p=0.1", "p=0.6"), variant="dropout"),
    edited(resnet, "", ("label_smoothing=0.05", "label_smoothing=0.3"), variant="smoothing"),
    edited(resnet, "", ("MAX_LR = 8, 32, 0.2", "MAX_LR = 8, 32, 1.5"), variant="high-peak"),
)  # fmt: skip
