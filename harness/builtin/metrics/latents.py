"""How a model uses its latents: what they cost, what they keep of an image, and how far they are from their prior."""

import math

import torch
from torch import Tensor, nn

import harness
from harness.builtin.metrics.joint import draw_prior
from harness.builtin.metrics.likelihood import average, split_protocol

_HIDDEN, _EPOCHS, _BATCH = 128, 20, 128
_FEWEST = 40  # images


class KL(harness.Metric):
    """The mean over a split of the Kullback-Leibler divergence from the prior to the posterior, one draw an image.

    The details have each layer's part, layer 1 being the top, where the model has ``layer_divergences``; without, it is
    log q(z | x) - log p(z) of a draw of ``draw_posterior``.
    """

    name = "kl"
    board = "inference"
    header = "KL"
    unit = "nats"
    requires = harness.LatentVariable

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws the latents of the whole split."""
        model, found = evaluation.model, list[Tensor]()
        assert isinstance(model, harness.LatentVariable)

        def divergence(images: Tensor) -> Tensor:
            found.append(divergences(model, images))
            return found[-1].sum(1)

        values, layers = evaluation.per_image(divergence, purpose=self.name), torch.cat(found).mean(0).tolist()
        details = {f"layer_{layer}_nats": nats for layer, nats in enumerate(layers, start=1)}
        return _without_images(average(values, evaluation, "estimate", protocol={"samples": "1"}, details=details))


class ReconstructionNats(harness.Metric):
    """The mean over a split of -log p(x | z), z drawn from the posterior: what the negative ELBO has beside the KL.

    It is the difference of the two, -log w + log p(z) - log q(z | x), of draws that are independent of one another.
    """

    name = "reconstruction-nats"
    board = "inference"
    header = "Reconstruction"
    unit = "nats"
    requires = harness.LatentVariable

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws one weight and one divergence for each image of the split."""
        model = evaluation.model
        assert isinstance(model, harness.LatentVariable)

        def distortion(images: Tensor) -> Tensor:
            return -divergences(model, images).sum(1) - model.log_importance_weights(images, 1)[0]

        values = evaluation.per_image(distortion, purpose=self.name)
        return _without_images(average(values, evaluation, "estimate", protocol={"samples": "1"}))


class ReconstructionMSE(harness.Metric):
    """The mean over a split of the squared difference, in levels, of an image's entries and decode(encode(image))."""

    name = "reconstruction-mse"
    board = "inference"
    header = "Reconstruction, mean square"
    unit = "levels²"
    requires = harness.Inference

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Encodes and decodes the whole split."""
        model = evaluation.model
        assert isinstance(model, harness.Inference)

        def error(images: Tensor) -> Tensor:
            return (model.decode(model.encode(images)) - images).square().flatten(1).mean(1)

        values = evaluation.per_image(error, purpose=self.name)
        return _without_images(average(values, evaluation, "exact", protocol={"latents": "posterior means"}))


class MarginalKL(harness.Metric):
    """A lower estimate of KL(q(z) || p(z)), q(z) being the posterior of an image of the split, whichever it is.

    A classifier f learns to tell draws of q(z) from as many of the prior, on half of both. The other half gives

        KL(q || p) >= E_q[f(z)] - log E_p[exp f(z)]

    (Donsker & Varadhan 1975; Belghazi et al. 2018, arXiv 1801.04062). The detail ``accuracy`` is the share that f tells
    right of the other half: 0.5 where posterior and prior agree (Lopez-Paz & Oquab 2017, arXiv 1610.06545).
    """

    name = "marginal-kl"
    board = "inference"
    header = "Marginal KL"
    unit = "nats"
    requires = harness.LatentVariable

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws the latents of each image of the split once, and as many of the prior."""
        model, found = evaluation.model, list[Tensor]()
        assert isinstance(model, harness.LatentVariable)
        if len(evaluation.split) < _FEWEST:
            raise harness.Unsupported(f"{self.name}: {len(evaluation.split)} images, at least {_FEWEST} are needed")

        def draw(images: Tensor) -> Tensor:
            found.append(_draw_posterior(model, images)[0].detach().cpu().float())
            return found[-1].sum(1)

        evaluation.per_image(draw, purpose=self.name)
        posterior = torch.cat(found)[: len(evaluation.split)]  # of the first draw of the images
        random = harness.generator(evaluation.seed, self.name)
        posterior = posterior[torch.randperm(len(posterior), generator=random)]
        seed = harness.derive_seed(evaluation.seed, self.name, "prior")
        with torch.no_grad(), harness.isolated_rng(seed, evaluation.device):
            prior = draw_prior(model, len(posterior)).cpu().float()
        half = len(posterior) // 2
        with torch.inference_mode(False), torch.enable_grad():
            ratio = log_ratio(posterior[:half].clone(), prior[:half].clone(), seed)
        with torch.no_grad():
            of_posterior, of_prior = (ratio(part[half:]).squeeze(1).double() for part in (posterior, prior))
        rest = len(of_prior)
        value = (of_posterior.mean() - of_prior.logsumexp(0) + math.log(rest)).item()
        shares = of_prior.softmax(0) * rest
        error = math.sqrt((of_posterior.var() + shares.var()).item() / rest)
        accuracy = 0.5 * ((of_posterior > 0).double().mean() + (of_prior <= 0).double().mean()).item()
        recipe = f"{_HIDDEN} tanh units on z and z², {_EPOCHS} epochs on half"
        protocol = {**split_protocol(evaluation), "draws": "1", "classifier": recipe}
        return harness.Score(value, error, "estimate", None, protocol, {"accuracy": accuracy})


def log_ratio(posterior: Tensor, prior: Tensor, seed: int) -> nn.Module:
    """Returns a function of (N, D) latents, (N, 1): log q(z) / p(z), learned from (M, D) draws of both, float32."""
    labels = torch.cat([torch.ones(len(posterior)), torch.zeros(len(prior))]).unsqueeze(1)
    latents, cpu = torch.cat([posterior, prior]), torch.device("cpu")
    with harness.isolated_rng(seed, cpu):
        ratio = _Ratio(latents)
        optimizer = torch.optim.AdamW(ratio.parameters(), lr=3e-3, weight_decay=1e-2)
        batches = max(1, len(latents) // _BATCH)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, _EPOCHS * batches)
        for _ in range(_EPOCHS):
            for chosen in torch.randperm(len(latents)).chunk(batches):
                loss = nn.functional.binary_cross_entropy_with_logits(ratio(latents[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return ratio


class _Ratio(nn.Module):
    """A linear function of z and z², in which Gaussians differ, and a tanh layer for the rest; inputs are scaled."""

    def __init__(self, latents: Tensor) -> None:
        super().__init__()
        self.centre, self.scale = latents.mean(0), latents.std(0).clamp_min(1e-6)
        width = 2 * latents.shape[1]
        self.linear = nn.Linear(width, 1)
        self.bent = nn.Sequential(nn.Linear(width, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1))

    def forward(self, latents: Tensor) -> Tensor:
        scaled = (latents - self.centre) / self.scale
        both = torch.cat([scaled, scaled.square() - 1], dim=1)
        found: Tensor = self.linear(both) + self.bent(both)
        return found


def divergences(model: harness.LatentVariable, images: Tensor) -> Tensor:
    """Maps (N, C, H, W) uint8 to (N, L) nats: one draw of what each layer costs, the top first, or of all as one."""
    try:
        found = model.layer_divergences(images)
    except NotImplementedError:
        latents, log_posterior = _draw_posterior(model, images)
        found = (log_posterior - model.log_prior(latents)).unsqueeze(1)
    width = found.shape[1] if isinstance(found, Tensor) and found.dim() == 2 else -1
    return harness.Evaluation.checked(found, (len(images), width), "layer_divergences").to(images.device)


def _draw_posterior(model: harness.LatentVariable, images: Tensor) -> tuple[Tensor, Tensor]:
    try:
        return model.draw_posterior(images)
    except NotImplementedError as error:
        raise harness.Unsupported(str(error)) from error


def _without_images(score: harness.Score) -> harness.Score:
    """Nothing is tested by these, so that their scores of single images are not kept."""
    return harness.Score(score.value, score.standard_error, score.kind, None, score.protocol, score.details)
