"""β: the price of a nat, as the effect of `poutine.scale` on the latent sites of a pair."""

import functools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from pyro_bvae.types import Pair, PairLike, PyroFunction, as_pair

Beta = float | Tensor
SiteBetas = Mapping[str, Beta]


VECTORISATION_PLATES = {"num_particles_vectorized", "_num_predictive_samples"}


class TemperMessenger(Messenger):
    """Multiply the scale of latent sites by β, and note β on the site as `infer["beta"]`.

    Of the latent sites, those inside a plate are tempered: the local ones, not a global parameter
    with a prior. A mapping names the sites instead.
    """

    def __init__(self, beta: Beta | SiteBetas) -> None:
        super().__init__()
        self.beta = beta

    def __enter__(self) -> "TemperMessenger":
        self._outer = list(_PYRO_STACK)
        self._latents: set[str] = set()
        self._tempered: set[str] = set()
        return super().__enter__()

    def _pyro_sample(self, msg: Any) -> None:
        if self._is_data(msg) or poutine.util.site_is_subsample(msg):
            return
        self._latents.add(msg["name"])
        beta = self._beta_of(msg)
        if beta is None:
            return
        self._tempered.add(msg["name"])
        msg["infer"] = {**msg["infer"], "beta": beta * msg["infer"].get("beta", 1.0)}
        if not any(isinstance(handler, UntemperedMessenger) for handler in _PYRO_STACK):
            msg["scale"] = beta * msg["scale"]

    def _is_data(self, msg: Any) -> bool:
        """Whether the site is observed, or will be once the handlers outside have seen it."""
        return (
            msg["is_observed"]
            or msg["infer"].get("was_observed", False)
            or any(
                isinstance(handler, ConditionMessenger) and msg["name"] in handler.data
                for handler in self._outer
            )
        )

    def _beta_of(self, msg: Any) -> Beta | None:
        if isinstance(self.beta, Mapping):
            return self.beta.get(msg["name"])
        plates = {frame.name for frame in msg["cond_indep_stack"]}
        plates |= {handler.name for handler in self._outer if isinstance(handler, IndepMessenger)}
        return self.beta if plates - VECTORISATION_PLATES else None

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        if exc_type is None and self._latents:
            self._check_that_beta_was_used()

    def _check_that_beta_was_used(self) -> None:
        if isinstance(self.beta, Mapping):
            unknown = sorted(set(self.beta) - self._latents)
            if unknown:
                raise ValueError(
                    f"beta: no latent site is named {unknown}; there are {sorted(self._latents)}"
                )
        elif not self._tempered and not (isinstance(self.beta, float) and self.beta == 1):
            raise ValueError(
                f"beta: none of the latent sites {sorted(self._latents)} lies in a plate, so none "
                'is local to a datum; put them in a plate, or name them: beta={"z": 4.0}'
            )


class UntemperedMessenger(Messenger):
    """Within it, `tempered` only notes β on the sites and scales nothing."""


@contextmanager
def untempered() -> Iterator[None]:
    """Run tempered pairs as the models they are, at β = 1; β stays noted on their sites.

    >>> import pyro.distributions as dist
    >>> import pyro
    >>> def model():
    ...     with pyro.plate("data", 1):
    ...         pyro.sample("z", dist.Normal(0.0, 1.0))
    >>> with untempered():
    ...     site = poutine.trace(tempered((model, model), 4.0).model).get_trace().nodes["z"]
    >>> site["scale"], site["infer"]["beta"]
    (1.0, 4.0)
    """
    with UntemperedMessenger():
        yield


def tempered(pair: PairLike, beta: Beta | SiteBetas) -> Pair:
    """Apply β to a pair: its ELBO becomes E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z)).

    Every latent site inside a plate has its log-probability multiplied by β, in the model and in
    the guide alike, as `with poutine.scale(scale=beta)` around its `sample` would do; global
    latents, such as a prior's σ, keep weight 1. The order of other handlers does not matter: a
    site that `poutine.condition` observes, inside or outside, is data and is not scaled. β is
    noted on the site, so objectives report the ELBO at β = 1 too.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`.
        beta: a number ≥ 0; a 0-dim tensor, which may be changed in place while training; or a
            mapping from site names to either, which tempers just these sites, global or not.

    Returns: the tempered pair, `model, guide = tempered(pair, 4.0)`.

    Raises:
        ValueError: β negative, not finite, or not 0-dim; an empty mapping; when run, no latent
            site in a plate, or a name in the mapping that no latent site has.
        TypeError: β is neither number nor tensor, or `pair` is no pair.

    References:
        Higgins et al. (2017), β-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework.

    >>> import pyro, pyro.distributions as dist
    >>> def model():
    ...     with pyro.plate("data", 10):
    ...         return pyro.sample("z", dist.Normal(0.0, 1.0))
    >>> hot = tempered((model, model), beta=4.0)
    >>> poutine.trace(hot.guide).get_trace().nodes["z"]["scale"]
    4.0
    """
    model, guide = as_pair(pair)
    if isinstance(beta, Mapping):
        if not beta:
            raise ValueError("beta: expected a mapping from site names to β, got an empty one")
        beta = {site: check_beta(value, name=f"beta[{site!r}]") for site, value in beta.items()}
    else:
        beta = check_beta(beta)
    return Pair(_temper(model, beta), _temper(guide, beta))


def check_beta(beta: Beta, *, name: str = "beta") -> Beta:
    """Return β if it is a finite number ≥ 0 or a 0-dim tensor of one.

    Raises: TypeError if it is something else, ValueError if it is out of range.

    >>> check_beta(4)
    4.0
    """
    expected = f"{name}: expected a finite number >= 0 or a 0-dim tensor of one, got"
    if isinstance(beta, bool) or not isinstance(beta, (int, float, Tensor)):
        raise TypeError(f"{expected} {type(beta).__name__}")
    if isinstance(beta, Tensor) and beta.dim():
        raise ValueError(f"{expected} a tensor of shape {list(beta.shape)}")
    if not 0 <= float(beta) < math.inf:
        raise ValueError(f"{expected} {float(beta)}")
    return beta if isinstance(beta, torch.Tensor) else float(beta)


def _temper(function: PyroFunction, beta: Beta | SiteBetas) -> PyroFunction:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with TemperMessenger(beta):
            return function(*args, **kwargs)

    return wrapped
