"""Rate against distortion: the curve that β walks along, and how to stop where one wants.

Along the optimal curve dDist/dR = −β, and dL/dβ = −R. The linear β-VAE with K ≥ D latents walks
Shannon's rate–distortion curve of a Gaussian; with fewer it cannot pay for the rest.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_bvae.theory.checks import Real, falling, leading, not_negative, positive, varying
from pyro_bvae.theory.optimum import LinearOptimum, linear_optimum


class WaterFilling(NamedTuple):
    """A point of the rate–distortion curve: `level` θ and `rate`, 0-dim; `errors` `[data]`."""

    level: Tensor
    rate: Tensor
    errors: Tensor


def gaussian_rate_distortion(spectrum: Tensor, squared_error: Real) -> WaterFilling:
    """Return the fewest nats that describe Gaussian data within a mean squared error.

    Reverse water-filling: errors min(θ, λ_j) that add up to the squared error,
    R = Σ ½ ln(λ_j/θ)₊.

    Args:
        spectrum: λ `[data]`, in any order; errors are from the largest to the smallest.
        squared_error: E‖x − x̂‖², summed over dimensions, > 0; beyond Σλ the rate is 0.

    Raises:
        ValueError: an eigenvalue is negative, all are 0, or the squared error is not positive.

    References:
        Shannon (1959), Coding Theorems for a Discrete Source with a Fidelity Criterion.
        Cover, Thomas (2006), Elements of Information Theory, theorem 10.3.3.

    >>> point = gaussian_rate_distortion(torch.tensor([4.0, 1.0, 0.5]), 2.5)
    >>> point.level, point.errors
    (tensor(1.), tensor([1.0000, 1.0000, 0.5000]))
    """
    spectrum = varying(spectrum)
    error = positive(squared_error, "squared_error", like=spectrum)
    wet = torch.arange(1, len(spectrum) + 1).to(spectrum)
    dry = spectrum.sum() - spectrum.cumsum(0)
    level = ((error - dry) / wet).max().clamp(max=spectrum[0])
    rate = (spectrum / level).clamp(min=1).log().sum() / 2
    return WaterFilling(level, rate, spectrum.clamp(max=level))


def opening_rates(spectrum: Tensor, latents: int) -> Tensor:
    """Return the rates R `[latent]`, nats, at which one latent after the other opens.

    C_j = ½ Σ_{i<j} ln(λ_i/λ_j): as β falls, or a capacity rises, latent j opens at C_j.

    Args:
        spectrum: λ `[data]`, in any order.
        latents: K; a latent beyond the rank of the data opens at infinity.

    Raises:
        ValueError: an eigenvalue is negative, or `latents` < 1.

    References:
        Burgess et al. (2018), Understanding Disentangling in β-VAE.

    >>> opening_rates(torch.tensor([4.0, 2.0, 1.0]), 3)
    tensor([0.0000, 0.3466, 1.0397])
    """
    log_values = leading(falling(spectrum), latents).log()
    before = torch.cat([log_values.new_zeros(1), log_values.cumsum(0)[:-1]])
    earlier = torch.arange(latents).to(log_values)
    opening = (before - earlier * log_values) / 2
    return torch.where(log_values.isfinite(), opening, torch.inf)


def beta_for_rate(rate: Real, spectrum: Tensor, latents: int, *, likelihood_scale: Real) -> Tensor:
    """Return the β at which the linear β-VAE's rate is `rate` nats, 0-dim.

    With k latents open, t = (Π_{j≤k} λ_j)^{1/k} e^{−2R/k} and β = t/σ_x². At rate 0 it is λ₁/σ_x²,
    the smallest β of many.

    Args:
        rate: R ≥ 0, the target.
        spectrum: λ `[data]`, in any order.
        latents: K.
        likelihood_scale: σ_x.

    Raises:
        ValueError: the rate is negative, the data constant, or as `linear_optimum`.

    References:
        Burgess et al. (2018), Understanding Disentangling in β-VAE, for a rate as the target.
        Alemi et al. (2018), Fixing a Broken ELBO, for rate, distortion and their slope −β.

    >>> beta_for_rate(1.0, torch.tensor([4.0, 2.0, 1.0]), 3, likelihood_scale=0.3**0.5)
    tensor(3.4684)
    """
    values = leading(varying(spectrum), latents)
    target = not_negative(rate, "rate", like=values)
    variance = positive(likelihood_scale, "likelihood_scale", like=values) ** 2
    active = max(int((opening_rates(spectrum, latents) < target).sum()), 1)
    log_level = values[:active].log().mean() - 2 * target / active
    return log_level.exp() / variance


def capacity_optimum(
    spectrum: Tensor,
    latents: int,
    *,
    capacity: Real,
    gamma: Real,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> LinearOptimum:
    """Return the optimum of Dist + γ|R − C|: R = max(C, R at β = γ).

    It is that of the linear β-VAE at the `beta` it holds, the smaller of γ and the one of rate C;
    its `objective` is that β-VAE's. For γ so small that R at β = γ exceeds C, C is not reached.

    Args:
        spectrum: λ `[data]`, in any order.
        latents: K.
        capacity: C ≥ 0, nats.
        gamma: γ > 0.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: C is negative, γ not positive, or as `linear_optimum`.

    References:
        Burgess et al. (2018), Understanding Disentangling in β-VAE.

    >>> spectrum = torch.tensor([4.0, 2.0, 1.0])
    >>> optimum = capacity_optimum(
    ...     spectrum, 3, capacity=1.0, gamma=100.0, likelihood_scale=0.3**0.5
    ... )
    >>> optimum.active, round(float(optimum.distortion), 4)
    (2, 6.0859)
    """
    beta = beta_for_rate(capacity, spectrum, latents, likelihood_scale=likelihood_scale)
    gamma = positive(gamma, "gamma", like=beta)
    return linear_optimum(
        spectrum,
        latents,
        beta=torch.minimum(beta, gamma),
        likelihood_scale=likelihood_scale,
        prior_scale=prior_scale,
    )
