"""The codes of a batch, for objectives about the aggregate posterior q(z) = E_x q(z|x).

Of a pair with several latents they are the codes of one, and its q and p are what the pair states
at the draws of the others: of a hierarchy's lower latent z₁ the prior is p(z₁|z₂), averaged over
the guide's z₂, and of the upper one q(z) = E q(z₂|z₁). The parts of the KL sum to E log q/p of that
site whatever p is; they are I(z; x), total correlation and so on of q(z) as it is defined here.

Where a datum has a code for every class, weighted by q(y|x), q(z) = E_x Σ_y q(y|x) q(z|x,y), and
what takes the place of I(z; x) is I(z; x,y), as the KL of that site is E Σ_y q(y|x) KL(q(z|x,y)‖p).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro.distributions import Delta, Independent
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_bvae.beta import Beta
from pyro_bvae.models.partly_known import PartlyKnown
from pyro_bvae.objectives.sites import Site


class Codes(NamedTuple):
    """Draws z ~ q(z|x), one for each datum of a batch, or one for each class and datum.

    Attributes:
        name: of their site.
        value: `[codes, latents]`, where `codes` is `batch`, or `classes · batch` class by class.
        q: the guide's distribution, of batch shape `[batch]` or `[classes, batch]`.
        p: the prior.
        beta: what `tempered` noted on the site.
        data: N, the number of data that the batch stands for.
        shares: q(y|x) `[classes, batch]`, what each code weighs of its datum; None where a datum
            has one code.
    """

    name: str
    value: Tensor
    q: Any
    p: Any
    beta: Beta
    data: int
    shares: Tensor | None

    @property
    def batch(self) -> int:
        """The number of data in the batch."""
        return len(self.value) if self.shares is None else self.shares.shape[1]

    def mean(self, values: Tensor) -> Tensor:
        """Average over the data what there is of every code `[codes]`."""
        if self.shares is None:
            return values.mean()
        return (self.shares.reshape(-1) * values).sum() / self.batch

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
        """Return log q(z_ij | x_k) of latent j `[codes i, codes k, latent j]`.

        Raises: ValueError if the latents are not independent, or some are points.
        """
        q = self.per_latent()
        if isinstance(q, Delta | PartlyKnown):
            raise ValueError(
                f"guide: expected a density at site {self.name!r}, got {type(q).__name__}, which "
                "puts codes at points; FactorELBO and MMDELBO need draws alone"
            )
        codes, latents = self.value.shape
        ones = (1,) * len(self.q.batch_shape)
        value = self.value.reshape(codes, *ones, *self.q.event_shape)
        return q.log_prob(value).reshape(codes, codes, latents)

    def log_prior(self) -> Tensor:
        """Return log p(z) `[codes]`."""
        value = self.value if self.p.event_dim else self.value.squeeze(-1)
        if self.shares is not None:
            value = value.reshape(*self.shares.shape, *value.shape[1:])
        return self.p.log_prob(value).reshape(len(self.value))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the means and the variances of q(z|x) `[codes, latents]`."""
        q = self.per_latent()
        return q.mean.reshape(self.value.shape), q.variance.reshape(self.value.shape)

    def draws(self) -> Tensor:
        """Return a draw of q(z|x) for each datum, without gradients `[batch, latents]`."""
        return self._one_of_each(self.value.detach())

    def prior_draws(self) -> Tensor:
        """Return as many draws of the prior, without gradients `[batch, latents]`."""
        draws = self.p.sample()
        if draws.numel() != self.value.numel():
            draws = self.p.sample(torch.Size([len(self.value)]))
        return self._one_of_each(draws.reshape(self.value.shape))

    def _one_of_each(self, rows: Tensor) -> Tensor:
        """Draw a class for each datum by its shares, and return its row, of one for each code.

        Of exponential variables of rates q(y|x) the first to come is y with probability q(y|x).
        """
        if self.shares is None:
            return rows
        shares = self.shares.detach()
        uniform = torch.rand_like(shares).clamp(min=torch.finfo(shares.dtype).tiny)
        first = (-uniform.log() / shares).argmin(0)
        return rows.reshape(*shares.shape, -1)[first, torch.arange(self.batch, device=first.device)]


def codes_of(sites: Mapping[str, Site], site: str | None = None) -> Codes:
    """Return the codes of one latent site in the plate of the data.

    It is the one named `site`; else the only one there is, or of several the one named "z".

    Raises: ValueError if there is none, none of that name, or several of other names; or it is
        masked, weighted otherwise than by classes, of other shape than `[batch]`, `[batch,
        latents]` or these with weighted classes in front, or of fewer than two data.
    """
    name = _chosen(sites, site)
    chosen = sites[name]
    value, latent = chosen.value, chosen.q.event_dim == 0
    plates = value.dim() - chosen.q.event_dim
    in_classes = plates == 2 and chosen.dim == -1 and isinstance(chosen.scale, Tensor)
    if chosen.q.event_dim > 1 or not (plates == 1 or in_classes):
        raise ValueError(
            f"guide: expected site {name!r} to draw codes of shape [batch, latents] in one plate, "
            "or [classes, batch, latents] for classes that are weighted within each datum, got "
            f"{list(value.shape)}"
        )
    batch = value.shape[plates - 1]
    if batch < 2 and chosen.data > 1:
        raise ValueError(
            f"x: expected at least 2 data in a batch, got {batch}; this objective compares "
            "the codes of a batch with each other"
        )
    shares = _shares(name, chosen, value.shape[:2]) if in_classes else None
    if not in_classes:
        _check_equal_weights(name, chosen, batch)
    value = value.unsqueeze(-1) if latent else value
    value = value.reshape(-1, value.shape[-1]) if in_classes else value
    return Codes(name, value, chosen.q, chosen.p, chosen.beta, chosen.data, shares)


def _chosen(sites: Mapping[str, Site], name: str | None) -> str:
    local = sorted(known for known, site in sites.items() if site.data and site.p is not None)
    if name is not None and name not in local:
        raise ValueError(
            f"site: no latent site in the plate of the data is named {name!r}; there are {local}"
        )
    if not local:
        raise ValueError(
            f"guide: expected a latent site in the plate of the data, got {sorted(sites)}; this "
            "objective is about the distribution of codes over all data"
        )
    if name is None and len(local) > 1 and "z" not in local:
        raise ValueError(
            f"site: expected the name of one of the latent sites {local} in the plate of the data, "
            "as this objective is about the distribution of one code over all data; pass "
            f"site={local[0]!r}, say"
        )
    return name or (local[0] if len(local) == 1 else "z")


def _shares(name: str, site: Site, shape: torch.Size) -> Tensor:
    """Return what each class weighs of its datum; its sum is looked at while Pyro validates."""
    shares = site.scale.expand(shape) * (shape[1] / site.data)
    unequal = is_validation_enabled() and bool(((shares.sum(0) - 1).abs() > 1e-3).any())
    if unequal or not (site.mask is None or site.mask is True):
        raise _weighted(name)
    return shares


def _check_equal_weights(name: str, site: Site, batch: int) -> None:
    weighted = isinstance(site.scale, Tensor) or abs(site.scale * batch / site.data - 1) > 1e-6
    if weighted or not (site.mask is None or site.mask is True):
        raise _weighted(name)


def _weighted(name: str) -> ValueError:
    return ValueError(
        f"guide: expected data of equal weight at site {name!r}, got a mask or a scale of its "
        "own; use ELBO for weighted data, or drop what is masked from the batch"
    )
