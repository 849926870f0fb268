"""The water level t = βσ_x²: with a normal likelihood of fixed σ_x, β and σ_x² are one knob.

For any decoder, linear or not, the objective L(β, σ_x²) = −Dist − βR of D dimensions obeys

    L(β, s) + (D/2) ln 2πs = β [L(1, βs) + (D/2) ln 2πβs],

so both sides have the same optimum and gradients that differ by the factor β. It does not hold for
a Bernoulli likelihood, nor for a learned σ_x.
"""

from typing import Literal

from torch import Tensor

from pyro_bvae.theory.checks import Real, level_of, positive, type_of, whole

SquaredError = Literal["sum", "half", "mean"]


def water_level(beta: Real, *, likelihood_scale: Real) -> Tensor:
    """Return t = βσ_x², the squared error that an active latent leaves along its direction.

    Raises:
        ValueError: β or σ_x is not a finite number > 0.

    References:
        Higgins et al. (2017), beta-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework, for β.
        Rybkin, Daniilidis, Levine (2021), Simple and Effective VAE Training with Calibrated
        Decoders, for β as a likelihood variance.

    >>> float(water_level(4.0, likelihood_scale=0.5))
    1.0
    """
    return level_of(beta, likelihood_scale, like=type_of(beta, likelihood_scale))


def squared_error_water_level(
    weight: Real, *, squared_error: SquaredError, dimensions: int | None = None
) -> Tensor:
    """Return the water level t of a loss c·‖x − x̂‖² + B·KL, which is t = B/(2c).

    Args:
        weight: B, what the loss calls β: the factor of a KL that is summed over latents.
        squared_error: how the loss adds up the squared error of one datum. `"sum"` over the D
            dimensions, t = B/2; `"half"` of that sum, t = B; `"mean"` over them, t = BD/2.
        dimensions: D, needed for `"mean"`.

    Raises:
        ValueError: B not positive, an unknown name, or `"mean"` without D.

    >>> float(squared_error_water_level(1.0, squared_error="mean", dimensions=784))
    392.0
    """
    level = positive(weight, "weight", like=type_of(weight))
    if squared_error == "sum":
        return level / 2
    if squared_error == "half":
        return level
    if squared_error != "mean":
        raise ValueError(f"squared_error: expected 'sum', 'half' or 'mean', got {squared_error!r}")
    if dimensions is None:
        raise ValueError("dimensions: squared_error='mean' needs D, the dimensions of one datum")
    return level * whole(dimensions, "dimensions") / 2


def equivalent_beta(
    weight: Real,
    *,
    squared_error: SquaredError,
    likelihood_scale: Real,
    dimensions: int | None = None,
) -> Tensor:
    """Return the β that, with a normal likelihood of scale σ_x, does what a paper's loss does.

    β = t/σ_x², with t the water level of c·‖x − x̂‖² + B·KL: see `squared_error_water_level`.

    Args:
        weight: B, what the paper calls β.
        squared_error: `"sum"`, `"half"` or `"mean"` over the D dimensions of one datum.
        likelihood_scale: the σ_x of the `NormalLikelihood` to carry it over to.
        dimensions: D, needed for `"mean"`.

    Raises:
        ValueError: as `squared_error_water_level`, or σ_x not positive.

    >>> float(equivalent_beta(4.0, squared_error="half", likelihood_scale=1.0))
    4.0
    >>> float(equivalent_beta(0.5, squared_error="mean", dimensions=4096, likelihood_scale=1.0))
    1024.0
    """
    level = squared_error_water_level(weight, squared_error=squared_error, dimensions=dimensions)
    return level / positive(likelihood_scale, "likelihood_scale", like=level) ** 2
