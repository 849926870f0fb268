"""The adversarial autoencoder: the aggregate posterior is made to match the prior by a critic."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_bvae.objectives.base import Objective, Weighed
from pyro_bvae.objectives.checks import check_critic, check_weight
from pyro_bvae.objectives.codes import codes_of
from pyro_bvae.objectives.ratio import log_ratio
from pyro_bvae.objectives.sites import Site


class AdversarialELBO(Objective):
    """loss = −E_q[log p(x|z)] + γ E ln(1 + e^{c(z)}), z ~ q(z), c a critic's log q(z)/p(z).

    The terms are "reconstruction" and "adversarial", −log of the critic's probability that a code
    is a draw of the prior: the adversarial game takes the place of the KL, and matches q(z) over
    all data to p(z), not each q(z|x). Any prior that can be drawn from will do, and any guide, a
    deterministic one, `Delta`, too: then the reported "kl" is −log p(z) and bounds nothing. A
    learned prior is not trained by it. In `measures`, "aggregate_kl" is the critic's mean output,
    its estimate of KL(q(z)‖p(z)).

    The critic is trained to tell codes from draws of the prior, by `fit` after each step, with an
    optimiser of its own; without `fit` take `training.CriticSVI` for `pyro.infer.SVI`. β
    multiplies γ; all other sites add "kl_SITE" as in `ELBO`.

    Args:
        critic: a module from codes `[n, latents]` to `[n]`, on the device of the pair, such as
            `networks.mlp_critic(latents)`.
        site: the latent site whose codes these are, in place of whose KL the game is; by default
            the only one in the plate of the data, or "z".
        gamma: γ ≥ 0. The reconstruction is a sum over pixels, so that images ask for 10 to 100.
        num_particles: draws from the guide per datum.

    Raises:
        TypeError: the critic is no module.
        ValueError: γ is negative or not finite; when run, as `TotalCorrelationELBO`, or the
            critic returns another shape.

    References:
        Makhzani, Shlens, Jaitly, Goodfellow, Frey (2015), Adversarial Autoencoders.

    >>> from pyro_bvae.networks import mlp_critic
    >>> AdversarialELBO(mlp_critic(2), gamma=10.0).gamma
    10.0
    """

    critic: nn.Module

    def __init__(
        self,
        critic: nn.Module,
        *,
        site: str | None = None,
        gamma: float = 1.0,
        num_particles: int = 1,
    ) -> None:
        super().__init__(num_particles=num_particles)
        self.site = site
        self.critic = check_critic(critic)
        self.gamma = check_weight(gamma, "gamma")

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the reconstruction, the encoder's part of the game, and the KL of other sites."""
        codes = codes_of(sites, self.site)
        weighed = Weighed(reconstruction)
        weighed.add_kl({name: site for name, site in sites.items() if name != codes.name})
        logits = log_ratio(self.critic, codes.value)
        adversarial = codes.data * codes.mean(softplus(logits))
        weighed.add("adversarial", adversarial, codes.beta * self.gamma)
        weighed.measures["aggregate_kl"] = codes.data * codes.mean(logits).detach()
        weighed.draws = codes.draws(), codes.prior_draws()
        return weighed
