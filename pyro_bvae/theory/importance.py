"""How well a Gaussian guide serves importance sampling and calibration, exactly.

c is the ratio of the guide's spread to that of the posterior it stands for: below 1 it is too
narrow, above 1 too wide.
"""

import math

import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from pyro_bvae.theory.checks import Real, covariance_matrix, positive, type_of, whole


def pareto_shape(covariance_q: Tensor, covariance_p: Tensor) -> Tensor:
    """Return the Pareto shape k, 0-dim, of the weights p/q of Gaussians of one mean.

    With c the generalised eigenvalues of (S_q, S_p), variance ratios: k = 1 − min c if some c < 1;
    else k = −2/d with d of them above 1; NaN if all are 1, where the weights are constant. A finite
    variance needs k < ½.

    Args:
        covariance_q: S_q `[latent, latent]` of the guide.
        covariance_p: S_p `[latent, latent]` of the posterior.

    Raises:
        ValueError: they are not covariances of one size.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto Smoothed Importance Sampling, for k.

    >>> pareto_shape(torch.tensor([[0.3]]), torch.tensor([[1.0]]))
    tensor(0.7000)
    """
    covariance_matrix(covariance_q, "covariance_q")
    covariance_matrix(covariance_p, "covariance_p", size=len(covariance_q))
    whiten = torch.linalg.inv(torch.linalg.cholesky(covariance_p))
    ratios = torch.linalg.eigvalsh(whiten @ covariance_q @ whiten.mT)
    tolerance = 10 * len(ratios) * torch.finfo(ratios.dtype).eps
    if ratios[0] < 1 - tolerance:
        return 1 - ratios[0]
    wide = (ratios > 1 + tolerance).sum()
    return -2 / wide if wide else ratios.new_tensor(math.nan)


def importance_gap(chi_squared: Real, *, num_particles: int) -> Tensor:
    """Return χ²/2K, the first order in 1/K of log p(x) − L_K, nats.

    L_K is the importance-weighted bound, which rises in K. Infinite where χ² is: the gap then
    closes more slowly than 1/K.

    Args:
        chi_squared: χ² = Var_q(p/q) ≥ 0, from `gaussian_chi_squared`.
        num_particles: K.

    Raises:
        ValueError: χ² is negative, or K is not a whole number ≥ 1.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, for L_K.
        Nowozin (2018), Debiasing Evidence Approximations, for the expansion.

    >>> importance_gap(torch.tensor(0.8), num_particles=50)
    tensor(0.0080)
    """
    value = torch.as_tensor(chi_squared)
    if not (value >= 0).all():
        raise ValueError(f"chi_squared: expected a variance >= 0, got {chi_squared!r}")
    return value / (2 * whole(num_particles, "num_particles"))


def interval_coverage(level: Real, scale_ratio: Real) -> Tensor:
    """Return how often a guide's central interval of `level` holds the truth, elementwise.

    2 Φ(c Φ⁻¹((1 + level)/2)) − 1 for Gaussians, as P(u ≤ x) = Φ(c Φ⁻¹(x)) for the rank u of the
    truth within the guide.

    Args:
        level: the nominal probability, in [0, 1].
        scale_ratio: c = σ_q/σ_p, of scales, not variances.

    Raises:
        ValueError: a level is not in [0, 1], or c is not positive.

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian Inference Algorithms
        with Simulation-Based Calibration.

    >>> interval_coverage(0.9, 0.5)
    tensor(0.5892)
    """
    share = torch.as_tensor(level).to(type_of(level, scale_ratio))
    if not ((share >= 0) & (share <= 1)).all():
        raise ValueError(f"level: expected probabilities in [0, 1], got {level!r}")
    ratio = positive(scale_ratio, "scale_ratio", like=share)
    return 2 * ndtr(ratio * ndtri((1 + share) / 2)) - 1


def rank_probabilities(draws: int, scale_ratio: Real) -> Tensor:
    """Return P(rank of the truth among the guide's draws) `[draws + 1]`, float64.

    ∫ Binomial(rank; draws, Φ(ε/c)) φ(ε) dε: flat at c = 1, a valley below, a hill above. Computed
    by the trapezoidal rule, to 1e-12 for c from 0.01.

    Args:
        draws: the number of draws of the guide for every truth.
        scale_ratio: c = σ_q/σ_p, of scales, not variances.

    Raises:
        ValueError: `draws` is not a whole number ≥ 1, or c is not positive.

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian Inference Algorithms
        with Simulation-Based Calibration.

    >>> rank_probabilities(1, 0.5).tolist()
    [0.5..., 0.5...]
    """
    whole(draws, "draws")
    truth = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    u = truth / positive(scale_ratio, "scale_ratio", like=truth)
    rank = torch.arange(draws + 1).to(truth)[:, None]
    log_choose = math.lgamma(draws + 1) - torch.lgamma(rank + 1) - torch.lgamma(draws - rank + 1)
    log_below, log_above = torch.special.log_ndtr(u), torch.special.log_ndtr(-u)
    log_density = -(truth**2) / 2 - math.log(2 * math.pi) / 2
    log_mass = log_choose + rank * log_below + (draws - rank) * log_above + log_density
    return log_mass.exp().sum(1) * (truth[1] - truth[0])


def effective_scale_ratio(
    weight: Real, *, beta: Real, likelihood_scale: Real, prior_scale: Real = 1.0
) -> Tensor:
    """Return c of a one-dimensional linear β-VAE on its own generative model, 0-dim.

    c² = t (t + rw²)/(t² + s rw²), t = βs: the variance of q, over the mean squared error of its
    mean as an estimate of z. Below 1 if and only if β is.

    Args:
        weight: w, the decoder.
        beta: β > 0 of the guide.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z².

    Raises:
        ValueError: an argument is not finite, or β or a scale not positive.

    >>> round(float(effective_scale_ratio(2**0.5, beta=4.0, likelihood_scale=0.3**0.5)), 4)
    1.372
    """
    w = torch.as_tensor(weight).to(type_of(weight, beta, likelihood_scale, prior_scale))
    if w.dim() or not torch.isfinite(w):
        raise ValueError(f"weight: expected one finite number, got {weight!r}")
    noise = positive(likelihood_scale, "likelihood_scale", like=w) ** 2
    prior = positive(prior_scale, "prior_scale", like=w) ** 2
    level = positive(beta, "beta", like=w) * noise
    signal = prior * w**2
    return (level * (level + signal) / (level**2 + noise * signal)).sqrt()
