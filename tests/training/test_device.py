"""Every step can be one graph of a device: all of it is there, and nothing is read from it.

The device is "meta", on which tensors have no numbers. It refuses to mix its tensors with others
of more than one number, and to be read, as no graph of a device could be; whether it gives the
right numbers is the other tests' affair.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from torch import nn

from pyro_bvae import VAE, tempered
from pyro_bvae.objectives import ELBO, Objective
from pyro_bvae.training import captured, recording
from pyro_bvae.training.critic import critic_adam, trainer
from pyro_bvae.training.gradients import Gradients
from pyro_bvae.training.recording import Recording
from tests.models.cases import CASES, bottleneck, conditional, partial_factors
from tests.objectives.examples import FAMILY
from tests.posteriors.test_families import VAES
from tests.training.test_captured import StandIn
from tests.training.test_svi import OPTIMISERS

META = torch.device("meta")
ADAM = partial(torch.optim.Adam, lr=1e-3)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """Give the device graphs, of what was recorded, and no numbers to compare."""

    class Counted(StandIn):
        pass

    monkeypatch.setitem(captured.GRAPHS, "meta", Counted)
    monkeypatch.setattr(Recording, "compiled", lambda self, inputs: self)
    monkeypatch.setattr(recording, "_equal", lambda a, b: True)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)
    return Counted


def assert_captured(
    model: nn.Module,
    data: tuple[torch.Tensor, ...],
    graphs: type[StandIn],
    *,
    objective: Objective,
    optim: Any = ADAM,
    gradients: Gradients | None = None,
) -> None:
    """Take a step by Pyro, two that are recorded, and one as a graph for each optimiser."""
    for module in (model, objective.critic):
        if module is not None:
            module.to(META)
    beta = torch.tensor(0.7)
    svi = trainer(
        *tempered(model, beta), optim, objective, critic_optim=critic_adam, mode="compiled", steps=4
    )
    svi.gradients = gradients or svi.gradients
    with pyro.validation_enabled(False):
        losses = [svi.step_terms(*(part.to(META) for part in data))[0] for _ in range(4)]
    assert {loss.device for loss in losses} == {META}
    graphs_of_a_step = 1 if objective.critic is None else 2
    assert (graphs.captures, graphs.replays) == (graphs_of_a_step, graphs_of_a_step)


@pytest.mark.parametrize("make", CASES)
def test_of_every_model(make: Callable[[], Any], graphs: type[StandIn]) -> None:
    case = make()
    assert_captured(case.model, case.data, graphs, objective=ELBO())


@pytest.mark.parametrize("name", FAMILY)
def test_by_every_objective(name: str, graphs: type[StandIn]) -> None:
    """Whose particles, codes and critics are tensors too."""
    case = partial_factors() if name in ("elbo", "importance") else conditional()
    assert_captured(case.model, case.data, graphs, objective=FAMILY[name]())


@pytest.mark.parametrize("name", [name for name in VAES if name != "flows"])
def test_with_every_part(name: str, graphs: type[StandIn]) -> None:
    vae: VAE = VAES[name]()
    x = vae.model(size=8).detach()
    assert_captured(vae, (x,), graphs, objective=ELBO())


ELSEWHERE = ("after the graph", "fused", "per parameter")
IN_THE_GRAPH = [name for name in OPTIMISERS if not any(word in name for word in ELSEWHERE)]


@pytest.mark.parametrize("name", IN_THE_GRAPH)
def test_by_every_optimiser(name: str, graphs: type[StandIn]) -> None:
    case = bottleneck()
    optim = OPTIMISERS[name]()
    assert_captured(case.model, case.data, graphs, objective=ELBO(), optim=optim)


@pytest.mark.parametrize("gradients", [Gradients(clip_norm=0.1), Gradients(accumulate=5)])
def test_with_gradients_that_are_changed(gradients: Gradients, graphs: type[StandIn]) -> None:
    case = bottleneck()
    assert_captured(case.model, case.data, graphs, objective=ELBO(), gradients=gradients)
