"""The variational information bottleneck: a code of x that keeps what tells of y."""

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_data, check_finite
from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.parameters import register
from pyro_bvae.models.parts import check_observed, check_parts, check_shape, data_plate
from pyro_bvae.posteriors import Posterior
from pyro_bvae.priors import Prior


class InformationBottleneck(nn.Module):
    """z ~ r(z), y ~ p(y|z), with the guide z ~ q(z|x): y is drawn through a code of x.

    Tempered by β it maximises E[log p(y|z)] − β KL(q(z|x) ‖ r(z)), which is at most
    I(Y;Z) − β I(X;Z) − H(Y): β is what a nat about x costs, in nats about y. The KL is an upper
    bound on I(X;Z), in nats, and minus the reconstruction plus H(Y) a lower bound on I(Y;Z).
    Plate "data", sites "z" `[batch, latents]` and "y" `[batch, *shape]`. Data are pairs:
    `fit(bottleneck, (x, y), beta=0.01, ...)`.

    As a pair it is a model of y, whose posterior is p(z|y). It is to that that diagnostics such as
    `importance` and `calibration` hold q(z|x), which is not meant to be it: what they find is no
    fault. `collapse` and `elbo_surgery` tell of its codes as of any.

    Args:
        prior: r(z), what the codes are to look like in all.
        likelihood: p(y|z): a `CategoricalLikelihood` of one class, a `NormalLikelihood`, ...
        posterior: q(z|x).

    Raises:
        TypeError: a part is not of its kind.
        ValueError: prior and posterior differ in their number of latents.

    References:
        Alemi, Fischer, Dillon, Murphy (2017), Deep Variational Information Bottleneck.
        Tishby, Pereira, Bialek (1999), The Information Bottleneck Method.

    >>> from pyro_bvae.likelihoods import NormalLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> bottleneck = InformationBottleneck(
    ...     prior=NormalPrior(2),
    ...     likelihood=NormalLikelihood(mlp_decoder(2, (3,))),
    ...     posterior=MeanFieldPosterior(mlp_encoder((5,)), latents=2),
    ... )
    >>> bottleneck.predict(torch.zeros(4, 5)).shape
    torch.Size([4, 3])
    """

    def __init__(self, prior: Prior, likelihood: Likelihood, posterior: Posterior) -> None:
        super().__init__()
        check_parts(prior, likelihood, posterior)
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior

    def model(
        self, x: Tensor | None = None, y: Tensor | None = None, *, size: int | None = None
    ) -> Tensor:
        """Draw z from r(z) and y from p(y|z), or observe the given y; x only counts the data.

        Raises: ValueError or TypeError for an x or y that is no data, of unequal lengths, of
            another shape, or impossible under the likelihood.
        """
        register(self)
        prior = self.prior()
        with self._plate(x, y, size):
            likelihood = self.likelihood(pyro.sample("z", prior))
            if y is not None:
                check_shape(y, likelihood, "y")
            return pyro.sample("y", likelihood, obs=y)

    def guide(self, x: Tensor, y: Tensor | None = None, *, size: int | None = None) -> Tensor:
        """Draw z `[batch, latents]` from q(z|x); y is not looked at."""
        register(self)
        self.prior.guide()
        with self._plate(x, y, size):
            return pyro.sample("z", self.posterior(x))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes `[batch, latents]` of x."""
        check_data(x, integers=True)
        return self.posterior.code(x)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return what stands for p(y|z): its mean, or the most probable class."""
        return self.likelihood.point(z)

    def predict(self, x: Tensor) -> Tensor:
        """Return what stands for y `[batch, *shape]`, given the codes of x."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Decode `n` ≥ 1 draws of z from r(z), with σ from its posterior if it has one."""
        check_count(n, "n")
        with poutine.replay(trace=poutine.trace(self.prior.guide).get_trace()):
            return self.decode(self.prior().sample((n,)))

    def check(self, x: Tensor, y: Tensor | None = None) -> None:
        """Raise ValueError if x is not finite, or y impossible; TypeError if there is no y."""
        check_finite(x)
        if y is None:
            raise TypeError("y: expected data (x, y), what the code is to tell of, got x alone")
        check_observed(y, self.likelihood, "y")

    def _plate(self, x: Tensor | None, y: Tensor | None, size: int | None) -> pyro.plate:
        if x is not None:
            check_data(x, integers=True)
        if y is None:
            return data_plate(x, size)
        check_observed(y, self.likelihood, "y")
        if x is None or len(x) != len(y):
            raise ValueError(
                f"y: expected as many as x, {0 if x is None else len(x)}, got {len(y)}"
            )
        return data_plate(y, size)
