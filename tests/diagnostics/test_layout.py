"""Which plate holds the data, and what lies in it: exact evidence where plates are as large."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

from pyro_bvae.diagnostics import amortization_gap, importance, log_evidence
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.objectives import ELBO, ImportanceELBO

X = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)


def evidence(x):
    return dist.Normal(0.0, 2**0.5).log_prob(x)


def in_rows(left):
    """z ~ N(0, 1), x ~ N(z, 1) for each column of each row, its plate left or right of the data."""

    def plates(x):
        pixels = pyro.plate("pixels", x.shape[1], dim=-2 if left else -1)
        return pixels, pyro.plate("data", len(x), dim=-1 if left else -2)

    def model(x):
        a, b = plates(x)
        with a, b:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.mT if left else x)

    def guide(x):
        a, b = plates(x)
        with a, b:
            pyro.sample("z", dist.Normal((x.mT if left else x) / 2, 0.5**0.5))

    return model, guide


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize(("data", "pixels"), [(3, 3), (4, 3), (1, 1), (2, 2), (4, 4)])
def test_a_plate_as_large_as_the_data_is_not_theirs(left, data, pixels):
    x = X[:data, None] + torch.arange(pixels)
    found = log_evidence(in_rows(left), x, num_samples=25)
    torch.testing.assert_close(found.values, evidence(x).sum(1))


@pytest.mark.parametrize("left", [True, False])
def test_objectives_count_data_whatever_plate_is_the_outermost(left):
    """All importance weights of the exact guide are p(x)."""
    x = X[:, None] + torch.arange(3)
    estimate = ELBO().estimate(*in_rows(left), x)
    assert estimate.data == len(X)
    bound = -ImportanceELBO(5).loss(*in_rows(left), x)
    assert bound == pytest.approx(evidence(x).sum().item(), rel=1e-12)


@pytest.mark.parametrize("number", [3, 4])
def test_a_plate_of_shared_latents_as_large_as_the_data_holds_none(number):
    """Their densities are no part of a datum's, whether drawn, or made of auxiliary draws."""

    def model(x):
        with pyro.plate("shared", number):
            pyro.sample("w", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x, *, auxiliary):
        with pyro.plate("shared", number):
            if auxiliary:
                u = pyro.sample("u", dist.Normal(0.0, 0.5), infer={"is_auxiliary": True})
                pyro.sample("w", dist.Delta(u.exp(), log_density=-u))
            else:
                pyro.sample("w", dist.LogNormal(0.0, 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    x = X[:number]
    for auxiliary in (False, True):
        pair = (model, lambda x, given=auxiliary: guide(x, auxiliary=given))
        found = log_evidence(pair, x, num_samples=25)
        torch.testing.assert_close(found.values, evidence(x))


def with_places():
    """Parameters of each datum's own, found by its place, in an `AutoNormal` that was trained."""

    def model(x, places):
        with pyro.plate("data", len(X), subsample=places):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    guide = AutoNormal(model, create_plates=lambda x, p: pyro.plate("data", len(X), subsample=p))
    data = (X, torch.arange(len(X)))
    svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(100):
        svi.step(*data)
    return (model, guide), data


def test_a_guide_with_parameters_for_each_datum_takes_their_places():
    """All its draws are taken at once, and refined it is exact: N(x/2, ½) is normal."""
    pair, data = with_places()
    assert Sampler(pair, data).stacks
    gap = amortization_gap(pair, data, num_samples=50, learning_rate=0.05)
    torch.testing.assert_close(gap.refined, evidence(X), atol=1e-3, rtol=0)
    assert gap.amortization.mean() > 0.001


def test_a_guide_made_for_all_data_at_once_is_told_to_take_their_places():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    guide = AutoNormal(model)
    guide(X)
    with pytest.raises(ValueError, match=r"plate of the 3 data .* \[\('data', 4\)\].*subsample=pl"):
        importance((model, guide), X, num_samples=25)
