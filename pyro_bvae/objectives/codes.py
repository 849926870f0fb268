"""The codes of a batch, for objectives about the aggregate posterior q(z) = E_x q(z|x)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro.distributions import Independent
from torch import Tensor

from pyro_bvae.beta import Beta
from pyro_bvae.objectives.sites import Site


class Codes(NamedTuple):
    """Draws z ~ q(z|x), one for each datum of a batch.

    Attributes:
        name: of their site.
        value: `[batch, latents]`.
        q: the guide's distribution, of batch shape `[batch]`.
        p: the prior.
        beta: what `tempered` noted on the site.
        data: N, the number of data that the batch stands for.
    """

    name: str
    value: Tensor
    q: Any
    p: Any
    beta: Beta
    data: int

    def per_latent(self) -> Any:
        """Return q as independent latents: a distribution whose log-densities split into them.

        Raises: ValueError if it does not.
        """
        q = self.q
        if q.event_dim == 1 and isinstance(q, Independent) and not q.base_dist.event_dim:
            return q.base_dist
        if q.event_dim == 0:
            return q
        raise ValueError(
            f"guide: expected independent latents at site {self.name!r}, such as those of "
            f"MeanFieldPosterior, got {q}; FactorELBO and MMDELBO need draws alone"
        )

    def log_density_pairs(self) -> Tensor:
        """Return log q(z_ij | x_k) of latent j `[batch i, batch k, latent j]`."""
        q = self.per_latent()
        if q is self.q:
            return q.log_prob(self.value).unsqueeze(-1)
        return q.log_prob(self.value.unsqueeze(1))

    def log_prior(self) -> Tensor:
        """Return log p(z) `[batch]`."""
        value = self.value if self.p.event_dim else self.value.squeeze(-1)
        return self.p.log_prob(value).reshape(len(self.value))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the means and the variances of q(z|x) `[batch, latents]`."""
        q = self.per_latent()
        return q.mean.reshape(self.value.shape), q.variance.reshape(self.value.shape)

    def prior_draws(self) -> Tensor:
        """Return as many draws of the prior, without gradients `[batch, latents]`."""
        draws = self.p.sample()
        if draws.numel() != self.value.numel():
            draws = self.p.sample(torch.Size([len(self.value)]))
        return draws.reshape(self.value.shape)


def codes_of(sites: Mapping[str, Site]) -> Codes:
    """Return the codes of the only latent site in the plate of the data.

    Raises: ValueError if there is none or several, or it is masked, weighted, of other shape than
        `[batch]` or `[batch, latents]`, or of fewer than two data.
    """
    local = {name: site for name, site in sites.items() if site.data}
    if len(local) != 1:
        raise ValueError(
            f"guide: expected one latent site in the plate of the data, got {sorted(local)}; this "
            "objective is about the distribution of one code over all data"
        )
    ((name, site),) = local.items()
    value = site.value.unsqueeze(-1) if site.q.event_dim == 0 else site.value
    if value.dim() != 2 or site.q.event_dim > 1:
        raise ValueError(
            f"guide: expected site {name!r} to draw codes of shape [batch, latents] in one plate, "
            f"got {list(site.value.shape)}"
        )
    if len(value) < 2 and site.data > 1:
        raise ValueError(
            f"x: expected at least 2 data in a batch, got {len(value)}; this objective compares "
            "the codes of a batch with each other"
        )
    weighted = isinstance(site.scale, Tensor) or abs(site.scale * len(value) / site.data - 1) > 1e-6
    if weighted or not (site.mask is None or site.mask is True):
        raise ValueError(
            f"guide: expected data of equal weight at site {name!r}, got a mask or a scale of its "
            "own; use ELBO for weighted data, or drop what is masked from the batch"
        )
    return Codes(name, value, site.q, site.p, site.beta, site.data)
