"""β: the price of a nat, as the effect of `poutine.scale` on the latent sites of a pair."""

import functools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, cast

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
UNCONSTRAINED = "_unconstrained"


class TemperMessenger(Messenger):
    """Multiply the scale of latent sites by β, and note β on the site.

    The note is `site["beta"]`, and `site["infer"]["beta"]` too; `poutine.replay` gives a model's
    site the `infer` of the guide's, so only the first tells the two apart.

    Of the latent sites, those inside a plate are tempered: the local ones, not a global parameter
    with a prior. A mapping names the sites instead. In a guide nothing is data, so its
    `pyro.factor` statements, which are corrections of log q, are tempered too.
    """

    def __init__(self, beta: Beta | SiteBetas, *, guide: bool = False) -> None:
        super().__init__()
        self.beta = beta
        self.guide = guide

    def __enter__(self) -> "TemperMessenger":
        self._outer = list(_PYRO_STACK)
        self._data_plates: set[str] = set()
        self._plates: dict[str, set[str]] = {}
        self._tempered: set[str] = set()
        self._auxiliary: set[str] = set()
        return super().__enter__()

    def _pyro_sample(self, msg: Any) -> None:
        if poutine.util.site_is_subsample(msg):
            return
        plates = self._plates_of(msg)
        if self._is_data(msg):
            self._data_plates |= set() if msg["infer"].get("_deterministic") else plates
            return
        self._plates[msg["name"]] = plates
        if msg["infer"].get("is_auxiliary"):
            self._auxiliary.add(msg["name"])
        beta = self._beta_of(msg, plates)
        if beta is None:
            return
        self._tempered.add(msg["name"])
        if self._will_be_data(msg):
            self._data_plates |= plates
            return
        msg["beta"] = beta * msg["beta"] if "beta" in msg else beta
        msg["infer"] = {**msg["infer"], "beta": msg["beta"]}
        if not any(isinstance(handler, UntemperedMessenger) for handler in _PYRO_STACK):
            msg["scale"] = beta * msg["scale"]

    def _is_data(self, msg: Any) -> bool:
        factor = self.guide and type(msg["fn"]).__name__ == "Unit"
        return (msg["is_observed"] and not factor) or msg["infer"].get("was_observed", False)

    def _will_be_data(self, msg: Any) -> bool:
        """Whether a handler outside, which sees the site later, is going to observe it."""
        return any(
            isinstance(handler, ConditionMessenger) and msg["name"] in handler.data
            for handler in self._outer
        )

    def _plates_of(self, msg: Any) -> set[str]:
        plates = {frame.name for frame in msg["cond_indep_stack"]}
        plates |= {handler.name for handler in self._outer if isinstance(handler, IndepMessenger)}
        return plates - VECTORISATION_PLATES

    def _beta_of(self, msg: Any, plates: set[str]) -> Beta | None:
        if not isinstance(self.beta, Mapping):
            return self.beta if plates else None
        auxiliary = msg["infer"].get("is_auxiliary", False)
        return self.beta.get(msg["name"].removesuffix(UNCONSTRAINED if auxiliary else ""))

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        neutral = isinstance(self.beta, float) and self.beta == 1
        if exc_type is None and self._plates and not neutral:
            self._check_names() if isinstance(self.beta, Mapping) else self._check_plates()
            self._check_auxiliary()

    def _check_names(self) -> None:
        unknown = sorted(set(cast(SiteBetas, self.beta)) - set(self._plates))
        if unknown:
            raise ValueError(
                f"beta: no latent site is named {unknown}; there are {sorted(self._plates)}"
            )

    def _check_plates(self) -> None:
        if not self._tempered:
            raise ValueError(
                f"beta: none of the latent sites {sorted(self._plates)} lies in a plate, so none "
                'is local to a datum; put them in a plate, or name them: beta={"z": 4.0}'
            )
        away = sorted(name for name in self._tempered if not self._plates[name] & self._data_plates)
        if away and self._data_plates:
            raise ValueError(
                f"beta: the latent sites {away} lie in plates, but in none that holds data, so "
                'they may be global; name the sites to temper: beta={"z": 4.0}'
            )

    def _check_auxiliary(self) -> None:
        """Raise if a guide has a site for several latents at once, of which only some have β."""
        orphans = sorted(
            name
            for name in self._auxiliary - self._tempered
            if name.removesuffix(UNCONSTRAINED) not in self._plates.keys() - {name}
        )
        if orphans and self._tempered:
            raise ValueError(
                f"beta: the guide's auxiliary sites {orphans} belong to no single latent site, so "
                "they have no β of their own; use a guide with a site per latent (AutoNormal)"
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
            site in a plate, or one in a plate without data, a name in the mapping that no latent
            site has, or a guide with one site for all latents.
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
    return Pair(_temper(model, beta), _temper(guide, beta, guide=True))


def check_beta(beta: Beta, *, name: str = "beta") -> Beta:
    """Return β if it is a finite number ≥ 0 or a 0-dim tensor of one.

    Raises: TypeError if it is something else, ValueError if it is out of range.

    >>> check_beta(4)
    4.0
    """
    expected = f"{name}: expected a finite number >= 0 or a 0-dim tensor of one, got"
    if isinstance(beta, bool) or not isinstance(beta, (Real, Tensor)):
        raise TypeError(f"{expected} {type(beta).__name__}")
    if isinstance(beta, Tensor) and beta.dim():
        raise ValueError(f"{expected} a tensor of shape {list(beta.shape)}")
    value = beta.item() if isinstance(beta, Tensor) else float(beta)
    if not 0 <= value < math.inf:
        raise ValueError(f"{expected} {value}")
    return beta if isinstance(beta, Tensor) else value


def _temper(function: PyroFunction, beta: Beta | SiteBetas, *, guide: bool = False) -> PyroFunction:
    @functools.wraps(function, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with TemperMessenger(beta, guide=guide):
            return function(*args, **kwargs)

    wrapped.is_tempered = True  # type: ignore[attr-defined]
    return wrapped
