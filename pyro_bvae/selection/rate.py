"""Find the β at which a pair spends a given number of nats."""

import math
from typing import Any, NamedTuple

from torch import Tensor

from pyro_bvae.selection import training
from pyro_bvae.selection.training import restore, weights_of
from pyro_bvae.training import evaluate
from pyro_bvae.types import PairLike


class RateSearch(NamedTuple):
    """`beta`, the `rate` in nats per datum measured there, and all `tried`: β → rate."""

    beta: float
    rate: float
    tried: dict[float, float]


def beta_for_rate(
    pair: PairLike,
    data: Any,
    *,
    rate: float,
    steps: int,
    low: float = 0.1,
    high: float = 100.0,
    tolerance: float = 0.05,
    trainings: int = 15,
    evaluation: Any = None,
    **fitting: Any,
) -> RateSearch:
    """Train a pair at the β whose rate, the mean KL(q‖p), is the one asked for.

    Bisection in ln β, as the rate falls with β. Every training starts from the weights of the
    lower end of the bracket: from there a latent can switch off, whereas one that a high β has
    switched off would not come back. `theory.beta_for_rate` has the answer of the linear model.

    Args:
        pair: a `VAE`, or any `(model, guide)`. Trained in place; it ends with the weights of the β
            that is returned (of a pair that is no module: the parameters in Pyro's store).
        data: what to train on (see `datasets.as_source`).
        rate: the target, nats per datum, > 0.
        steps: of each training; too few, and the rate measured is not yet the rate of that β.
        low, high: the bracket of β.
        tolerance: by how many nats the rate may miss the target.
        trainings: how many at most; the closest one is returned where none was close enough.
        evaluation: the data to measure the rate on; `data` by default.
        fitting: more for `fit`, such as `seed`, `batch_size`, `optim`.

    Raises:
        ValueError: not 0 < low < high, or the rate at `low` is below the target or the one at
            every β up to `high` above it.

    References:
        Alemi et al. (2018), Fixing a Broken ELBO, for the rate as what one chooses.
    """
    _check(rate=rate, low=low, high=high, tolerance=tolerance, trainings=trainings)
    measured_on = data if evaluation is None else evaluation
    tried = dict[float, float]()

    def train(beta: float) -> dict[str, Tensor]:
        training.train(pair, data, beta=beta, steps=steps, **{"progress": False, **fitting})
        tried[beta] = float(evaluate(pair, measured_on)["kl"])
        return weights_of(pair)

    start = best = train(low)
    closest, ends = low, [math.log(low), math.log(high)]
    if tried[low] < rate - tolerance:
        raise ValueError(
            f"rate: the pair spends {tried[low]:.3g} nats at beta={low:g}, fewer than {rate:g}; "
            "lower `low`, or give it more latents or steps"
        )
    while abs(tried[closest] - rate) > tolerance and len(tried) < trainings:
        restore(pair, start)
        beta = math.exp(sum(ends) / 2)
        weights = train(beta)
        if abs(tried[beta] - rate) < abs(tried[closest] - rate):
            closest, best = beta, weights
        if tried[beta] > rate:
            start, ends[0] = weights, math.log(beta)
        else:
            ends[1] = math.log(beta)
    if min(tried.values()) > rate + tolerance:
        raise ValueError(
            f"rate: the pair spends {min(tried.values()):.3g} nats or more up to "
            f"beta={max(tried):.3g}, more than {rate:g}; raise `high` above {high:g}"
        )
    restore(pair, best)
    return RateSearch(closest, tried[closest], tried)


def _check(**values: float) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")
    if values["low"] >= values["high"]:
        raise ValueError(f"low, high: expected low < high, got {values['low']}, {values['high']}")
