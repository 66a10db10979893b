"""Scoring and training of Gated PixelCNN against the plain formulation, with the same weights."""

from __future__ import annotations

import time

import torch
from plain.gated import corresponding, part_of, plain_of
from side_by_side import Ratio, side_by_side
from subjects import MNIST, agree, gated

from harness import Dataset, Split, Trainer
from harness.interface.spec import Budget

ROUNDS = 5


def some_images(count):
    torch.manual_seed(1)
    return (torch.rand(count, *MNIST.shape) < 0.3).to(torch.uint8)


def test_likelihood_of_100_images(benchmark, say):
    model, images = gated(), some_images(100)
    plain, values = plain_of(model), {}

    @torch.inference_mode()
    def ours():
        values["ours"] = model.log_prob(images)

    @torch.inference_mode()
    def theirs():
        values["plain"] = plain.log_prob(images)

    ratio = side_by_side(benchmark, ours, theirs, rounds=ROUNDS)
    torch.testing.assert_close(values["ours"], values["plain"], rtol=1e-6, atol=1e-4)
    say(f"Gated PixelCNN, 64 channels x 8 layers: scoring 100 images, {ratio}, plain over ours")


class Alternating(Trainer):
    """Trains without validation, and calls something else before every step; both are timed."""

    def __init__(self, *arguments, other, **options):
        super().__init__(*arguments, **options, should_stop=self.turn)
        self.other, self.own_seconds, self.other_seconds = other, [], []
        self.resumed = None

    def validate(self, score, *, every="1 epoch"):
        """Leaves validation out: it is no part of a step."""

    def turn(self):
        now = time.perf_counter()
        if self.resumed is not None:
            self.own_seconds.append(now - self.resumed)
        self.other()
        self.resumed = time.perf_counter()
        self.other_seconds.append(self.resumed - now)
        return False


def test_training_step(benchmark, say):
    model = gated()
    plain, images = plain_of(model), some_images(model.descent.batch_size)
    agree(model, plain)
    (-model.log_prob(images).mean()).backward()
    (-plain.log_prob(images).mean()).backward()
    for ours, theirs in corresponding(model, plain):
        scale = ours.grad.abs().max().item()
        torch.testing.assert_close(part_of(theirs.grad, ours), ours.grad, rtol=1e-3, atol=1e-4 * scale)
    model.zero_grad()

    optimizer = torch.optim.Adam(plain.train().parameters(), lr=model.descent.learning_rate, betas=(0.9, 0.99))

    def plain_step():
        optimizer.zero_grad()
        loss = -plain.log_prob(images).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), model.descent.max_gradient_norm)
        optimizer.step()

    data = Dataset("synthetic", MNIST, Split(images), Split(images), Split(images))
    trainer = Alternating(model, data, budget=Budget(ROUNDS + 2, "steps"), other=plain_step)
    benchmark.pedantic(model.fit, (data, trainer), rounds=1)
    # the first step of each warms up
    ratio = Ratio.of(trainer.other_seconds[1 : ROUNDS + 1], trainer.own_seconds[1 : ROUNDS + 1])
    benchmark.extra_info["ratio"] = ratio.median
    say(f"Gated PixelCNN, 64 channels x 8 layers: a training step of {len(images)} images, {ratio}, plain over ours")
