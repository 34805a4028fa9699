"""Q-learning on a small grid: a replay buffer, and a target network that is copied now and then."""

# ruff: noqa
# fmt: off
import os
import random
from collections import deque

import torch
from torch import nn

SIZE = 5
seed = int(os.environ.get("SEED", "0"))
random.seed(seed)
torch.manual_seed(seed)


def encode(state):
    vector = torch.zeros(2 * SIZE)
    vector[state[0]] = vector[SIZE + state[1]] = 1.0
    return vector


def move(state, action):
    dx, dy = ((0, 1), (0, -1), (1, 0), (-1, 0))[action]
    state = (min(max(state[0] + dx, 0), SIZE - 1), min(max(state[1] + dy, 0), SIZE - 1))
    done = state == (SIZE - 1, SIZE - 1)
    return state, 1.0 if done else -0.02, done


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * SIZE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.layers(x)


policy, target = QNet(), QNet()
target.load_state_dict(policy.state_dict())
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
memory = deque(maxlen=4000)
epsilon, updates, returns = 1.0, 0, []


def select(state):
    if random.random() < epsilon:
        return random.randrange(4)
    with torch.no_grad():
        return policy(encode(state)[None]).argmax(1).item()


def optimize():
    batch = random.sample(memory, 64)
    states = torch.stack([encode(s) for s, *_ in batch])
    actions = torch.tensor([a for _, a, *_ in batch])
    rewards = torch.tensor([r for _, _, r, *_ in batch])
    following = torch.stack([encode(n) for *_, n, _ in batch])
    dones = torch.tensor([float(d) for *_, d in batch])
    values = policy(states).gather(1, actions[:, None]).squeeze(1)
    with torch.no_grad():
        expected = rewards + 0.95 * (1 - dones) * target(following).max(1).values
    loss = nn.functional.smooth_l1_loss(values, expected)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy.parameters(), 100)
    optimizer.step()
    return loss.item()


for episode in range(50):
    state, total = (0, 0), 0.0
    for _ in range(40):
        action = select(state)
        following, reward, done = move(state, action)
        memory.append((state, action, reward, following, done))
        state, total = following, total + reward
        if len(memory) >= 200:
            optimize()
            updates += 1
            if updates % 50 == 0:
                target.load_state_dict(policy.state_dict())
        if done:
            break
    epsilon = max(0.05, epsilon * 0.93)
    returns.append(total)
print("return of the last ten episodes", sum(returns[-10:]) / 10, "updates", updates)
