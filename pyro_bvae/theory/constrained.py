"""The linear β-VAE whose decoder is not free, so that the prior's σ_z is no gauge any more.

A free decoder undoes any σ_z by rescaling W. Weight decay and columns of norm one both forbid it.
"""

from torch import Tensor

from pyro_bvae.theory.checks import (
    Real,
    falling,
    leading,
    level_of,
    not_negative,
    positive,
    prior_variances,
    type_of,
)


def weight_decay_singular_values(
    spectrum: Tensor,
    latents: int,
    *,
    weight_decay: Real,
    beta: Real = 1.0,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> Tensor:
    """Return the singular values w_j `[latent]` of the W that maximises L − (τ/2)‖W‖².

    r w_j² = (y_j − t)₊, y_j the root of (τ/r) y² + β y = βλ_j: the variance that the penalty leaves
    for the latent to explain, from λ_j at τ = 0. Active if and only if λ_j exceeds
    `weight_decay_threshold`.

    Args:
        spectrum: λ `[data]`, in any order.
        latents: K.
        weight_decay: τ ≥ 0, per datum: an optimiser that adds τW to the gradient of the mean loss.
        beta: β > 0.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: τ is negative, an eigenvalue is, `latents` < 1, or β or a scale not positive.

    References:
        Tipping, Bishop (1999), Probabilistic Principal Component Analysis, for τ = 0.

    >>> import torch
    >>> spectrum = torch.tensor([4.0, 2.0, 0.2])
    >>> w = weight_decay_singular_values(spectrum, 3, weight_decay=2.0, likelihood_scale=0.3**0.5)
    >>> w**2
    tensor([0.8861, 0.4808, 0.0000])
    """
    values = leading(falling(spectrum), latents)
    beta = positive(beta, "beta", like=values)
    level = level_of(beta, likelihood_scale, like=values)
    prior = prior_variances(prior_scale, latents=latents, like=values)
    pull = not_negative(weight_decay, "weight_decay", like=values) / prior
    target = 2 * beta * values / (beta + (beta**2 + 4 * pull * beta * values).sqrt())
    return ((target - level).clamp(min=0) / prior).sqrt()


def weight_decay_threshold(
    weight_decay: Real,
    *,
    beta: Real = 1.0,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> Tensor:
    """Return the λ above which a latent is active under weight decay: βs (1 + τs/r), 0-dim.

    Args and Raises: as `weight_decay_singular_values`, with one `prior_scale`.

    >>> weight_decay_threshold(2.0, likelihood_scale=0.3**0.5)
    tensor(0.4800)
    """
    like = type_of(weight_decay, beta, likelihood_scale, prior_scale)
    variance = positive(likelihood_scale, "likelihood_scale", like=like) ** 2
    prior = positive(prior_scale, "prior_scale", like=like) ** 2
    pull = not_negative(weight_decay, "weight_decay", like=like) / prior
    return positive(beta, "beta", like=like) * variance * (1 + pull * variance)


def unit_norm_rates(
    spectrum: Tensor,
    latents: int,
    *,
    beta: Real = 1.0,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> Tensor:
    """Return R_j `[latent]`, nats, of a decoder fixed to the first K principal axes.

    R_j = ½ [t/(r+t) + rλ_j/(r+t)² − 1 + ln((r+t)/t)] with the best guide: never exactly zero, and
    no function of t/λ_j alone, as σ_z is not free to be undone.

    Args:
        spectrum: λ `[data]`, in any order.
        latents: K, no more than the data's dimensions.
        beta: β > 0.
        likelihood_scale: σ_x, with t = βσ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: an eigenvalue is negative, `latents` not in 1 … D, or β or a scale not positive.

    >>> import torch
    >>> rates = unit_norm_rates(torch.tensor([4.0, 2.0, 1.0]), 3, likelihood_scale=0.3**0.5)
    >>> round(float(rates.sum()), 4)
    3.1167
    """
    values = leading(falling(spectrum), latents)
    if latents > len(spectrum):
        raise ValueError(
            f"latents: expected at most {len(spectrum)}, one for each principal axis, got {latents}"
        )
    level = level_of(beta, likelihood_scale, like=values)
    prior = prior_variances(prior_scale, latents=latents, like=values)
    total = prior + level
    return (level / total + prior * values / total**2 - 1 + (total / level).log()) / 2
