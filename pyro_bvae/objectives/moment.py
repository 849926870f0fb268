"""The DIP-VAE: the covariance of the codes over the data is held to the prior's."""

from collections.abc import Mapping

import torch
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_bvae.objectives.base import Objective, Weighed
from pyro_bvae.objectives.checks import check_choice, check_weight
from pyro_bvae.objectives.codes import Codes, codes_of
from pyro_bvae.objectives.sites import Site


class MomentELBO(Objective):
    """loss = −E_q[log p(x|z)] + Σ_sites β KL(q‖p) + λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − σ_i²)².

    The terms are those of `ELBO`, "off_diagonal" and "diagonal" (no nats). C is estimated from the
    batch: of "means" it is Cov_x E[z|x], which is DIP-VAE-I; of "codes" the covariance of the
    aggregate posterior, Cov_x E[z|x] + E_x Var[z|x], which is DIP-VAE-II. σ_i² is the prior's
    variance, 1 in the paper; that of E_x p(z|x) where the prior depends on the data. Where a datum
    has a code for every class, x stands for datum and class.

    Args:
        off_diagonal: λ_od ≥ 0.
        diagonal: λ_d ≥ 0.
        covariance: "means" or "codes".
        site: the latent site z; by default the only one in the plate of the data, or "z".
        num_particles: draws from the guide per datum.

    Raises:
        ValueError: a weight is negative or not finite, or another covariance; when run, as
            `TotalCorrelationELBO`, or a prior without variances.

    References:
        Kumar, Sattigeri, Balakrishnan (2018), Variational Inference of Disentangled Latent
        Concepts from Unlabeled Observations.

    >>> MomentELBO(off_diagonal=10.0, diagonal=5.0, covariance="codes").covariance
    'codes'
    """

    def __init__(
        self,
        *,
        off_diagonal: float,
        diagonal: float,
        covariance: str = "codes",
        site: str | None = None,
        num_particles: int = 1,
    ) -> None:
        super().__init__(num_particles=num_particles)
        self.site = site
        self.off_diagonal = check_weight(off_diagonal, "off_diagonal")
        self.diagonal = check_weight(diagonal, "diagonal")
        self.covariance = check_choice(covariance, "covariance", ("means", "codes"))

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the terms of the ELBO and the two distances of the covariance."""
        codes = codes_of(sites, self.site)
        weighed = Weighed(reconstruction)
        weighed.add_kl(sites)
        means, variances = codes.moments()
        within = variances if self.covariance == "codes" else None
        covariance = covariance_of(means, within, shares=codes.shares)
        diagonal = covariance.diagonal()
        rest = covariance.square().sum() - diagonal.square().sum()
        distance = (diagonal - _prior_variance(codes)).square().sum()
        weighed.add("off_diagonal", codes.data * rest, self.off_diagonal)
        weighed.add("diagonal", codes.data * distance, self.diagonal)
        return weighed


def covariance_of(
    means: Tensor, variances: Tensor | None = None, *, shares: Tensor | None = None
) -> Tensor:
    """Return the covariance of the means, plus the mean of the variances, `[latents, latents]`.

    Without bias in both cases: with `shares` it is the covariance over data of their mean over
    classes, over batch − 1, and the mean over data of the covariance over classes.

    Args:
        means: `[batch, latents]`; their covariance is the unbiased one, over batch − 1.
        variances: `[batch, latents]` of each datum around its mean.
        shares: what each class weighs of its datum `[classes, batch]`, where the means and the
            variances are `[classes · batch, latents]`, class by class.

    >>> means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> covariance_of(means, torch.full((2, 2), 0.5))
    tensor([[2.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    if shares is not None:
        return _covariance_of_classes(means, variances, shares)
    centred = means - means.mean(0)
    covariance = centred.mT @ centred / max(len(means) - 1, 1)
    return covariance if variances is None else covariance + torch.diag(variances.mean(0))


def _covariance_of_classes(means: Tensor, variances: Tensor | None, shares: Tensor) -> Tensor:
    batch, weights = shares.shape[1], shares.reshape(-1, 1)
    over_classes = (weights * means).reshape(*shares.shape, -1).sum(0)
    centred = means - over_classes.repeat(len(shares), 1)
    covariance = covariance_of(over_classes) + (weights * centred).mT @ centred / batch
    if variances is None:
        return covariance
    return covariance + torch.diag((weights * variances).sum(0) / batch)


def _prior_variance(codes: Codes) -> Tensor:
    try:
        moments = codes.p.mean, codes.p.variance
    except NotImplementedError as error:
        raise ValueError(
            f"model: expected a prior with known variances at site {codes.name!r}, got {codes.p}; "
            "MMDELBO and AdversarialELBO need its draws alone"
        ) from error
    if is_validation_enabled() and not all(torch.isfinite(m).all() for m in moments):
        raise ValueError(
            f"model: expected a prior of finite variances at site {codes.name!r}, got {codes.p}, "
            "whose tails are too heavy; MMDELBO and AdversarialELBO need its draws alone"
        )
    shape = codes.value.shape
    mean, variance = (moment.reshape(-1, shape[1]).expand(shape) for moment in moments)
    return covariance_of(mean, variance, shares=codes.shares).diagonal()
