"""The words the whole package shares: a pair of Pyro functions, and what may stand for one."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution

PyroFunction = Callable[..., Any]


class Pair(NamedTuple):
    """A generative `model` and the `guide` that approximates its posterior, two Pyro functions.

    >>> model, guide = Pair(lambda x: None, lambda x: None)
    """

    model: PyroFunction
    guide: PyroFunction


@runtime_checkable
class HasPair(Protocol):
    """Anything with a `model` and a `guide`: a `Pair`, a `VAE`, an object of the user's."""

    @property
    def model(self) -> PyroFunction: ...  # noqa: D102

    @property
    def guide(self) -> PyroFunction: ...  # noqa: D102


PairLike = HasPair | tuple[PyroFunction, PyroFunction]


@runtime_checkable
class HasDrawn(Protocol):
    """A model that is trained in another form than it is looked at.

    Where a loss sums a latent out inside, with weights that are no part of a density, `drawn` is
    the pair that draws it: of the same parameters, every latent once for each datum. Diagnostics
    hold it in place of `model` and `guide`.
    """

    @property
    def drawn(self) -> Pair: ...  # noqa: D102


__all__ = [
    "Distribution",
    "HasDrawn",
    "HasPair",
    "Pair",
    "PairLike",
    "PyroFunction",
    "Schedule",
    "as_pair",
    "drawn_of",
]


class Schedule(Protocol):
    """A value for every training step: `schedule(step)` with `step` counted from 0."""

    def __call__(self, step: int) -> float: ...  # noqa: D102


def as_pair(pair: PairLike) -> Pair:
    """Read a pair of Pyro functions from a `Pair`, a `VAE`, or any `(model, guide)`.

    Raises: TypeError if it is none of these.

    >>> as_pair((print, len)).guide is len
    True
    """
    if isinstance(pair, HasPair):
        functions = Pair(pair.model, pair.guide)
    elif isinstance(pair, tuple) and len(pair) == 2:
        functions = Pair(*pair)
    else:
        functions = Pair(None, None)
    if not (callable(functions.model) and callable(functions.guide)):
        raise TypeError(
            "pair: expected an object with a model and a guide (a VAE, a Pair) or a tuple of two "
            f"Pyro functions (model, guide), got {type(pair).__name__}"
        )
    return functions


def drawn_of(pair: PairLike) -> PairLike:
    """Return the pair that draws every latent: what a model offers as `drawn`, else the pair.

    >>> pair = Pair(print, len)
    >>> drawn_of(pair) is pair
    True
    """
    return pair.drawn if isinstance(pair, HasDrawn) else pair
