import torch
from sinusoid import episode, model

from metaglot.learners.maml import MAML

torch.manual_seed(0)
learner = MAML(steps=3, rate=0.02, learn_rates="none")
meta = learner.init(model, torch.Generator())
optimizer = torch.optim.Adam([value.requires_grad_() for value in meta.values()], lr=0.002)
for _ in range(250):
    loss = learner.meta_loss(model, meta, [episode() for _ in range(16)])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
