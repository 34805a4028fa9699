"""A competition notebook saved as a script: a CFG class, folds, out-of-fold predictions, best weights of each fold."""

import copy
import os
import random
import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")


class CFG:
    seed = int(os.environ.get("SEED", 0))
    n_fold = 3
    epochs = 8
    lr = 1e-2
    weight_decay = 1e-5
    train_bs = 64
    valid_bs = 256
    hidden = 64
    dropout = 0.2
    target_col = "target"


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# ====================================================
# Data
# ====================================================
features, target = make_classification(
    n_samples=1500, n_features=20, n_informative=10, n_redundant=4, class_sep=1.2, random_state=7
)
train = pd.DataFrame(features * np.linspace(0.5, 4, 20) + 1.5, columns=[f"f_{i}" for i in range(20)])
train[CFG.target_col] = target
feature_cols = [c for c in train.columns if c.startswith("f_")]

skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=42)
train["fold"] = -1
for n, (_, val_index) in enumerate(skf.split(train, train[CFG.target_col])):
    train.loc[val_index, "fold"] = n


class TrainDataset(Dataset):
    def __init__(self, X, y):
        self.X = X
        self.y = y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        return {
            "x": torch.tensor(self.X[idx, :], dtype=torch.float),
            "y": torch.tensor(self.y[idx], dtype=torch.float),
        }


# ====================================================
# Model
# ====================================================
class Model(nn.Module):
    def __init__(self, num_features, hidden_size):
        super().__init__()
        self.batch_norm1 = nn.BatchNorm1d(num_features)
        self.dense1 = nn.Linear(num_features, hidden_size)
        self.batch_norm2 = nn.BatchNorm1d(hidden_size)
        self.dropout2 = nn.Dropout(CFG.dropout)
        self.dense2 = nn.Linear(hidden_size, hidden_size)
        self.dropout3 = nn.Dropout(CFG.dropout)
        self.dense3 = nn.Linear(hidden_size, 1)

    def forward(self, x):
        x = self.batch_norm1(x)
        x = nn.functional.leaky_relu(self.dense1(x))
        x = self.dropout2(self.batch_norm2(x))
        x = nn.functional.leaky_relu(self.dense2(x))
        x = self.dropout3(x)
        return self.dense3(x)


def train_fn(model, optimizer, scheduler, loss_fn, dataloader):
    model.train()
    final_loss = 0
    for data in dataloader:
        optimizer.zero_grad()
        inputs, targets = data["x"], data["y"]
        outputs = model(inputs).squeeze(1)
        loss = loss_fn(outputs, targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        final_loss += loss.item()
    final_loss /= len(dataloader)
    return final_loss


def valid_fn(model, loss_fn, dataloader):
    model.eval()
    final_loss = 0
    valid_preds = []
    for data in dataloader:
        inputs, targets = data["x"], data["y"]
        with torch.no_grad():
            outputs = model(inputs).squeeze(1)
            loss = loss_fn(outputs, targets)
        final_loss += loss.item()
        valid_preds.append(outputs.sigmoid().cpu().numpy())
    return final_loss / len(dataloader), np.concatenate(valid_preds)


# ====================================================
# Folds
# ====================================================
def run_training(fold):
    train_df = train[train["fold"] != fold].reset_index(drop=True)
    valid_df = train[train["fold"] == fold].reset_index(drop=True)
    scaler = StandardScaler().fit(train_df[feature_cols])
    x_train, y_train = scaler.transform(train_df[feature_cols]), train_df[CFG.target_col].values
    x_valid, y_valid = scaler.transform(valid_df[feature_cols]), valid_df[CFG.target_col].values

    trainloader = DataLoader(TrainDataset(x_train, y_train), batch_size=CFG.train_bs, shuffle=True, drop_last=True)
    validloader = DataLoader(TrainDataset(x_valid, y_valid), batch_size=CFG.valid_bs, shuffle=False)

    model = Model(num_features=len(feature_cols), hidden_size=CFG.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(trainloader)
    )
    loss_fn = nn.BCEWithLogitsLoss()

    best_loss = np.inf
    best_state = None
    for epoch in range(CFG.epochs):
        train_loss = train_fn(model, optimizer, scheduler, loss_fn, trainloader)
        valid_loss, valid_preds = valid_fn(model, loss_fn, validloader)
        auc = roc_auc_score(y_valid, valid_preds)
        print(f"FOLD: {fold}, EPOCH: {epoch}, train: {train_loss:.4f}, valid: {valid_loss:.4f}, auc: {auc:.4f}")
        if valid_loss < best_loss:
            best_loss = valid_loss
            best_state = copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    _, best_preds = valid_fn(model, loss_fn, validloader)
    return valid_df.index, best_preds


oof = np.zeros(len(train))
for fold in range(CFG.n_fold):
    index, preds = run_training(fold)
    oof[train["fold"] == fold] = preds
print(f"CV AUC: {roc_auc_score(train[CFG.target_col], oof):.5f}")
