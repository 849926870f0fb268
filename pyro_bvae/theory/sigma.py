"""The other σ: a learned σ_x with β, a learned σ_z per latent, and what β is not: a prior's σ.

The other half of the story, β and a fixed σ_x, is `water_level`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_bvae.theory.checks import (
    Real,
    falling,
    leading,
    level_of,
    positive,
    type_of,
    varying,
    whole,
)
from pyro_bvae.theory.gaussian import normal_entropy, normal_kl
from pyro_bvae.theory.linear_gaussian import LinearGuide, aggregate_posterior


def learned_likelihood_scale(spectrum: Tensor, latents: int, *, beta: Real = 1.0) -> Tensor:
    """Return the best σ_x of a linear β-VAE that learns it, as the σ-VAE does.

    s = σ_x² = MSE/D, where k latents are active: s = Σ_{j>k} λ_j / (D − βk), which is the smallest
    of these over k ≤ K with βk < D. β stays effective, as it counts R against Dist. The rest is
    `linear_optimum` at this σ_x.

    Args:
        spectrum: λ `[data]`, in any order.
        latents: K.
        beta: β > 0.

    Raises:
        ValueError: no best σ_x > 0, as the latents explain all the data and β ≤ D/rank: σ_x goes
            to 0 and L to infinity, or L is flat where β = D/rank.

    References:
        Rybkin, Daniilidis, Levine (2021), Simple and Effective VAE Training with Calibrated
        Decoders.
        Lucas, Tucker, Grosse, Norouzi (2019), Don't Blame the ELBO!, for β = 1.

    >>> round(float(learned_likelihood_scale(torch.tensor([4.0, 1.0, 0.5]), 1)) ** 2, 4)
    0.75
    """
    spectrum = falling(spectrum)
    dimensions = len(spectrum)
    beta = positive(beta, "beta", like=spectrum)
    used = torch.arange(min(whole(latents, "latents"), dimensions) + 1).to(spectrum)
    unexplained = torch.stack([spectrum[k:].sum() for k in range(len(used))])
    room = dimensions - beta * used
    nothing = torch.finfo(spectrum.dtype).eps * dimensions * spectrum[0]
    if ((unexplained <= nothing) & (room >= 0)).any():
        rank = int((unexplained > nothing).sum())
        raise ValueError(
            f"latents: {latents} latents explain all the variance of the data (rank {rank} of "
            f"{dimensions}), so that at beta={beta.item():g} the likelihood has no best scale > 0 "
            f"(at beta < {dimensions / max(rank, 1):g} it goes to 0 and L to infinity); use fewer "
            "latents, a larger beta, or a fixed likelihood_scale"
        )
    return (unexplained / room)[room > 0].min().sqrt()


def collapse_beta(spectrum: Tensor) -> Tensor:
    """Return the β from which a linear β-VAE with a learned σ_x collapses: λ₁ / mean λ.

    All latents are inactive if and only if λ₁ ≤ β · mean λ.

    Raises:
        ValueError: λ is not `[data]`, finite and ≥ 0, or all of it is 0.

    References:
        Lucas, Tucker, Grosse, Norouzi (2019), Don't Blame the ELBO!, for collapse and σ_x.

    >>> collapse_beta(torch.tensor([3.0, 2.0, 1.0]))
    tensor(1.5000)
    """
    spectrum = varying(spectrum)
    return spectrum[0] / spectrum.mean()


def prior_scale_of_guide(guide: LinearGuide, covariance: Tensor) -> Tensor:
    """Return the best σ_z `[latent]` for a guide: r_j = E[μ_j² + s_j²], whatever β.

    Args:
        guide: V and S.
        covariance: Σ `[data, data]`.

    Raises:
        ValueError: Σ or S is not a covariance of the size of V.

    References:
        MacKay (1995), Probable Networks and Plausible Predictions, for relevance determination.

    >>> guide = LinearGuide(torch.eye(2), 3 * torch.eye(2))
    >>> prior_scale_of_guide(guide, torch.eye(2))
    tensor([2., 2.])
    """
    return aggregate_posterior(guide, covariance).diagonal().sqrt()


def relevance_prior_scale(
    spectrum: Tensor, latents: int, *, beta: Real = 1.0, likelihood_scale: Real
) -> Tensor:
    """Return the σ_z `[latent]` that an orthonormal decoder learns: r_j = (λ_j − t)₊.

    Automatic relevance determination. A free decoder fixes only w_j² r_j, to the same value; so L,
    R and Dist are those of `linear_optimum`. A latent with r_j = 0 is pruned.

    Args and Raises: as `linear_optimum`.

    References:
        MacKay (1995), Probable Networks and Plausible Predictions.
        Tipping, Bishop (1999), Probabilistic Principal Component Analysis.

    >>> relevance_prior_scale(torch.tensor([5.0, 1.0]), 2, likelihood_scale=1.0)
    tensor([2., 0.])
    """
    values = leading(falling(spectrum), latents)
    return (values - level_of(beta, likelihood_scale, like=values)).clamp(min=0).sqrt()


def posterior_variance(curvature: Real, *, beta: Real = 1.0, prior_scale: Real = 1.0) -> Tensor:
    """Return the best variance of q for one latent whose −log p(x|z) has curvature h.

    s² = β/(h + β/r). A large β pushes it to the prior's r, a small r to 0: (β, r = 1) and
    (1, r = 1/β) shrink the mean of q alike, but the first is β times as noisy.

    Raises:
        ValueError: h, β or σ_z is not positive.

    >>> posterior_variance(5.0, beta=4.0), posterior_variance(5.0, prior_scale=0.5)
    (tensor(0.4444), tensor(0.1111))
    """
    like = type_of(curvature, beta, prior_scale)
    h = positive(curvature, "curvature", like=like)
    beta = positive(beta, "beta", like=like)
    return beta / (h + beta / positive(prior_scale, "prior_scale", like=like) ** 2)


class BetaAsPrior(NamedTuple):
    """Three terms `[batch]` that add up to β KL(q‖N(0, I)), nats.

    `kl` to the narrow prior N(0, I/β); `entropy` −(β − 1) H(q); `constant`, free of q.
    """

    kl: Tensor
    entropy: Tensor
    constant: Tensor


def beta_as_prior(mean: Tensor, scale: Tensor, *, beta: Real) -> BetaAsPrior:
    """Split β KL(q‖N(0, I)) into a KL to a narrow prior and what that prior does not do.

    β KL(q‖N(0, I)) = KL(q‖N(0, I/β)) − (β − 1) H(q) + (d/2) ln β + (d/2)(β − 1) ln 2π for
    q = N(m, diag σ²), d latents. So β is a prior of scale 1/√β and, beyond it, a reward of entropy.

    Args:
        mean: m `[batch, latent]`.
        scale: σ `[batch, latent]`, positive.
        beta: β > 0.

    Raises:
        ValueError: a scale or β is not positive.

    References:
        Higgins et al. (2017), beta-VAE, for the left side.

    >>> terms = beta_as_prior(torch.tensor([0.7]), torch.tensor([0.2]) ** 0.5, beta=4.0)
    >>> round(float(sum(terms)), 4), round(float(terms.kl), 4)
    (2.5989, 0.9916)
    """
    beta = positive(beta, "beta", like=mean)
    kl = normal_kl(mean, scale, prior_scale=beta.rsqrt())
    latents = mean.shape[-1]
    constant = latents / 2 * (beta.log() + (beta - 1) * math.log(2 * math.pi))
    return BetaAsPrior(kl, -(beta - 1) * normal_entropy(scale), constant.expand(kl.shape))
