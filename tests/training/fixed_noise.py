"""A pair whose draws are data, so that runs in other parts or processes draw the same."""

from typing import Any

import pyro
import torch
from pyro import distributions as dist
from torch import Tensor, nn


class NormalOfNoise(dist.Normal):
    """A normal distribution whose draw is made of noise that it is given."""

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        self.noise = noise
        super().__init__(loc, scale, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "NormalOfNoise":
        parts = (self.loc, self.scale, self.noise)
        return NormalOfNoise(*(part.expand(batch_shape) for part in parts))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc + self.scale * self.noise


class FixedNoise(nn.Module):
    """z ~ N(0, 1), x ~ N(w z, σ), with a guide that draws z by the noise it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
        self.decoder = nn.Linear(1, 6)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def model(self, x: Tensor, noise: Tensor) -> None:
        pyro.module("pair", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            loc = self.decoder(z.unsqueeze(-1))
            pyro.sample("x", dist.Normal(loc, self.log_scale.exp()).to_event(1), obs=x)

    def guide(self, x: Tensor, noise: Tensor) -> None:
        pyro.module("pair", self)
        loc, log_scale = self.encoder(x).unbind(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", NormalOfNoise(loc, log_scale.exp(), noise))


def pair_and_data() -> tuple[FixedNoise, tuple[Tensor, Tensor]]:
    """The same pair and data in every process."""
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    torch.manual_seed(0)
    pair = FixedNoise()
    x = torch.randn(90, 1) * torch.linspace(0.5, 2.0, 6) + 0.1 * torch.randn(90, 6)
    return pair, (x, torch.randn(90))
