"""Some recorded steps are taken both ways: that leaves no trace, and finds what is not followed."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_bvae.training import recorded_step
from pyro_bvae.training.notices import FallbackWarning, RecompileWarning
from pyro_bvae.training.svi import CompiledSVI
from pyro_bvae.training.trial import changed_by
from tests.training import small_examples
from tests.training.test_svi import (
    OPTIMISERS,
    PAIRS,
    Make,
    Recorded,
    assert_equal,
    run,
    run_seen,
)

DATA = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.double)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two recorded steps are tried, the third is not."""
    monkeypatch.setattr(recorded_step, "FIRST_TRIAL", 1)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("make", PAIRS)
def test_steps_that_are_tried_equal_pyros_to_the_last_bit(make: Make) -> None:
    assert_equal(run_seen(make, Recorded), run_seen(make, SVI))


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("optim", OPTIMISERS.values(), ids=OPTIMISERS)
def test_every_optimiser_is_put_back(optim: Callable[[], Any]) -> None:
    make = small_examples.mean_and_scale
    assert_equal(run(make, Recorded, optim), run(make, SVI, optim))


class Unfollowed:
    """Trains a mean that is a parameter times a number that lies in a file."""

    def __init__(self, file: Path, mode: str) -> None:
        self.file = file
        self.svi = CompiledSVI(
            self.model, lambda x: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), mode=mode
        )

    def model(self, x: Tensor) -> None:
        mean = pyro.param("mean", torch.tensor(0.3)) * float(self.file.read_text())
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def stale(self, rates: list[float]) -> list[int]:
        """Return the numbers of the steps whose loss is not that of the rate."""
        found = []
        for number, rate in enumerate(rates):
            self.file.write_text(str(rate))
            mean = pyro.param("mean").item() if number else 0.3
            expected = -dist.Normal(mean * rate, 1.0).log_prob(DATA).sum().item()
            if self.svi.step(DATA) != pytest.approx(expected, rel=1e-12):
                found.append(number)
        return found


@pytest.mark.parametrize("mode", ["recorded", "compiled"])
def test_a_change_that_cannot_be_followed_is_noticed_and_said(mode: str, tmp_path: Path) -> None:
    """Two steps are recorded after the first; the 16th, the 32nd and so on are tried."""
    training = Unfollowed(tmp_path / "rate", mode)
    with warnings.catch_warnings(record=True, action="always") as said:
        stale = training.stale([1.0] * 22 + [3.0] * 38)
    assert stale == list(range(22, 3 + 31))
    assert "not what pyro.infer.SVI's is" in str(said[0].message)
    assert "within the last 16 steps" in str(said[0].message)
    again = [] if mode == "recorded" else [RecompileWarning]
    assert [warning.category for warning in said] == [FallbackWarning, *again]
    assert training.svi.fallback is None


def test_what_keeps_changing_unnoticed_falls_back_for_good(tmp_path: Path) -> None:
    training = Unfollowed(tmp_path / "rate", "recorded")
    with warnings.catch_warnings(record=True, action="always") as said:
        training.stale([float(1 + number // 10) for number in range(100)])
    assert [warning.category for warning in said] == [FallbackWarning] * 3
    assert training.svi.fallback is not None


@pytest.mark.usefixtures("soon")
def test_a_generator_of_the_users_own_is_put_back() -> None:
    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        generator = torch.Generator().manual_seed(3)

        def model(x: Tensor) -> None:
            noise = torch.randn(4, generator=generator)
            mean = pyro.param("mean", torch.tensor(0.3)) + noise
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

        trainer = svi(model, lambda x: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        return [trainer.step(DATA) for _ in range(8)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(Recorded) == train(SVI)


@pytest.mark.parametrize(
    ("function", "changed"),
    [
        (lambda x, y: x + y, []),
        (lambda x, y: x.add_(y), [0]),
        (lambda x, y: x.clone().add_(y), []),
        (lambda x, y: y.view(2, 2)[0].mul_(x[:2]).detach().add_(1), [1]),
        (lambda x, y: torch._foreach_add_([x, y], 1.0), [0, 1]),
        (lambda x, y: x.split(2)[1].copy_(y[:2]), [0]),
    ],
)
def test_what_a_graph_changes_in_place(function: Any, changed: list[int]) -> None:
    def returned(x: Tensor, y: Tensor) -> Tensor:
        function(x, y)
        return x + y

    graph = make_fx(partial(returned))(torch.ones(4), torch.ones(4)).graph
    assert changed_by(graph) == changed
