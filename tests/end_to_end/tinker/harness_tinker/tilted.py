"""A model that trains in a second, with all that a resumption brings back: momenta, noise, the best weights."""

from __future__ import annotations

import os
import time

import torch

from harness import ExactLikelihood, mean_over


class Tilted(ExactLikelihood):
    default_budget = "40 steps"

    def __init__(self, spec, *, learning_rate: float = 0.1):
        super().__init__(spec)
        self.learning_rate = learning_rate
        self.logits = torch.nn.Parameter(torch.zeros(spec.levels, *spec.shape))

    def fit(self, data, trainer):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        trainer.track(optimizer=optimizer)
        trainer.validate(lambda split: -mean_over(split, self.log_prob), every="10 steps")
        for batch in trainer.batches(data.train, batch_size=100):
            loss = -self.log_prob(batch.images).mean() * (0.5 + torch.rand(()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trainer.log(loss=loss)
            time.sleep(float(os.environ.get("TINKER_STEP_SECONDS", "0")))

    def log_prob(self, images):
        return self.logits.log_softmax(0).gather(0, images.long()).flatten(1).sum(1)

    def sample(self, num_samples):
        probabilities = self.logits.softmax(0).flatten(1).T  # (D, levels)
        values = torch.multinomial(probabilities, num_samples, replacement=True)  # (D, N)
        return values.T.to(torch.uint8).view(num_samples, *self.spec.shape)
