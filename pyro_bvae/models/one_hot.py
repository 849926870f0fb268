"""Classes as one-hot vectors that gradients reach: q(y|x), its mean, and its draws."""

from typing import Any

import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor, nn
from torch.distributions import constraints, register_kl
from torch.nn.functional import gumbel_softmax

from pyro_bvae.checks import check_count
from pyro_bvae.networks.head import head_of, through


class OneHotClass(OneHotCategorical):
    """p(y) over one-hot y, with log p(y) = Σ_c y_c log p_c, linear in y.

    So it has a value for mixtures of classes too, their mean.
    """

    support: Any = constraints.simplex

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_c y_c log p_c, in nats."""
        return (value * self.logits).sum(-1)


class MeanClass(OneHotClass):
    """q(y) whose draw is its mean: the probabilities themselves.

    What is linear in y, as an ELBO summed over the classes is, thus has its exact expectation.
    """

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return the probabilities."""
        return self.probs.expand(self._extended_shape(torch.Size(sample_shape)))


class StraightThroughClass(OneHotClass):
    """q(y) with one-hot draws, whose gradient is that of relaxed ones at a temperature.

    References:
        Jang, Gu, Poole (2017), Categorical Reparameterization with Gumbel-Softmax.
        Maddison, Mnih, Teh (2017), The Concrete Distribution.
    """

    has_rsample = True
    temperature = 1.0

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw."""
        logits = self.logits.expand(self._extended_shape(torch.Size(sample_shape)))
        return gumbel_softmax(logits, tau=self.temperature, hard=True)

    def at(self, temperature: float) -> "StraightThroughClass":
        """Set the temperature of the relaxed draws, and return the distribution."""
        self.temperature = temperature
        return self

    def expand(self, batch_shape: Any, _instance: Any = None) -> "StraightThroughClass":
        """Expand, keeping the temperature."""
        return super().expand(batch_shape, _instance).at(self.temperature)


@register_kl(OneHotClass, OneHotClass)
def _kl(q: OneHotClass, p: OneHotClass) -> Tensor:
    return (q.probs * (q.logits - p.logits)).sum(-1)


class Classifier(nn.Module):
    """Logits `[batch, classes]` of q(y|x), linear in an encoder's features.

    Args:
        encoder: a module from x `[batch, *shape]` to features `[batch, features]`.
        classes: how many, ≥ 2.
        features: the encoder's width, where it has no `.features` of its own.

    Raises: ValueError if `classes` < 2 or the width is unknown.

    >>> from pyro_bvae.networks import mlp_encoder
    >>> Classifier(mlp_encoder((1, 8, 8)), classes=10)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, encoder: nn.Module, classes: int, *, features: int | None = None) -> None:
        super().__init__()
        self.classes = check_count(classes, "classes")
        if classes < 2:
            raise ValueError("classes: expected at least 2, got 1")
        self.encoder = encoder
        self.head = head_of(encoder, classes, features=features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return through(self.encoder, self.head, x, name="encoder")
