"""The linear β-VAE with its best decoder: β-pPCA, solved.

Data of eigenvalues λ₁ ≥ … ≥ λ_D, K latents, s = σ_x², r = σ_z², water level t = βs. A latent is
active if and only if λ_j > t; everything else follows.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_bvae.theory.checks import (
    Real,
    covariance_matrix,
    falling,
    leading,
    level_of,
    not_negative,
    positive,
    prior_variances,
    whole,
)
from pyro_bvae.theory.linear_gaussian import terms_of
from pyro_bvae.theory.water_level import water_level


class LinearOptimum(NamedTuple):
    """The optimum of a linear β-VAE, in nats per datum, summed over dimensions and latents.

    `objective` L = −Dist − βR; `elbo` −Dist − R; `rate` R; `distortion` Dist; `mse`
    E‖x − x̂‖²; `log_likelihood` the exact E log p(x) of this decoder; all 0-dim.
    `beta`, 0-dim; `active`, the number of latents in use. `[latent]`, the largest λ first:
    `singular_values` of W; `posterior_variances` s_j²; `mean_variances` E μ_j²; `rates` R_j.
    """

    objective: Tensor
    elbo: Tensor
    rate: Tensor
    distortion: Tensor
    mse: Tensor
    log_likelihood: Tensor
    beta: Tensor
    active: int
    singular_values: Tensor
    posterior_variances: Tensor
    mean_variances: Tensor
    rates: Tensor


def active_latents(
    spectrum: Tensor, latents: int, *, beta: Real = 1.0, likelihood_scale: Real
) -> int:
    """Return how many of `latents` the optimum uses: those with λ_j > βσ_x².

    Args and Raises: as `linear_optimum`.

    References:
        Lucas, Tucker, Grosse, Norouzi (2019), Don't Blame the ELBO! A Linear VAE Perspective on
        Posterior Collapse.

    >>> active_latents(torch.tensor([4.0, 2.0, 1.0]), 3, beta=2.0, likelihood_scale=1.0)
    1
    """
    values = leading(falling(spectrum), latents)
    return int((values > level_of(beta, likelihood_scale, like=values)).sum())


def linear_optimum(
    spectrum: Tensor,
    latents: int,
    *,
    beta: Real = 1.0,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> LinearOptimum:
    """Return everything about the best linear decoder and guide.

    Active (λ_j > t = βs): w_j = √((λ_j − t)/r), s_j² = rt/λ_j, E μ_j² = r(1 − t/λ_j),
    R_j = ½ ln(λ_j/t), and t of squared error. Else w_j = 0, q is the prior, and λ_j of it. So the
    aggregate posterior is the prior, and R, Dist and L know nothing of r, which rescales z and W.

    Args:
        spectrum: λ `[data]`, the eigenvalues of the data covariance, in any order.
        latents: K; more than the data's dimensions are inactive.
        beta: β > 0.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: an eigenvalue is negative, `latents` < 1, or a β or scale is not positive.

    References:
        Tipping, Bishop (1999), Probabilistic Principal Component Analysis, for β = 1.
        Lucas, Tucker, Grosse, Norouzi (2019), Don't Blame the ELBO!, for the linear VAE.
        Higgins et al. (2017), beta-VAE, for β.

    >>> optimum = linear_optimum(torch.tensor([4.0, 1.0]), 2, beta=2.0, likelihood_scale=1.0)
    >>> optimum.active, optimum.posterior_variances
    (1, tensor([0.5000, 1.0000]))
    >>> round(float(optimum.rate), 4)
    0.3466
    """
    spectrum = falling(spectrum)
    values = leading(spectrum, latents)
    scale = positive(likelihood_scale, "likelihood_scale", like=spectrum)
    beta = positive(beta, "beta", like=spectrum)
    prior = prior_variances(prior_scale, latents=latents, like=spectrum)
    level = beta * scale**2
    active = values > level
    ratio = torch.where(active, values / level, 1.0)
    explained = torch.where(active, values - level, 0.0)
    rates = ratio.log() / 2
    mse = torch.where(active, level, values).sum() + spectrum[latents:].sum()
    terms = terms_of(mse, rates.sum(), beta=beta, likelihood_scale=scale, dimensions=len(spectrum))
    return LinearOptimum(
        *terms,
        log_likelihood=_log_likelihood(spectrum, explained, variance=scale**2),
        beta=beta,
        active=int(active.sum()),
        singular_values=(explained / prior).sqrt(),
        posterior_variances=prior / ratio,
        mean_variances=prior * (1 - 1 / ratio),
        rates=rates,
    )


def _log_likelihood(spectrum: Tensor, explained: Tensor, *, variance: Tensor) -> Tensor:
    """Return −½ Σ_j [ln 2πc_j + λ_j/c_j], c the eigenvalues of the model's covariance of x."""
    marginal = leading(explained, len(spectrum)) + variance
    return -((2 * math.pi * marginal).log() + spectrum / marginal).sum() / 2


def optimal_decoder(
    covariance: Tensor,
    latents: int,
    *,
    beta: Real = 1.0,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> Tensor:
    """Return the best W `[data, latent]` = U diag(√((λ_j − t)₊/r)), the largest λ first.

    Unique up to signs and order with a diagonal guide, up to a rotation with a full one.

    Args:
        covariance: Σ `[data, data]`.
        latents, beta, likelihood_scale, prior_scale: as `linear_optimum`.

    Raises:
        ValueError: Σ is not a covariance, or as `linear_optimum`.

    References:
        Tipping, Bishop (1999), Probabilistic Principal Component Analysis.
        Rolínek, Zietlow, Martius (2019), Variational Autoencoders Pursue PCA Directions (by
        Accident), for the diagonal guide.

    >>> optimal_decoder(torch.diag(torch.tensor([1.0, 5.0])), 1, likelihood_scale=1.0).abs()
    tensor([[0.],
            [2.]])
    """
    values, vectors = torch.linalg.eigh(covariance_matrix(covariance))
    axes = vectors.flip(-1)[:, : whole(latents, "latents")]
    optimum = linear_optimum(
        values.clamp(min=0),
        latents,
        beta=beta,
        likelihood_scale=likelihood_scale,
        prior_scale=prior_scale,
    )
    missing = axes.new_zeros(len(values), latents - axes.shape[1])
    return torch.cat([axes, missing], dim=1) * optimum.singular_values


def eigenvalue_of_mean_variance(
    fraction: Real, *, beta: Real = 1.0, likelihood_scale: Real
) -> Tensor:
    """Return the λ above which the variance of μ_j over data exceeds a fraction of the prior's.

    Var μ_j > f r if and only if λ_j > t/(1 − f): the active-unit rule, usually at f = 0.01.

    Raises:
        ValueError: f is not in [0, 1), or β or σ_x is not positive.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, for the rule.

    >>> round(float(eigenvalue_of_mean_variance(0.01, likelihood_scale=1.0)), 4)
    1.0101
    """
    level = water_level(beta, likelihood_scale=likelihood_scale)
    share = not_negative(fraction, "fraction", like=level)
    if share >= 1:
        raise ValueError(f"fraction: expected a share of the prior variance in [0, 1), got {share}")
    return level / (1 - share)


def eigenvalue_of_rate(rate: Real, *, beta: Real = 1.0, likelihood_scale: Real) -> Tensor:
    """Return the λ above which one latent's mean KL exceeds `rate` nats: t e^{2·rate}.

    Raises:
        ValueError: the rate is negative, or β or σ_x is not positive.

    >>> round(float(eigenvalue_of_rate(0.5, likelihood_scale=1.0)), 4)
    2.7183
    """
    level = water_level(beta, likelihood_scale=likelihood_scale)
    return level * (2 * not_negative(rate, "rate", like=level)).exp()
