"""The exact likelihood of a linear decoder: x ~ N(μ, C), C = W diag(r) Wᵀ + s I.

The model's own noise s = σ_x², never βs: β belongs to the training.
"""

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyro_bvae.theory.checks import Real, covariance_matrix, matrix, positive, prior_variances


def _marginal(decoder: Tensor, *, likelihood_scale: Real, prior_scale: Real) -> Tensor:
    """Return C `[data, data]`, the covariance of p(x)."""
    data, latents = matrix(decoder, "decoder").shape
    scale = positive(likelihood_scale, "likelihood_scale", like=decoder)
    prior = prior_variances(prior_scale, latents=latents, like=decoder)
    return (decoder * prior) @ decoder.mT + scale**2 * torch.eye(data).to(decoder)


def log_likelihood(
    x: Tensor,
    decoder: Tensor,
    *,
    mean: Real = 0.0,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> Tensor:
    """Return the exact log p(x) `[batch]` = log N(x; μ, C), in nats per datum.

    Args:
        x: `[batch, data]`, or `[data]`.
        decoder: W `[data, latent]`.
        mean: μ, one number or `[data]`.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: shapes that do not fit, or a scale that is not positive.

    References:
        Tipping, Bishop (1999), Probabilistic Principal Component Analysis.

    >>> log_likelihood(torch.zeros(1, 2), torch.ones(2, 1), likelihood_scale=1.0)
    tensor([-2.3872])
    """
    marginal = _marginal(decoder, likelihood_scale=likelihood_scale, prior_scale=prior_scale)
    data = len(marginal)
    center = torch.as_tensor(mean, dtype=decoder.dtype, device=decoder.device)
    for name, shape in (("x", x.shape[-1:]), ("mean", center.shape or (data,))):
        if tuple(shape) != (data,):
            raise ValueError(f"{name}: expected {data} dimensions as decoder has, got {[*shape]}")
    return MultivariateNormal(center.expand(data), marginal).log_prob(x)


def expected_log_likelihood(
    covariance: Tensor, decoder: Tensor, *, likelihood_scale: Real, prior_scale: Real = 1.0
) -> Tensor:
    """Return the exact E log p(x) over data of covariance Σ, in nats per datum.

    −½ [D ln 2π + ln det C + tr(C⁻¹Σ)].

    Args:
        covariance: Σ `[data, data]`, of data centred where the decoder is.
        decoder: W `[data, latent]`.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: shapes that do not fit, or a scale that is not positive.

    References:
        Tipping, Bishop (1999), Probabilistic Principal Component Analysis.

    >>> log_p = expected_log_likelihood(torch.eye(2), torch.ones(2, 1), likelihood_scale=1.0)
    >>> round(float(log_p), 3)
    -3.054
    """
    marginal = _marginal(decoder, likelihood_scale=likelihood_scale, prior_scale=prior_scale)
    data = len(marginal)
    covariance_matrix(covariance, size=data)
    misfit = torch.linalg.solve(marginal, covariance).trace()
    return -(data * math.log(2 * math.pi) + torch.logdet(marginal) + misfit) / 2
