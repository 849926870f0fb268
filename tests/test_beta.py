"""β: laws of the handler, and its equality with `poutine.scale` written by hand."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.poutine.runtime import _PYRO_STACK

from pyro_bvae import Pair, tempered, untempered
from pyro_bvae.beta import check_beta

betas = st.floats(0.01, 100.0)


class Toy:
    """w ~ N(0, 1), z_i ~ N(w, σ_j), x_i ~ N(Az_i, 1): a global and a local latent site.

    `beta` scales the site "z" by `poutine.scale`, by hand, within the plate or around it.
    """

    def __init__(self, latents=2, *, batch=4, size=None, beta=None, outside=False):
        generator = torch.Generator().manual_seed(latents)
        self.x = torch.randn(batch, 3, generator=generator)
        self.size, self.beta, self.outside = size or batch, beta, outside
        self.a = torch.randn(latents, 3, generator=generator).requires_grad_()
        self.v = torch.randn(3, latents, generator=generator).requires_grad_()
        self.s = torch.full((latents,), -1.0, requires_grad=True)
        self.w = torch.tensor([0.3, -0.7], requires_grad=True)
        self.parameters = [self.a, self.v, self.s, self.w]

    def plate(self):
        return pyro.plate("data", self.size, subsample=torch.arange(len(self.x)))

    def z(self, fn):
        if self.beta is None or self.outside:
            return pyro.sample("z", fn)
        with poutine.scale(scale=self.beta):
            return pyro.sample("z", fn)

    def latent(self, fn, plate):
        if self.beta is not None and self.outside:
            with poutine.scale(scale=self.beta), plate:
                return self.z(fn)
        with plate:
            return self.z(fn)

    def model(self):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        scale = torch.linspace(0.5, 1.5, len(self.s))
        plate = self.plate()
        z = self.latent(dist.Normal(w.unsqueeze(-1), scale).to_event(1), plate)
        with plate:
            pyro.sample("x", dist.Normal(z @ self.a, 1.0).to_event(1), obs=self.x)

    def guide(self):
        pyro.sample("w", dist.Normal(self.w[0], self.w[1].exp()))
        self.latent(dist.Normal(self.x @ self.v, self.s.exp()).to_event(1), self.plate())


def loss_and_grads(elbo, pair, parameters):
    pyro.set_rng_seed(0)
    loss = elbo.differentiable_loss(pair.model, pair.guide)
    return [loss.detach(), *torch.autograd.grad(loss, parameters)]


def traces(pair, *args):
    pyro.set_rng_seed(0)
    guide = poutine.trace(pair.guide).get_trace(*args)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*args)
    for trace in (model, guide):
        trace.compute_log_prob()
    return model, guide


def samples(trace):
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }


def assert_same(ours, theirs):
    """The same values, log-probabilities and scales at every sample site of two pairs of traces."""
    for mine, other in zip(ours, theirs, strict=True):
        mine, other = samples(mine), samples(other)
        assert list(mine) == list(other)
        for name in mine:
            assert torch.equal(mine[name]["value"], other[name]["value"])
            assert torch.equal(mine[name]["log_prob"], other[name]["log_prob"])
            assert mine[name]["scale"] == other[name]["scale"]
            assert mine[name]["is_observed"] == other[name]["is_observed"]


@pytest.mark.parametrize("beta", [1, 1.0, torch.tensor(1.0), {"z": 1.0}])
def test_one_is_the_identity(beta):
    toy = Toy(size=9)
    assert_same(traces(tempered(toy, beta)), traces(toy))


@settings(deadline=None, max_examples=25)
@given(
    beta=betas,
    latents=st.integers(1, 4),
    batch=st.sampled_from([1, 2, 4, 8]),
    times=st.sampled_from([1, 2, 16]),
    elbo=st.sampled_from([Trace_ELBO(), TraceMeanField_ELBO()]),
)
def test_equals_scale_by_hand_to_the_last_bit(beta, latents, batch, times, elbo):
    """Batches of 2^k: there plates multiply exactly, so no order of factors can show."""
    toy = Toy(latents, batch=batch, size=batch * times)
    hand = Toy(latents, batch=batch, size=batch * times, beta=beta)
    ours = loss_and_grads(elbo, tempered(toy, beta), toy.parameters)
    theirs = loss_and_grads(elbo, hand, hand.parameters)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@settings(deadline=None, max_examples=25)
@given(
    beta=betas,
    batch=st.integers(1, 9),
    more=st.integers(0, 100),
    elbo=st.sampled_from([Trace_ELBO(), TraceMeanField_ELBO()]),
)
def test_equals_scale_around_the_plate_for_any_batch(beta, batch, more, elbo):
    """To the last bit around the plate; within it Pyro rounds (β·N)/B and not β·(N/B)."""
    sizes = {"batch": batch, "size": batch + more}
    toy = Toy(**sizes)
    ours = loss_and_grads(elbo, tempered(toy, beta), toy.parameters)
    for outside in (True, False):
        hand = Toy(**sizes, beta=beta, outside=outside)
        theirs = loss_and_grads(elbo, hand, hand.parameters)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b) if outside else torch.allclose(a, b, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(first=betas, second=betas)
def test_nested_betas_multiply(first, second):
    toy = Toy()
    nested = traces(tempered(tempered(toy, first), second))
    once = traces(tempered(toy, first * second))
    for mine, other in zip(nested, once, strict=True):
        assert mine.nodes["z"]["scale"] == pytest.approx(other.nodes["z"]["scale"], rel=1e-15)
        assert mine.nodes["z"]["infer"]["beta"] == pytest.approx(first * second, rel=1e-15)
        assert mine.nodes["w"]["scale"] == 1


@settings(deadline=None, max_examples=20)
@given(beta=st.floats(0.0, 100.0))
def test_the_elbo_is_recoverable(beta):
    """Taking β off the scale of each site, as noted, gives the log-probabilities of the pair."""
    toy = Toy(size=12)
    for hot, cold in zip(traces(tempered(toy, beta)), traces(toy), strict=True):
        for name, site in samples(hot).items():
            factor = site["infer"].get("beta", 1.0)
            assert factor == (beta if name == "z" else 1)
            expected = factor * cold.nodes[name]["log_prob"]
            assert torch.allclose(site["log_prob"], expected, rtol=1e-12)
    with untempered():
        assert_same(traces(tempered(toy, beta)), traces(toy))


def test_only_local_latents_are_scaled_unless_named():
    def scales(beta):
        return [
            {name: site["scale"] for name, site in samples(trace).items()}
            for trace in traces(tempered(Toy(size=12), beta))
        ]

    assert scales(5.0) == [{"w": 1, "z": 15, "x": 3}, {"w": 1, "z": 15}]
    assert scales({"z": 5.0}) == scales(5.0)
    assert scales({"w": 2.0}) == [{"w": 2, "z": 3, "x": 3}, {"w": 2, "z": 3}]
    assert scales({"w": 2.0, "z": 5.0}) == [{"w": 2, "z": 15, "x": 3}, {"w": 2, "z": 15}]


def test_zero_leaves_the_likelihood():
    toy = Toy()
    model, guide = traces(tempered(toy, 0.0))
    assert (model.nodes["z"]["log_prob"] == 0).all()
    assert (guide.nodes["z"]["log_prob"] == 0).all()
    assert torch.equal(model.nodes["x"]["log_prob"], traces(toy)[0].nodes["x"]["log_prob"])
    loss, *grads = loss_and_grads(TraceMeanField_ELBO(), tempered(toy, 0.0), toy.parameters)
    assert all(torch.isfinite(value).all() for value in (loss, *grads))


def test_a_tensor_changed_in_place_is_seen():
    toy, beta = Toy(), torch.tensor(2.0)
    pair = tempered(toy, beta)
    for value in (2.0, 0.5, 0.0, 7.0):
        beta.fill_(value)
        expected = loss_and_grads(TraceMeanField_ELBO(), tempered(toy, value), toy.parameters)
        got = loss_and_grads(TraceMeanField_ELBO(), pair, toy.parameters)
        for a, b in zip(got, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-14, atol=0)


def test_beta_itself_may_carry_gradients():
    """dLoss/dβ = KL, the closed form for T = TraceMeanField_ELBO."""
    toy, beta = Toy(), torch.tensor(3.0, requires_grad=True)
    loss, grad = loss_and_grads(TraceMeanField_ELBO(), tempered(toy, beta), [beta])
    ones, _ = loss_and_grads(TraceMeanField_ELBO(), tempered(toy, torch.ones_like(beta)), [toy.v])
    assert torch.allclose(loss - ones, 2 * grad)


@pytest.mark.parametrize("site", ["z", "w", "x"])
def test_order_of_condition_does_not_matter(site):
    """A site that `condition` observes, inside or outside, is data and keeps its scale."""
    toy = Toy(size=12)
    value = {"z": torch.ones(4, 2), "w": torch.tensor(0.5), "x": torch.zeros(4, 3)}
    data = {site: value[site]}

    def trace(function):
        pyro.set_rng_seed(0)
        found = poutine.trace(function).get_trace()
        found.compute_log_prob()
        return found

    hot = tempered(toy, 4.0).model
    outside = trace(poutine.condition(hot, data))
    if site != "z":
        inside = trace(tempered((poutine.condition(toy.model, data), toy.guide), 4.0).model)
        assert_same([inside], [outside])
    assert outside.nodes[site]["is_observed"]
    assert outside.nodes[site]["scale"] == (1 if site == "w" else 3)
    assert outside.nodes["z"]["scale"] == (3 if site == "z" else 12)


def test_uncondition_leaves_data_alone():
    toy = Toy()
    for trace in (
        poutine.trace(poutine.uncondition(tempered(toy, 4.0).model)).get_trace(),
        poutine.trace(tempered((poutine.uncondition(toy.model), toy.guide), 4.0).model).get_trace(),
    ):
        assert trace.nodes["x"]["scale"] == 1
        assert trace.nodes["z"]["scale"] == 4


def test_plates_around_the_pair_count():
    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    def within(function):
        def run():
            with pyro.plate("data", 12, subsample=torch.arange(4)):
                function()

        return run

    hot = tempered((model, model), 5.0).model
    assert poutine.trace(within(hot)).get_trace().nodes["z"]["scale"] == 15


@pytest.mark.parametrize("named", [False, True])
def test_predictive_with_posterior_samples(named):
    """Conditioning on z leaves only a global latent site, which is no reason to complain."""
    toy = Toy()
    hot = tempered(toy, {"z": 4.0} if named else 4.0)
    z = torch.randn(7, 4, 2)
    for pair in (hot, toy):
        pyro.set_rng_seed(0)
        drawn = Predictive(pair.model, posterior_samples={"z": z}, return_sites=["w"])()
        if pair is hot:
            expected = drawn["w"]
    assert torch.equal(drawn["w"], expected)
    assert Predictive(hot.model, guide=hot.guide, num_samples=3, parallel=True)()["x"].shape[0] == 3


class Local:
    """z ~ LogNormal(0, 1) and x ~ N(z, s), s ~ HalfNormal(1): constrained latent sites."""

    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def model(self):
        s = pyro.sample("s", dist.HalfNormal(1.0))
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, s), obs=self.x)


@pytest.mark.parametrize("beta", [4.0, {"z": 4.0}])
def test_autonormal_is_tempered_whole(beta):
    """The auxiliary site and the Jacobian weigh as the latent they stand for."""
    model = Local().model
    guide = AutoNormal(model)
    guide()
    hot, cold = traces(tempered((model, guide), beta)), traces(Pair(model, guide))
    for name in ("z", "z_unconstrained", "s", "s_unconstrained"):
        factor = 4 if name.startswith("z") else 1
        for mine, other in zip(hot, cold, strict=True):
            if name in mine:
                assert torch.equal(
                    mine.nodes[name]["log_prob"], factor * other.nodes[name]["log_prob"]
                )


def test_refuses_a_guide_with_one_site_for_all():
    model = Local().model
    guide = AutoDiagonalNormal(model)
    guide()
    message = r"auxiliary sites \['_AutoDiagonalNormal_latent'\] belong to no single latent.*AutoN"
    with pytest.raises(ValueError, match=message):
        tempered((model, guide), 4.0).guide()
    tempered((model, guide), 1.0).guide()


def test_factor_is_data_in_a_model_and_a_correction_in_a_guide():
    def function():
        with pyro.plate("data", 2):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("f", torch.ones(2), has_rsample=True)

    model, guide = traces(tempered((function, function), 4.0))
    assert model.nodes["f"]["log_prob"].tolist() == [1, 1]
    assert guide.nodes["f"]["log_prob"].tolist() == [4, 4]


def test_refuses_pairs_without_a_local_latent():
    def model():
        pyro.sample("w", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match=r"beta: none of the latent sites \['w'\] lies in a plate"):
        tempered((model, model), 4.0).model()
    tempered((model, model), 1.0).model()


def test_refuses_plates_without_data():
    """Components of a mixture are in a plate, and still global."""

    def model():
        with pyro.plate("components", 3):
            pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 2):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.deterministic("twice", torch.zeros(2))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    with pytest.raises(
        ValueError, match=r"beta: the latent sites \['loc'\] .*none that holds data"
    ):
        tempered((model, model), 4.0).model()
    trace = poutine.trace(tempered((model, model), {"z": 4.0}).model).get_trace()
    assert [trace.nodes[name]["scale"] for name in ("loc", "z", "x")] == [1, 4, 1]


def test_refuses_unknown_sites():
    with pytest.raises(
        ValueError, match=r"no latent site is named \['y'\]; there are \['w', 'z'\]"
    ):
        tempered(Toy(), {"z": 2.0, "y": 3.0}).model()
    with pytest.raises(ValueError, match=r"no latent site is named \['x'\]"):
        tempered(Toy(), {"x": 2.0}).model()
    with pytest.raises(
        ValueError, match="beta: expected a mapping from site names to β, got an em"
    ):
        tempered(Toy(), {})


@pytest.mark.parametrize("bad", [-1, -1e-9, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [float, torch.tensor, lambda b: {"z": b}])
def test_refuses_values(bad, kind):
    with pytest.raises(ValueError, match=r"beta.*: expected a finite number >= 0 .*0-dim tensor"):
        tempered(Toy(), kind(float(bad)))


@pytest.mark.parametrize("bad", ["4", None, True, [4.0], 1j, lambda step: 1.0])
def test_refuses_types(bad):
    with pytest.raises(TypeError, match=f"beta: expected a finite number .*{type(bad).__name__}"):
        tempered(Toy(), bad)
    with pytest.raises(TypeError, match=r"beta\['z'\]: expected a finite number"):
        tempered(Toy(), {"z": bad})


def test_refuses_tensors_with_dimensions_and_what_is_no_pair():
    with pytest.raises(ValueError, match=r"0-dim tensor of one, got a tensor of shape \[2\]"):
        tempered(Toy(), torch.ones(2))
    with pytest.raises(TypeError, match="pair: expected an object with a model and a guide"):
        tempered(SimpleNamespace(model=print), 4.0)
    assert check_beta(3) == 3.0


def test_exceptions_leave_no_handler_behind():
    def model():
        pyro.sample("w", dist.Normal(0.0, 1.0))
        raise KeyError("of the user's")

    for beta in (4.0, {"none": 1.0}):
        with pytest.raises(KeyError, match="of the user's"), untempered():
            tempered((model, model), beta).model()
        assert _PYRO_STACK == []
    with pytest.raises(ValueError, match="beta: no latent site"):
        tempered(Toy(), {"y": 3.0}).model()
    assert _PYRO_STACK == []
