"""Annealed importance sampling of the evidence, by Hamiltonian steps, all data and chains at once.

Neal (2001), Annealed Importance Sampling; Wu, Burda, Salakhutdinov, Grosse (2017), On the
Quantitative Analysis of Decoder-Based Generative Models; Grosse, Ghahramani, Adams (2015),
Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo.
"""

import torch
from torch import Tensor

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.joint import LogJoint, Value

_ACCEPTANCE = 0.65
_GAIN = 0.2
_FIRST_STEP = 0.3
_SHARPNESS = 4.0
TUNING_CHAINS = 4


def ladder(temperatures: int, power: float) -> Tensor:
    """Return exponents of the likelihood from 0 to `power`, dense at both ends, `[temperatures]`.

    Grosse et al. (2015): a logistic curve, rescaled.

    >>> ladder(3, 1.0)
    tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    curve = torch.linspace(-_SHARPNESS, _SHARPNESS, temperatures, dtype=torch.float64).sigmoid()
    return power * (curve - curve[0]) / (curve[-1] - curve[0])


def hmc_step(
    joint: LogJoint, u: Tensor, power: float, step: Tensor, leapfrogs: int
) -> tuple[Tensor, Tensor, Value]:
    """Move rows u `[rows, dim]` by one step of Hamiltonian Monte Carlo on prior × likelihood^power.

    Args:
        step: the step size of every row `[rows]`.
        leapfrogs: the steps between two momenta.

    Returns: the rows, the acceptance probabilities `[rows]`, and the value at the rows.
    """
    here = value = joint(u, power)
    size = step[:, None]
    momentum = torch.randn_like(u)
    p, moved = momentum + size / 2 * here.gradient, u
    for leap in range(leapfrogs):
        moved = moved + size * p
        value = joint(moved, power)
        p = p + (size if leap < leapfrogs - 1 else size / 2) * value.gradient
    energies = [v.at(power) - m.square().sum(1) / 2 for v, m in ((here, momentum), (value, p))]
    acceptance = (energies[1] - energies[0]).nan_to_num(-torch.inf).clamp(max=0).exp()
    accepted = torch.rand_like(acceptance) < acceptance
    kept = [torch.where(_like(accepted, b), b, a) for a, b in zip(here, value, strict=True)]
    return torch.where(accepted[:, None], moved, u), acceptance, Value(*kept)


def tuned_steps(sampler: Sampler, indices: Tensor, powers: Tensor, leapfrogs: int) -> Tensor:
    """Find, in a run of its own, the step sizes `[temperatures, data]` that accept 65 %.

    The sizes do not depend on the chains that use them, which therefore stay unbiased.
    """
    joint = LogJoint(sampler, indices, TUNING_CHAINS)
    u, step = joint.prior(), torch.full((len(indices),), _FIRST_STEP)
    step = step.to(u)
    sizes = []
    for power in powers.tolist():
        u, acceptance, _ = hmc_step(joint, u, power, step.repeat(joint.copies), leapfrogs)
        mean = acceptance.reshape(joint.copies, -1).mean(0)
        step = step * ((mean - _ACCEPTANCE) * _GAIN).exp()
        sizes.append(step)
    return torch.stack(sizes)


def anneal(joint: LogJoint, u: Tensor, powers: Tensor, steps: Tensor, *, leapfrogs: int) -> Tensor:
    """Take rows along the powers, in the order given, and return their log weights.

    From powers 0 to t, rows of the prior: E[w] = ∫ p(z) p(x|z)^t dz. From t to 0, rows of the
    posterior: E[w] = 1 over that. Discrete latents are summed over at every power.

    Args:
        u: rows that are exact draws at the first power.
        powers: exponents of the likelihood `[temperatures]`.
        steps: the step size at every power for every datum `[temperatures, data]`.

    Returns: log w `[copies, data]`, nats.
    """
    value = joint(u, float(powers[0]))
    log_weight = torch.zeros(len(u), dtype=torch.float64, device=u.device)
    for i in range(1, len(powers)):
        exact = Value(*(part.double() for part in value))
        log_weight += exact.at(float(powers[i])) - exact.at(float(powers[i - 1]))
        if i < len(powers) - 1:
            step = steps[i].repeat(joint.copies)
            u, _, value = hmc_step(joint, u, float(powers[i]), step, leapfrogs)
    return log_weight.reshape(joint.copies, joint.data)


def _like(mask: Tensor, value: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (value.dim() - 1))
