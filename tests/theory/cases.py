"""The test case of the theory, random instances for its laws, and an optimiser to hold it to."""

from collections.abc import Callable

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from pyro_bvae.theory import LinearGuide

SPECTRUM = (4.0, 2.0, 1.0, 0.5, 0.25)
SCALE = 0.3**0.5

laws = settings(deadline=None, max_examples=40)
betas = st.floats(0.1, 20.0)
scales = st.floats(0.1, 3.0)
latent_numbers = st.integers(1, 7)
seeds = st.integers(0, 10_000)
spectra = st.lists(st.floats(0.01, 20.0), min_size=2, max_size=6).map(torch.tensor)


def rotated(spectrum: Tensor, seed: int = 0) -> Tensor:
    """A covariance of this spectrum whose axes are not those of the coordinates."""
    generator = torch.Generator().manual_seed(seed)
    size = len(spectrum)
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
    covariance = axes @ torch.diag(spectrum) @ axes.mT
    return (covariance + covariance.mT) / 2


def random_pair(latents: int, data: int, seed: int) -> tuple[Tensor, Tensor, LinearGuide]:
    """A data covariance, a decoder and a guide of a full covariance."""
    generator = torch.Generator().manual_seed(seed)
    decoder, weight = (torch.randn(data, latents, generator=generator) for _ in range(2))
    roots = (torch.randn(n, n, generator=generator) for n in (data, latents))
    covariance, noise = (root @ root.mT + 0.1 * torch.eye(len(root)) for root in roots)
    return covariance, decoder, LinearGuide(weight.mT, noise)


def maximise(objective: Callable[..., Tensor], *start: Tensor, iterations: int = 400) -> float:
    """Move the tensors of `start` in place to a maximum of the objective, and return it."""
    parameters = [tensor.requires_grad_() for tensor in start]
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=iterations,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -objective(*parameters)
        loss.backward()
        return loss

    optimiser.step(closure)
    return objective(*parameters).item()
