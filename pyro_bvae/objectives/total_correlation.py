"""The β-TC-VAE: each part of the mean KL at a price of its own."""

from collections.abc import Mapping

from torch import Tensor

from pyro_bvae.objectives.base import Objective, Weighed
from pyro_bvae.objectives.checks import check_choice, check_weight
from pyro_bvae.objectives.codes import codes_of
from pyro_bvae.objectives.decomposition import (
    bracket,
    mixture_weights,
    parts_of,
    stratified_weights,
)
from pyro_bvae.objectives.sites import Site


class TotalCorrelationELBO(Objective):
    """loss = −E_q[log p(x|z)] + α MI(x; z) + β TC(z) + γ Σ_j KL(q(z_j)‖p(z_j)).

    The terms are "reconstruction", "mutual_information", "total_correlation" and
    "dimension_wise_kl", and "kl_SITE" of all sites but z, as in `ELBO`. The three sum to a
    one-draw estimate of KL(q(z|x)‖p(z)), so α = β = γ is the β-VAE up to that estimator. The prior
    need not have independent latents: the last part is then E log Π_j q(z_j) − log p(z). A β noted
    by `tempered`, or `fit(beta=...)`, multiplies all three parts: leave it at 1, or let a schedule
    of it warm them up. Where a datum has a code for every class, x stands for datum and class.

    q(z) is over all N data, the size of the plate of the data, and a batch must stand for it:
    "stratified" weighs the batch so that E q̂(z) = q(z) exactly; "weighted" is minibatch-weighted
    sampling, without the constant that puts its total correlation off by (latents − 1) ln N, which
    has no gradient. The logarithm still makes both depend on the batch's size. What is reported
    for reading is therefore a bracket, in `measures`: "mutual_information_low" and "_high",
    "total_correlation_low" and "_high", "dimension_wise_kl_low" and "_high" (see
    `decomposition.bracket`). Far more nats of mutual information than ln B cannot be measured on
    B data: the bracket is then wide.

    Args:
        alpha: α ≥ 0, the price of a nat of mutual information between datum and code.
        beta: β ≥ 0, of total correlation.
        gamma: γ ≥ 0, of the divergence of each latent's distribution over data from the prior.
        sampling: "stratified" or "weighted", for the gradient.
        site: the latent site z; by default the only one in the plate of the data, or "z" of
            several.
        num_particles: draws from the guide per datum.

    Raises:
        ValueError: a weight is negative or not finite, or another sampling; when run, a guide
            without independent latents, several latent sites of which none is "z" where `site`
            names none, or no such site, masked or weighted data, or a batch of one.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating Sources of Disentanglement in VAEs.

    >>> import torch, pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    ...         pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))
    >>> _ = torch.manual_seed(0)
    >>> objective = TotalCorrelationELBO(beta=6.0)
    >>> objective.estimate(model, guide, torch.randn(8, 2)).weights["total_correlation"]
    6.0
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float,
        gamma: float = 1.0,
        sampling: str = "stratified",
        site: str | None = None,
        num_particles: int = 1,
    ) -> None:
        super().__init__(num_particles=num_particles)
        self.site = site
        self.alpha = check_weight(alpha, "alpha")
        self.beta = check_weight(beta, "beta")
        self.gamma = check_weight(gamma, "gamma")
        self.sampling = check_choice(sampling, "sampling", ("stratified", "weighted"))

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the reconstruction, the three parts of the KL, and the KL of all other sites."""
        codes = codes_of(sites, self.site)
        weighed = Weighed(reconstruction)
        weighed.add_kl({name: site for name, site in sites.items() if name != codes.name})
        pairs, log_prior = codes.log_density_pairs(), codes.log_prior()
        batch = codes.batch
        if self.sampling == "stratified":
            log_weights = stratified_weights(batch, codes.data, like=pairs.detach())
        else:
            log_weights = mixture_weights(batch, like=pairs.detach())
        parts = parts_of(pairs, log_prior, log_weights, shares=codes.shares)
        for (name, part), weight in zip(
            parts._asdict().items(), (self.alpha, self.beta, self.gamma), strict=True
        ):
            weighed.add(name, codes.data * part, codes.beta * weight)
        for side, measured in bracket(pairs, log_prior, shares=codes.shares)._asdict().items():
            weighed.measures |= {
                f"{name}_{side}": codes.data * part for name, part in measured._asdict().items()
            }
        return weighed
