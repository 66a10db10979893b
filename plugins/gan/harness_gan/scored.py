"""Games that are played on the discriminator's outputs alone."""

from __future__ import annotations

from torch import Tensor

from harness_gan.adversarial import Adversarial, Round
from harness_gan.objectives import Objective


class Scored(Adversarial):
    """Players that minimise an ``Objective``: an attribute of a class, or of an instance that chooses one.

    Its arguments are those of ``Adversarial``.
    """

    objective: Objective

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the objective of the outputs on real and on generated images."""
        return self.objective.discriminator(*self._outputs(shown))

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the generator's; real images are judged where it compares with them."""
        if self.objective.compares:
            return self.objective.generator(*self._outputs(shown))
        fake = self.judge(shown.fake, shown.labels)
        return self.objective.generator(fake[:0], fake)

    def _outputs(self, shown: Round) -> tuple[Tensor, Tensor]:
        return self.judge(shown.real, shown.labels), self.judge(shown.fake, shown.labels)
