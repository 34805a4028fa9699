"""A first CNN as in a video: hyperparameters and loop at module level, a check_accuracy at the end of each epoch."""

# Imports
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

torch.manual_seed(int(os.environ.get("SEED", 0)))

# Hyperparameters
in_channels = 1
num_classes = 10
learning_rate = 2e-3
batch_size = 64
num_epochs = 5

# Set device
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class DigitsDataset(Dataset):
    def __init__(self, train=True, transform=None):
        digits = load_digits()
        split = 1400
        self.images = digits.images[:split] if train else digits.images[split:]
        self.targets = digits.target[:split] if train else digits.target[split:]
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.tensor(self.images[index], dtype=torch.float32).unsqueeze(0) / 16.0
        y_label = torch.tensor(int(self.targets[index]))
        if self.transform:
            image = self.transform(image)
        return image, y_label


class CNN(nn.Module):
    def __init__(self, in_channels=1, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 2 * 2, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.pool(x)
        x = F.relu(self.conv2(x))
        x = self.pool(x)
        x = x.reshape(x.shape[0], -1)
        x = self.dropout(x)
        x = self.fc1(x)
        return x


# Load data
train_dataset = DigitsDataset(train=True)
test_dataset = DigitsDataset(train=False)
train_loader = DataLoader(dataset=train_dataset, batch_size=batch_size, shuffle=True)
test_loader = DataLoader(dataset=test_dataset, batch_size=batch_size, shuffle=False)

# Initialize network
model = CNN(in_channels=in_channels, num_classes=num_classes).to(device)

# Loss and optimizer
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=learning_rate)


# Check accuracy on training & test to see how good our model is
def check_accuracy(loader, model):
    num_correct = 0
    num_samples = 0
    model.eval()

    with torch.no_grad():
        for x, y in loader:
            x = x.to(device=device)
            y = y.to(device=device)

            scores = model(x)
            _, predictions = scores.max(1)
            num_correct += (predictions == y).sum()
            num_samples += predictions.size(0)

    model.train()
    return num_correct / num_samples


# Train Network
for epoch in range(num_epochs):
    losses = []
    loop = tqdm(train_loader, leave=False)
    for data, targets in loop:
        data = data.to(device=device)
        targets = targets.to(device=device)

        # forward
        scores = model(data)
        loss = criterion(scores, targets)
        losses.append(loss.item())

        # backward
        optimizer.zero_grad()
        loss.backward()

        # gradient descent or adam step
        optimizer.step()

        loop.set_description(f"Epoch [{epoch + 1}/{num_epochs}]")
        loop.set_postfix(loss=loss.item())

    print(f"Cost at epoch {epoch} is {sum(losses) / len(losses):.4f}")
    print(f"Accuracy on test set: {check_accuracy(test_loader, model) * 100:.2f}")

print(f"Accuracy on training set: {check_accuracy(train_loader, model) * 100:.2f}")
