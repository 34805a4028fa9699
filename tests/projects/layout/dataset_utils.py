import torch
from torch.utils.data import DataLoader, TensorDataset


def get_dataset_loaders(name, batch_size, num_workers, augmentation_type="none"):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 10
    images = torch.randn(10, 3, 16, 16, generator=generator)[labels]
    images = images + 0.5 * torch.randn(400, 3, 16, 16, generator=generator)
    order = torch.randperm(400, generator=generator)
    images, labels = images[order], labels[order]
    train, val = TensorDataset(images[:300], labels[:300]), TensorDataset(images[300:], labels[300:])
    return (
        DataLoader(train, batch_size, shuffle=True, num_workers=num_workers),
        DataLoader(val, batch_size, num_workers=num_workers),
        10,
    )
