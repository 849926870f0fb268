"""What is a reason to take steps as Pyro does, what is an error, and how often it is said."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from torch import Tensor, nn

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.objectives import ImportanceELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training.notices import FallbackWarning
from tests.training.small_examples import regression
from tests.training.test_svi import ADAM, Recorded


@pytest.mark.parametrize("after", [0, 5])
def test_wrong_arguments_are_pyros_error_and_no_reason_to_fall_back(after: int) -> None:
    """Also where an argument is of a kind that could not be recorded."""
    svi = Recorded(*regression(), ADAM(), Trace_ELBO())
    for _ in range(after):
        svi.step(torch.randn(4, 2))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        svi.step()
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        svi.step(torch.randn(4, 2), {1, 2})
    assert svi.fallback is None
    svi.step(torch.randn(4, 2))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_loss_that_torch_jit_traces_is_left_to_it() -> None:
    data = torch.randn(4, 2)

    def losses(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        trainer = svi(*regression(), ADAM(), JitTrace_ELBO(ignore_jit_warnings=True))
        return [trainer.step(data) for _ in range(5)]

    with pytest.warns(FallbackWarning, match=r"torch\.jit") as said:
        mine = losses(Recorded)
    assert len([w for w in said if w.category is FallbackWarning]) == 1
    assert mine == losses(SVI)


class Halving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2 if x.abs().max() > 1 else x


@pytest.mark.parametrize("mode", ["recorded", "compiled", "auto"])
def test_fit_says_once_that_it_fell_back_and_counts_plates_once(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With several draws in one run, which makes Pyro guess how deep plates are nested."""
    pair = VAE(
        prior=NormalPrior(2),
        likelihood=NormalLikelihood(nn.Linear(2, 6)),
        posterior=MeanFieldPosterior(
            nn.Sequential(Halving(), nn.Linear(6, 5)), latents=2, features=5
        ),
    )
    options: dict[str, Any] = {"validation": 0.25, "every": 5, "progress": False}
    caplog.set_level("INFO", logger="pyro")
    monitor = logging.getLogger("pyro")
    monitor.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            fit(
                pair,
                torch.randn(20, 6),
                steps=20,
                batch_size=5,
                objective=ImportanceELBO(3),
                compile=mode,
                **options,
            )
    finally:
        monitor.removeHandler(caplog.handler)
    assert [w.category for w in caught] == ([] if mode == "auto" else [FallbackWarning])
    guesses = {id(r): r for r in caplog.records if "Guessed max_plate_nesting" in r.getMessage()}
    assert len(guesses) == 1
