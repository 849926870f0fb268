"""What a guide draws beyond the model's latents: told where no weight can be made of it."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import autoguide

from pyro_bvae.diagnostics import check_pair, importance, log_evidence
from pyro_bvae.diagnostics.auxiliary import unmatched_draws
from pyro_bvae.diagnostics.layout import samples

X = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)


def model(x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)


def guide(x, *, weighed=False):
    """w ~ N(x/4, ¼), z ~ N(x/4 + w, ¼), so that z ~ N(x/2, ½), and given z, w ~ N(z/2, ⅛)."""
    with pyro.plate("data", len(x)):
        w = pyro.sample("w", dist.Normal(x / 4, 0.5), infer={"is_auxiliary": True})
        z = pyro.sample("z", dist.Normal(x / 4 + w, 0.5))
        if weighed:
            back = dist.Normal(z / 2, 8**-0.5).log_prob(w)
            pyro.factor("back", -back, has_rsample=True)


def test_a_density_of_more_than_the_latents_is_refused():
    with pytest.raises(ValueError, match=r"guide: expected a density q\(z\|x\) .* of \['w'\]"):
        importance((model, guide), X, num_samples=25)
    finding = check_pair(model, guide, X)["sites"]
    assert finding.verdict == "problem"
    assert "also draws 'w'" in finding.sentence


def test_what_a_factor_or_the_model_weighs_is_taken():
    """The guide is exact then: every weight is p(x)."""
    expected = dist.Normal(0.0, 2**0.5).log_prob(X)

    def with_w(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("w", dist.Normal(z / 2, 8**-0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    for pair in ((model, lambda x: guide(x, weighed=True)), (with_w, guide)):
        found = log_evidence(pair, X, num_samples=25)
        torch.testing.assert_close(found.values, expected)


@pytest.mark.parametrize(
    "name",
    [
        "AutoDelta",
        "AutoDiagonalNormal",
        "AutoGaussian",
        "AutoIAFNormal",
        "AutoLowRankMultivariateNormal",
        "AutoMultivariateNormal",
        "AutoNormal",
        "AutoStructured",
    ],
)
def test_guides_of_pyro_that_make_latents_of_their_draws_are_taken(name):
    """Positive latents, and simplices, which are made of one number less than they have."""

    def simplex(x):
        w = pyro.sample("w", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z * w[0], 1.0), obs=x)

    trace = poutine.trace(getattr(autoguide, name)(simplex)).get_trace(X)
    sites = samples(trace)
    assert {"w", "z"} <= set(sites)
    assert unmatched_draws(sites, {"w", "z"}) == []
