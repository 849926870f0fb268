"""Divergences between Gaussians, in nats."""

import math

import torch
from torch import Tensor

from pyro_bvae.theory.checks import Real, covariance_matrix, prior_variances


def _check_scale(scale: Tensor) -> None:
    if not (torch.isfinite(scale) & (scale > 0)).all():
        raise ValueError(f"scale: expected finite numbers > 0, got a minimum of {scale.min()}")


def normal_kl(mean: Tensor, scale: Tensor, *, prior_scale: Real = 1.0) -> Tensor:
    """Return KL(N(m, diag σ²) ‖ N(0, r I)) `[batch]`, summed over latents.

    ½ Σ_j [(m_j² + σ_j²)/r − 1 − ln(σ_j²/r)].

    Args:
        mean: m `[batch, latent]`.
        scale: σ `[batch, latent]`, positive.
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: a scale is not positive.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes, appendix B.

    >>> normal_kl(torch.ones(1, 2), torch.ones(1, 2))
    tensor([1.])
    """
    _check_scale(scale)
    prior = prior_variances(prior_scale, latents=mean.shape[-1], like=mean)
    variance = scale**2 / prior
    return (mean**2 / prior + variance - 1 - variance.log()).sum(-1) / 2


def normal_entropy(scale: Tensor) -> Tensor:
    """Return the entropy of N(m, diag σ²) `[batch]`: Σ_j ½ ln 2πeσ_j².

    Raises:
        ValueError: a scale is not positive.

    >>> normal_entropy(torch.ones(1, 2))
    tensor([2.8379])
    """
    _check_scale(scale)
    return (scale.log() + (1 + math.log(2 * math.pi)) / 2).sum(-1)


def gaussian_kl(
    mean_q: Tensor, covariance_q: Tensor, mean_p: Tensor, covariance_p: Tensor
) -> Tensor:
    """Return KL(q‖p), 0-dim, of N(m_q, S_q) and N(m_p, S_p).

    ½ [tr(S_p⁻¹S_q) + (m_p − m_q)ᵀS_p⁻¹(m_p − m_q) − d + ln(|S_p|/|S_q|)].

    Args:
        mean_q, mean_p: `[latent]`.
        covariance_q, covariance_p: `[latent, latent]`.

    Raises:
        ValueError: a covariance is not symmetric of the size of its mean.

    >>> mean, covariance = torch.zeros(2), torch.eye(2)
    >>> gaussian_kl(mean + 1, covariance, mean, covariance)
    tensor(1.)
    """
    latents = len(mean_q)
    covariance_matrix(covariance_q, "covariance_q", size=latents)
    precision = torch.linalg.inv(covariance_matrix(covariance_p, "covariance_p", size=latents))
    difference = mean_p - mean_q
    distance = difference @ precision @ difference
    log_ratio = torch.logdet(precision) + torch.logdet(covariance_q)
    return ((precision @ covariance_q).trace() + distance - latents - log_ratio) / 2


def gaussian_chi_squared(
    mean_q: Tensor, covariance_q: Tensor, mean_p: Tensor, covariance_p: Tensor
) -> Tensor:
    """Return χ² = Var_q(p/q), 0-dim, of N(m_q, S_q) and N(m_p, S_p): infinite for a narrow q.

    With A = 2S_p⁻¹ − S_q⁻¹ and δ = m_p − m_q,
    1 + χ² = |S_q|^{1/2} |S_p|⁻¹ |A|^{−1/2} exp(2δᵀS_p⁻¹A⁻¹S_p⁻¹δ − δᵀS_p⁻¹δ); infinite unless A is
    positive definite. The variance of importance weights, divided by their squared mean.

    Args and Raises: as `gaussian_kl`.

    >>> mean, covariance = torch.zeros(1), torch.eye(1)
    >>> gaussian_chi_squared(mean, 2 * covariance, mean, covariance)
    tensor(0.1547)
    >>> gaussian_chi_squared(mean, 0.5 * covariance, mean, covariance)
    tensor(inf)
    """
    latents = len(mean_q)
    p = torch.linalg.inv(covariance_matrix(covariance_p, "covariance_p", size=latents))
    q = torch.linalg.inv(covariance_matrix(covariance_q, "covariance_q", size=latents))
    tail = 2 * p - q
    if torch.linalg.eigvalsh(tail)[0] <= 0:
        return tail.new_tensor(math.inf)
    pull = p @ (mean_p - mean_q)
    exponent = 2 * pull @ torch.linalg.solve(tail, pull) - pull @ (mean_p - mean_q)
    log_det = torch.logdet(p) - (torch.logdet(q) + torch.logdet(tail)) / 2
    return torch.expm1(log_det + exponent)
