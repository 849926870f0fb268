"""A VAE whose latents include factors, real numbers, that are known for some of the data."""

from collections.abc import Callable

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta, Normal
from torch import Tensor, nn

from pyro_bvae.checks import check_number
from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.parameters import register
from pyro_bvae.models.partly_known import PartlyKnown, check_factors, check_known
from pyro_bvae.models.parts import (
    check_decoder,
    check_observed,
    check_part,
    check_parts,
    check_shape,
    check_takes_context,
    data_plate,
    under_plates,
)
from pyro_bvae.models.weighted import Weighted
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.priors import Prior
from pyro_bvae.types import Distribution, Pair


class PartialFactorsVAE(nn.Module):
    """y ~ N(0, I), z ~ p(z), x ~ p(x|z,y), with the guide q(y|x) q(z|x,y).

    Where a factor is known it takes the place of its q(y_j|x), factor by factor. The loss of a
    batch, at β = 1, is

        − Σ_data [E_q log p(x|z,y) − KL_z(y)] − Σ_known [log p(y_j) + α log q(y_j|x)]
        + Σ_others KL(q(y_j|x) ‖ p(y_j)).

    Plate "data", sites "y" `[batch, factors]`, "z" `[batch, latents]`, "x", and "factors", the
    regression term, which counts as a reconstruction: evaluate without factors, or with α = 0,
    for the ELBO. Each latent has its β: `beta={"z": 4.0, "y": 1.0}`. Data are triples:
    `fit(vae, (x, factors, known), ...)`, the factors `[batch, factors]`, standardised, with any
    finite number where they are unknown, and `known` of their shape and of booleans. For a table
    with NaN these are `table.nan_to_num()` and `~table.isnan()`.

    Args:
        prior: p(z).
        likelihood: p(x|z,y), with a decoder of latents + factors numbers, z and y end to end.
        posterior: q(z|x,y); its encoder is called as `encoder(x, y)`: a `ContextEncoder`, or
            `NoContext(encoder)` for q(z|x).
        regressor: q(y|x), a `MeanFieldPosterior` of as many latents as there are factors.
        alpha: α ≥ 0, the weight of the regression term per known factor.

    Raises:
        TypeError: a part is not of its kind, or the posterior's encoder takes no context.
        ValueError: another number of latents, a decoder of another width, or α < 0.

    References:
        Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised Learning with Deep Generative
        Models, model M2, for factors that are real numbers.
        Locatello, Tschannen, Bauer, Rätsch, Schölkopf, Bachem (2020), Disentangling Factors of
        Variation Using Few Labels.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import ContextEncoder, mlp_decoder, mlp_encoder
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = PartialFactorsVAE(
    ...     prior=NormalPrior(5),
    ...     likelihood=BernoulliLikelihood(mlp_decoder(5 + 3, (1, 8, 8))),
    ...     posterior=MeanFieldPosterior(ContextEncoder(mlp_encoder((64 + 3,))), latents=5),
    ...     regressor=MeanFieldPosterior(mlp_encoder((1, 8, 8)), latents=3),
    ...     alpha=1.0,
    ... )
    >>> vae.predict(torch.zeros(4, 1, 8, 8)).shape
    torch.Size([4, 3])
    """

    factor_loc: Tensor

    def __init__(
        self,
        prior: Prior,
        likelihood: Likelihood,
        posterior: AmortisedPosterior,
        regressor: MeanFieldPosterior,
        *,
        alpha: float,
    ) -> None:
        super().__init__()
        check_parts(prior, likelihood, posterior)
        check_part("posterior", posterior, AmortisedPosterior)
        check_part("regressor", regressor, MeanFieldPosterior)
        check_takes_context("encoder", posterior.encoder)
        self.factors = regressor.latents
        check_decoder(likelihood, prior.latents + self.factors, "latents and factors")
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.regressor = regressor
        self.alpha = check_number(alpha, "alpha")
        self.register_buffer("factor_loc", torch.zeros(self.factors))

    def model(
        self,
        x: Tensor | None = None,
        factors: Tensor | None = None,
        known: Tensor | None = None,
        *,
        size: int | None = None,
    ) -> Tensor:
        """Draw y, z and x; or observe x, and the factors where they are known.

        Raises: ValueError or TypeError for an x that `VAE.model` refuses, factors that are no
            finite numbers `[batch, factors]`, or a `known` that is not as many booleans.
        """
        return self._model(x, factors, known, size, self._observe_factors)

    def _model(
        self,
        x: Tensor | None,
        factors: Tensor | None,
        known: Tensor | None,
        size: int | None,
        observe: Callable[..., None],
    ) -> Tensor:
        register(self)
        prior = self.prior()
        with self._plate(x, factors, known, size):
            y = pyro.sample("y", Normal(self.factor_loc, 1.0).to_event(1))
            z = pyro.sample("z", prior)
            likelihood = self.likelihood(torch.cat([z, y], -1))
            if x is not None:
                check_shape(x, likelihood)
                if factors is not None:
                    observe(x, y, factors, known)
            return pyro.sample("x", likelihood, obs=x)

    def guide(
        self,
        x: Tensor,
        factors: Tensor | None = None,
        known: Tensor | None = None,
        *,
        size: int | None = None,
    ) -> Tensor:
        """Draw y from q(y|x) where it is not known, and z from q(z|x,y); return z."""
        register(self)
        self.prior.guide()
        with self._plate(x, factors, known, size):
            y = pyro.sample("y", self._regress(x, factors, known).to_event(1))
            batch = y.shape[:-1]
            inputs = x.expand(*batch, *x.shape[1:])
            return pyro.sample("z", under_plates(self.posterior, inputs, y, batch=batch))

    @property
    def drawn(self) -> Pair:
        """The pair that diagnostics hold, without the regression term, which is for the training.

        Known factors are observations of y, so that the evidence is log p(x, known factors).
        """

        def model(
            x: Tensor | None = None,
            factors: Tensor | None = None,
            known: Tensor | None = None,
            *,
            size: int | None = None,
        ) -> Tensor:
            return self._model(x, factors, known, size, _tell_factors)

        return Pair(model, self.guide)

    @torch.no_grad()
    def predict(
        self, x: Tensor, factors: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """Return the factors `[batch, factors]`: the known ones, and the means of q(y|x)."""
        self._check(x, factors, known)
        return self._regress(x, factors, known).mean

    @torch.no_grad()
    def encode(
        self, x: Tensor, factors: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """Return the codes `[batch, latents]` of x, given the factors that `predict` returns."""
        return self.posterior.code(x, self.predict(x, factors, known))

    @torch.no_grad()
    def decode(self, z: Tensor, factors: Tensor) -> Tensor:
        """Return what stands for p(x|z,y) `[batch, *shape]`, for factors `[batch, factors]`."""
        check_factors(factors, torch.Size([len(z), self.factors]))
        return self.likelihood.point(torch.cat([z, factors.to(z)], -1))

    def reconstruct(
        self, x: Tensor, factors: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """Decode the codes of x and the factors that `predict` returns."""
        return self.decode(self.encode(x, factors, known), self.predict(x, factors, known))

    @torch.no_grad()
    def sample(self, factors: Tensor) -> Tensor:
        """Decode a draw of z from the prior for each row of factors: `[batch, *shape]`."""
        rows = len(factors) if isinstance(factors, Tensor) and factors.dim() else 0
        check_factors(factors, torch.Size([rows, self.factors]))
        with poutine.replay(trace=poutine.trace(self.prior.guide).get_trace()):
            return self.decode(self.prior().sample((rows,)), factors)

    def check(self, x: Tensor, factors: Tensor | None = None, known: Tensor | None = None) -> None:
        """Raise as `model` does."""
        self._check(x, factors, known)

    def _regress(self, x: Tensor, factors: Tensor | None, known: Tensor | None) -> Distribution:
        q = self.regressor(x).base_dist
        if factors is None:
            return q
        known = torch.ones_like(factors, dtype=torch.bool) if known is None else known
        return PartlyKnown(q, factors, known)

    def _observe_factors(self, x: Tensor, _: Tensor, factors: Tensor, known: Tensor | None) -> None:
        """Observe the factors under q(y|x), which the ELBO of known factors would not train."""
        q = self.regressor(x).base_dist
        q = q if known is None else q.mask(known)
        with Weighted(self.alpha):
            pyro.sample("factors", q.to_event(1), obs=factors)

    def _plate(
        self, x: Tensor | None, factors: Tensor | None, known: Tensor | None, size: int | None
    ) -> pyro.plate:
        self._check(x, factors, known)
        return data_plate(x, size)

    def _check(self, x: Tensor | None, factors: Tensor | None, known: Tensor | None) -> None:
        if x is not None:
            check_observed(x, self.likelihood)
        if factors is not None:
            shape = torch.Size([0 if x is None else len(x), self.factors])
            check_factors(factors, shape)
            if known is not None:
                check_known(known, shape)
        elif known is not None:
            raise TypeError("known: expected factors with it, got none; pass (x, factors, known)")


def _tell_factors(x: Tensor, y: Tensor, factors: Tensor, known: Tensor | None) -> None:
    """Observe y itself where it is known, and whatever stands there where it is not."""
    told = y if known is None else torch.where(known, y, factors)
    pyro.sample("factors", Delta(told, event_dim=1, validate_args=False), obs=factors)
