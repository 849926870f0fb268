"""Density ratios by a critic: a network that learns to tell draws of two distributions apart."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus


def log_ratio(critic: nn.Module, z: Tensor) -> Tensor:
    """Return the critic's log a(z)/b(z) `[n]`, without gradients for the critic's parameters.

    Raises: ValueError if the critic returns another shape than `[n]` or `[n, 1]`.

    >>> log_ratio(nn.Linear(2, 1), torch.zeros(5, 2)).shape
    torch.Size([5])
    """
    frozen = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    return _checked(functional_call(critic, frozen, (z,)), len(z))


def ratio_loss(critic: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Return the loss that makes a critic's output log a(z)/b(z): logistic regression, nats, 0-dim.

    E_a ln(1 + e^{−c(z)}) + E_b ln(1 + e^{c(z)}), which is 2 ln 2 for a critic that cannot tell a
    from b, and at least 2 ln 2 − 2 JS(a, b).

    Args:
        critic: a module from codes `[n, latents]` to `[n]` or `[n, 1]`.
        a: draws `[n, latents]`.
        b: draws `[m, latents]`.

    Raises: ValueError if the critic returns another shape.

    References:
        Sugiyama, Suzuki, Kanamori (2012), Density Ratio Estimation in Machine Learning.
        Goodfellow et al. (2014), Generative Adversarial Networks.

    >>> critic = nn.Linear(2, 1)
    >>> _ = nn.init.zeros_(critic.weight), nn.init.zeros_(critic.bias)
    >>> ratio_loss(critic, torch.zeros(5, 2), torch.ones(5, 2))
    tensor(1.3863, grad_fn=<AddBackward0>)
    """
    both = _checked(critic(torch.cat([a, b])), len(a) + len(b))
    return softplus(-both[: len(a)]).mean() + softplus(both[len(a) :]).mean()


def permuted(z: Tensor) -> Tensor:
    """Return draws of Π_j q(z_j): each latent of z `[n, latents]` in a random order of its own.

    >>> z = torch.arange(6.0).reshape(3, 2)
    >>> permuted(z).sum(0)
    tensor([6., 9.])
    """
    return z.gather(0, torch.rand_like(z).argsort(0))


def _checked(logits: Tensor, n: int) -> Tensor:
    if logits.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"critic: expected an output of shape [{n}] or [{n}, 1] for {n} codes, got "
            f"{list(logits.shape)}"
        )
    return logits.reshape(n)
