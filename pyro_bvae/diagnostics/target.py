"""Against which distribution a guide is held: the model's posterior, or the tempered one."""

from collections.abc import Sequence
from typing import NamedTuple

from pyro_bvae.beta import check_beta

TARGETS = ("model", "tempered")


class Target(NamedTuple):
    """The density ∝ p(z) p(x|z)^{1/β} of which a guide q(z|x) is a fair approximation or not.

    β = 1 is the model's posterior p(z|x). A guide trained at another β aims at the tempered one,
    so that it may be a perfect guide and far from p(z|x).

    Attributes:
        beta: β > 0.
        data: the names of the observed sites, to print it with.

    >>> str(Target(4.0))
    '∝ p(z) p(x|z)^(1/4)'
    """

    beta: float = 1.0
    data: str = "x"

    @property
    def power(self) -> float:
        """The exponent 1/β of the likelihood."""
        return 1 / self.beta

    def __str__(self) -> str:
        own = f"p(z|{self.data})"
        return own if self.beta == 1 else f"∝ p(z) p({self.data}|z)^(1/{self.beta:g})"

    def given(self, observed: Sequence[str]) -> "Target":
        """Return the same, of the sites that a pair observes: p(z|y) of a bottleneck's."""
        return self._replace(data=",".join(observed))


def as_target(target: str, beta: float | None = None) -> Target:
    """Read what users say: "model", or "tempered" with its β > 0.

    Raises:
        ValueError: another word, "tempered" without β, or β with "model".

    >>> as_target("tempered", 4.0).power
    0.25
    """
    if target not in TARGETS:
        raise ValueError(f"target: expected one of {TARGETS}, got {target!r}")
    if target == "model":
        if beta is not None:
            raise ValueError(
                f"beta: expected none with target='model', which is p(z|x), got {beta!r}; for "
                "p(z) p(x|z)^(1/β) use target='tempered'"
            )
        return Target()
    if beta is None:
        raise ValueError("beta: target='tempered' needs the β > 0 that the guide was trained at")
    value = float(check_beta(beta))
    if value == 0:
        raise ValueError("beta: expected β > 0, as the target is p(z) p(x|z)^(1/β), got 0")
    return Target(value)
