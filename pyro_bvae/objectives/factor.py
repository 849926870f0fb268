"""The FactorVAE: a price on total correlation, which a critic measures."""

from collections.abc import Mapping

from torch import Tensor, nn

from pyro_bvae.objectives.base import Objective, Weighed
from pyro_bvae.objectives.checks import check_critic, check_weight
from pyro_bvae.objectives.codes import codes_of
from pyro_bvae.objectives.ratio import log_ratio, permuted
from pyro_bvae.objectives.sites import Site


class FactorELBO(Objective):
    """loss = −E_q[log p(x|z)] + Σ_sites β KL(q‖p) + γ TC(z), TC ≈ E log q(z)/Π_j q(z_j).

    The terms are those of `ELBO` and "total_correlation", the critic's mean output on the codes:
    right as far as the critic is. It is trained to tell codes from codes whose latents have been
    permuted over the batch, by `fit` after each step, with an optimiser of its own;
    without `fit` take `training.CriticSVI` for `pyro.infer.SVI`. Any guide will do.

    Args:
        critic: a module from codes `[n, latents]` to `[n]`, on the device of the pair, such as
            `networks.mlp_critic(latents)`.
        site: the latent site z; by default the only one in the plate of the data, or "z".
        gamma: γ ≥ 0.
        num_particles: draws from the guide per datum.

    Raises:
        TypeError: the critic is no module.
        ValueError: γ is negative or not finite; when run, as `TotalCorrelationELBO`, or the
            critic returns another shape.

    References:
        Kim, Mnih (2018), Disentangling by Factorising.

    >>> from pyro_bvae.networks import mlp_critic
    >>> FactorELBO(mlp_critic(10), gamma=10.0).critic.latents
    10
    """

    critic: nn.Module

    def __init__(
        self, critic: nn.Module, *, site: str | None = None, gamma: float, num_particles: int = 1
    ) -> None:
        super().__init__(num_particles=num_particles)
        self.site = site
        self.critic = check_critic(critic)
        self.gamma = check_weight(gamma, "gamma")

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the terms of the ELBO and the total correlation."""
        codes = codes_of(sites, self.site)
        weighed = Weighed(reconstruction)
        weighed.add_kl(sites)
        total_correlation = codes.data * codes.mean(log_ratio(self.critic, codes.value))
        weighed.add("total_correlation", total_correlation, self.gamma)
        z = codes.draws()
        weighed.draws = z, permuted(z)
        return weighed
