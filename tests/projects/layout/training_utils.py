import torch


def get_optimizer(model, name, **config):
    return getattr(torch.optim, name)(model.parameters(), **config)
