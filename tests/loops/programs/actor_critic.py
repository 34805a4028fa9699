"""Policy and value with an optimizer each, on a walk that is simulated: no loader, no validation."""

import os

import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(int(os.environ.get("SEED", "0")))
actor = nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 2))
critic = nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 1))
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=3e-3)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
history = []
for episode in range(40):
    state = torch.randn(3)
    log_probs, values, rewards = [], [], []
    for _ in range(8):
        policy = Categorical(logits=actor(state))
        action = policy.sample()
        log_probs.append(policy.log_prob(action))
        values.append(critic(state).squeeze())
        rewards.append(float(state[0] > 0) if action else float(state[0] <= 0))
        with torch.no_grad():
            state = 0.5 * state + torch.randn(3)
    returns, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + 0.9 * total
        returns.insert(0, total)
    returns = torch.tensor(returns)
    values = torch.stack(values)
    advantage = returns - values.detach()
    actor_loss = -(torch.stack(log_probs) * advantage).sum()
    critic_loss = nn.functional.mse_loss(values, returns)
    actor_optimizer.zero_grad()
    actor_loss.backward()
    actor_optimizer.step()
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()
    history.append(critic_loss.item())
print(sum(history[-10:]) / 10)
