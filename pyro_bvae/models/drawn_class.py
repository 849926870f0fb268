"""A class and a code drawn once for each datum, and what a label tells of the class."""

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor

from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.one_hot import OneHotClass
from pyro_bvae.models.parts import check_shape, under_plates
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.types import Distribution

_CERTAIN = 1e4


def told(logits: Tensor, labels: Tensor | None, one_hot: Tensor) -> Tensor:
    """Return logits `[batch, classes]` of q(y|x), but of the label where there is one, not −1."""
    if labels is None:
        return logits
    certain = _CERTAIN * one_hot[labels.clamp(min=0)]
    return torch.where((labels >= 0).unsqueeze(-1), certain, logits)


def draw(
    prior: Distribution,
    class_logits: Tensor,
    likelihood: Likelihood,
    x: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Draw sites "y" and "z"; observe "x" and "label" if given, else draw "x" and return it.

    A label is the number of the class y where it is known, and −1, whatever y is, elsewhere.
    """
    y = pyro.sample("y", OneHotClass(logits=class_logits, validate_args=False))
    z = pyro.sample("z", prior)
    if labels is not None:
        label = torch.where(labels >= 0, y.argmax(-1), -1)
        pyro.sample("label", Delta(label, validate_args=False), obs=labels)
    fn = likelihood(torch.cat([z, y], -1))
    if x is not None:
        check_shape(x, fn)
    return pyro.sample("x", fn, obs=x)


def draw_guide(posterior: AmortisedPosterior, logits: Tensor, x: Tensor) -> Tensor:
    """Draw site "y" by its logits, and "z" from q(z|x,y); return z."""
    y = pyro.sample("y", OneHotClass(logits=logits, validate_args=False))
    batch = y.shape[:-1]
    return pyro.sample("z", under_plates(posterior, x.expand(*batch, *x.shape[1:]), y, batch=batch))
