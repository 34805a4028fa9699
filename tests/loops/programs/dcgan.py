"""A generator against a discriminator, two optimizers, two backward calls for each step of the discriminator."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
pictures = torch.rand(320, 1, 8, 8) * torch.linspace(0.2, 1, 8).view(1, 1, 8, 1) * 2 - 1
dataloader = DataLoader(TensorDataset(pictures, torch.zeros(320)), batch_size=32, shuffle=True)
netG = nn.Sequential(
    nn.ConvTranspose2d(16, 16, 4), nn.BatchNorm2d(16), nn.ReLU(True), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Tanh()
)
netD = nn.Sequential(
    nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
    nn.Flatten(), nn.Linear(256, 1), nn.Sigmoid(),
)  # fmt: skip
criterion = nn.BCELoss()
fixed_noise = torch.randn(16, 16, 1, 1)
optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
G_losses, D_losses, samples = [], [], []
for epoch in range(3):
    for i, (real, _) in enumerate(dataloader):
        netD.zero_grad()
        output = netD(real).view(-1)
        errD_real = criterion(output, torch.ones(len(real)))
        errD_real.backward()
        noise = torch.randn(len(real), 16, 1, 1)
        fake = netG(noise)
        output = netD(fake.detach()).view(-1)
        errD_fake = criterion(output, torch.zeros(len(real)))
        errD_fake.backward()
        optimizerD.step()

        netG.zero_grad()
        output = netD(fake).view(-1)
        errG = criterion(output, torch.ones(len(real)))
        errG.backward()
        optimizerG.step()
        G_losses.append(errG.item())
        D_losses.append((errD_real + errD_fake).item())
        if i == 0:
            with torch.no_grad():
                samples.append(netG(fixed_noise))
    print(epoch, G_losses[-1], D_losses[-1])
