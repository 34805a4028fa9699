"""Models and data that end, cripple or block the process that runs them: ``--set kill=segfault``."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Lethal(nn.Module):
    def __init__(self, kill) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.kill = kill

    def forward(self, x):
        self.kill()
        return self.layer(x)


class Data(Dataset):
    def __init__(self, offset, kill=None):
        self.offset, self.kill = offset, kill

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if self.kill is not None:
            self.kill()
        generator = torch.Generator().manual_seed(self.offset + index)
        return torch.randn(4, generator=generator) + 2 * (index % 2), index % 2


def get_loaders(kill: str = "", workers: int = 0):
    train = Data(0, globals()[kill] if kill else None)
    return DataLoader(train, 8, shuffle=True, num_workers=workers), DataLoader(Data(1000), 8), 2


def get_model(kill: str = "nothing"):
    return Lethal(globals()[kill])


def nothing(): ...


def mistake():
    raise RuntimeError("my own mistake")


def segfault():
    ctypes.string_at(0)


def hard_exit():
    os._exit(3)


def soft_exit():
    sys.exit(4)


def sigkill():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(1000)


def close_descriptors():
    os.closerange(0, 50)


def chatter():
    print("x" * 200_000)


def grandchildren():
    if os.fork() == 0:
        time.sleep(1000)
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
