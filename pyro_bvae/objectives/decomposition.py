"""Estimators of the parts of the mean KL: E_x KL(q(z|x)‖p(z)) = MI + TC + dimension-wise KL.

MI = E log q(z|x)/q(z), TC = E log q(z)/Π_j q(z_j), dimension-wise KL = E log Π_j q(z_j)/p(z), with
the aggregate posterior q(z) = E_x q(z|x) over all N data, of which a batch shows B. All in nats.

Where a datum has a code for every class, of shares s_cx = q(c|x), x stands for datum and class in
the parts, and q(z) = E_x Σ_c s_cx q(z|x,c): own codes are those of a datum in all of its classes.

References:
    Chen, Li, Grosse, Duvenaud (2018), Isolating Sources of Disentanglement in VAEs.
    Poole, Ozair, van den Oord, Alemi, Tucker (2019), On Variational Bounds of Mutual Information.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Parts(NamedTuple):
    """The three parts of the mean KL, nats, 0-dim."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


class Bracket(NamedTuple):
    """A lower and an upper estimate of each part."""

    low: Parts
    high: Parts


def mixture_weights(batch: int, *, like: Tensor) -> Tensor:
    """Return ln 1/B everywhere `[batch, batch]`: q(z) as the mixture over the batch.

    Minibatch-weighted sampling has ln 1/(BN) in its place: the same gradient, and a total
    correlation of d latents that is too high by (d − 1) ln N.

    >>> mixture_weights(4, like=torch.zeros(())).exp()[0]
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return like.new_full((batch, batch), -math.log(batch))


def stratified_weights(batch: int, data: int, *, like: Tensor) -> Tensor:
    """Return the log-weights `[batch, batch]` with which E Σ_k w_ik q(z_i|x_k) = q(z_i), exactly.

    A datum's own weight is 1/N, as it is one of N; each of the others, B − 1 out of N − 1, weighs
    (N − 1)/(N (B − 1)). Rows sum to 1. Chen et al. (2018) give one of the others
    (N − B + 1)/(N (B − 1)) and the rest 1/(B − 1); this is the average over which one it is, so it
    has the same expectation, less variance, and no order of the batch.

    Raises:
        ValueError: more data in the batch than there are, or one of several.

    >>> weights = stratified_weights(3, 10, like=torch.zeros(())).exp()
    >>> weights[0], torch.allclose(weights.sum(1), torch.ones(3))
    (tensor([0.1000, 0.4500, 0.4500]), True)
    """
    if not 1 <= batch <= data or batch == 1 < data:
        raise ValueError(f"batch: expected from 2 to {data} data, got {batch}")
    if batch == 1:
        return like.new_zeros(1, 1)
    weights = like.new_full((batch, batch), math.log((data - 1) / (data * (batch - 1))))
    return weights.fill_diagonal_(-math.log(data))


def leave_one_out_weights(batch: int, *, like: Tensor) -> Tensor:
    """Return ln 1/(B − 1) and −∞ on the diagonal: the mixture over the rest of the batch.

    >>> leave_one_out_weights(3, like=torch.zeros(())).exp()[0]
    tensor([0.0000, 0.5000, 0.5000])
    """
    weights = like.new_full((batch, batch), -math.log(max(batch - 1, 1)))
    return weights.fill_diagonal_(-math.inf)


def parts_of(
    pairs: Tensor, log_prior: Tensor, log_weights: Tensor, *, shares: Tensor | None = None
) -> Parts:
    """Estimate the parts with q(z_i) ≈ Σ_k w_ik q(z_i|x_k), and the same of every latent.

    Their sum is the mean of log q(z|x) − log p(z), whatever the weights.

    Args:
        pairs: log q(z_ij | x_k) `[codes i, codes k, latent j]`, a code for each datum, or for each
            class and datum, class by class.
        log_prior: log p(z_i) `[codes]`.
        log_weights: ln w_ik of the data `[batch, batch]`.
        shares: what each class weighs of its datum `[classes, batch]`, summing to 1 over classes;
            None for one code per datum.

    >>> z = torch.tensor([[0.0], [1.0]])
    >>> q = torch.distributions.Normal(z, 1.0)
    >>> parts = parts_of(q.log_prob(z[:, None]), torch.zeros(2), mixture_weights(2, like=z))
    >>> parts.total_correlation
    tensor(0.)
    """
    if shares is not None:
        log_weights = _between_codes(log_weights, shares)
    joint_pairs = pairs.sum(-1)
    own = joint_pairs.diagonal()
    joint = torch.logsumexp(joint_pairs + log_weights, 1)
    marginals = torch.logsumexp(pairs + log_weights.unsqueeze(-1), 1).sum(-1)
    parts = own - joint, joint - marginals, marginals - log_prior
    if shares is None:
        return Parts(*(part.mean() for part in parts))
    weights = shares.reshape(-1) / shares.shape[1]
    return Parts(*((weights * part).sum() for part in parts))


@torch.no_grad()
def bracket(pairs: Tensor, log_prior: Tensor, *, shares: Tensor | None = None) -> Bracket:
    """Estimate the parts from both sides, by the mixture over the batch with and without x_i.

    In expectation the mutual information lies between the two for every q, and is at most ln B
    with x_i. Of the other two parts the errors are of order 1/B and of opposite sign while those
    of q(z_i), not of its marginals, are the larger, as they are in several dimensions.

    Args:
        pairs, log_prior, shares: as `parts_of` takes them, of at least 2 data.

    >>> z = torch.tensor([[0.0], [1.0]])
    >>> q = torch.distributions.Normal(z, 1.0)
    >>> low, high = bracket(q.log_prob(z[:, None]), torch.zeros(2))
    >>> bool(low.mutual_information < high.mutual_information)
    True
    """
    batch = len(pairs) if shares is None else shares.shape[1]
    within, without = (
        parts_of(pairs, log_prior, weights(batch, like=pairs), shares=shares)
        for weights in (mixture_weights, leave_one_out_weights)
    )
    return Bracket(
        Parts(within.mutual_information, without.total_correlation, without.dimension_wise_kl),
        Parts(without.mutual_information, within.total_correlation, within.dimension_wise_kl),
    )


def _between_codes(log_weights: Tensor, shares: Tensor) -> Tensor:
    """Return log-weights of data `[batch, batch]` as those of their codes `[codes, codes]`."""
    tiny = torch.finfo(shares.dtype).tiny
    log_shares = torch.where(shares > 0, shares.clamp(min=tiny).log(), -math.inf)
    return log_weights.repeat(len(shares), len(shares)) + log_shares.reshape(-1)
