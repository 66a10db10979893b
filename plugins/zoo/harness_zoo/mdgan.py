"""Mode regularised GAN: an encoder keeps the generator near every image (Che et al. 2017, arXiv 1612.02136)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import softplus

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network
from harness_gan.objectives import non_saturating
from harness_layers.checks import check_at_least
from harness_zoo.encoder import apply_aside, build_encoder


class MDGAN(Adversarial):
    r"""A generator G that, with an encoder E, also reconstructs the data, and is rewarded where that looks real.

    .. math:: \min_D E_{data}[-\log D(x)] + E_z[-\log(1 - D(G(z)))]
              \quad \min_{G, E} E_z[-\log D(G(z))] + E_{data}[\lambda_1 ||x - G(E(x))||^2 - \lambda_2 \log D(G(E(x)))]

    Every image is near some G(E(x)), so that the generator gets a gradient towards the rare ones as well. Reference:
    Che, Li, Jacob, Bengio & Li 2017, arXiv 1612.02136. This is the paper's regularised GAN; its manifold-diffusion
    training, with one discriminator for reconstructions and one for samples, is left out. In print, and in some public
    code, lambda_2 log D has the other sign in what is minimised: images would be rewarded for looking generated.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        reconstruction: lambda_1, for each unit of the sum over an image's entries in [-1, 1] of squared errors.
        realism: lambda_2. Both are 0.01 in github.com/wiseodd/generative-models, for pixels in [0, 1].
        network, latents, width, learning_rate, batch_size: see ``Adversarial``; the encoder is the discriminator's
            like, without batch norm.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, reconstruction: float = 0.02, realism: float = 0.1,
                 network: Network = "dcgan", latents: int = 64, width: int = 64, learning_rate: float = 1e-3,
                 batch_size: int = 64) -> None:  # fmt: skip
        check_at_least(0, reconstruction=reconstruction, realism=realism)
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, batch_size=batch_size
        )  # fmt: skip
        self.reconstruction, self.realism = reconstruction, realism
        self.encoder = build_encoder(network, spec, outputs=latents, width=width)

    def players(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Returns generator and encoder, which move together, and the discriminator."""
        return [self.generator, self.encoder], [self.discriminator]

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the first game's: reconstructions are not shown."""
        return non_saturating(self.judge(shown.real), self.judge(shown.fake))

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns generator's and encoder's loss, the regularisers included."""
        again = apply_aside(self.generator, self.encoder(shown.real))  # (N, C, H, W)
        errors = (shown.real - again).square().flatten(1).sum(1)  # (N,)
        unreal, unreal_again = softplus(-self.judge(shown.fake)), softplus(-self.judge(again))  # -log D, (N,)
        return (unreal + self.reconstruction * errors + self.realism * unreal_again).mean()
