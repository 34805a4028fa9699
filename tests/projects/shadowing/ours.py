"""A project with a module and a package that are named like two of the tool's."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import probes
import reports


class Data(Dataset):
    def __init__(self, offset):
        self.offset = offset

    def __len__(self):
        return 64

    def __getitem__(self, index):
        import probes  # in a spawned loader worker

        assert probes.VALUE == 11
        generator = torch.Generator().manual_seed(self.offset + index)
        return torch.randn(4, generator=generator) + 2 * (index % 2), index % 2


def get_model():
    assert probes.VALUE == 11
    assert reports.TABLE == 22
    return nn.Linear(4, 2)


def get_loaders(workers: int = 0):
    context = "spawn" if workers else None
    train = DataLoader(Data(0), 16, shuffle=True, num_workers=workers, multiprocessing_context=context)
    return train, DataLoader(Data(1000), 16), 2
