"""Every finding of `check_pair` has a sound pair that passes and a broken one that does not."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from pyro.optim import Adam
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn

import pyro_bvae
from pyro_bvae import VAE, tempered
from pyro_bvae.diagnostics import check_pair
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.diagnostics.tutorial_vae import TutorialVAE

X = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
IMAGES = (
    torch.rand(5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) > 0.5
).double()
NAMES = [
    "run", "sites", "shapes", "plates", "reparameterised", "beta", "loss", "parameters",
    "gradients", "store", "estimators", "static",
]  # fmt: skip


def model(x, size=None):
    mean = pyro.param("mean", torch.tensor(0.1))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(mean, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x, size=None):
    slope = pyro.param("slope", torch.tensor(0.4))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(slope * x, 0.8))


def verdicts(check):
    return {finding.name: finding.verdict for finding in check.findings}


def worry(check, name, verdict="problem"):
    """Return the one finding, and see that it says what to do."""
    finding = check[name]
    assert finding.verdict == verdict, str(check)
    assert finding.advice
    return finding.sentence


def test_a_sound_pair_has_no_problem_and_says_all():
    check = check_pair(model, guide, X)
    assert check.sound
    assert list(verdicts(check)) == NAMES
    assert set(verdicts(check).values()) == {"ok", "warning"}
    assert verdicts(check)["store"] == "warning"
    assert "'z'" in check["sites"].sentence
    assert "'data' (size 3)" in check["plates"].sentence


def test_a_vae_of_the_package_passes_everything():
    vae = VAE(
        NormalPrior(2, scale="learned"),
        NormalLikelihood(mlp_decoder(2, (4,)), scale="learned"),
        MeanFieldPosterior(mlp_encoder((4,)), latents=2),
    )
    check = check_pair(*tempered(vae, 4.0), torch.randn(5, 4))
    assert set(verdicts(check).values()) == {"ok"}, str(check)
    assert "4 on 'z'" in check["beta"].sentence


def test_the_vae_of_pyros_tutorial_is_sound():
    vae = TutorialVAE()
    check = check_pair(vae.model, vae.guide, IMAGES)
    assert check.sound
    worries = {name for name, verdict in verdicts(check).items() if verdict != "ok"}
    assert worries == {"store"}
    assert "'decoder' and 'encoder'" in check["store"].sentence


def test_a_second_tutorial_vae_after_the_first_has_trained_is_not():
    """Its parameters bear the names of the first's, which is what Pyro's SVI would train."""
    first, second = TutorialVAE(), TutorialVAE()
    SVI(first.model, first.guide, Adam({"lr": 0.01}), Trace_ELBO()).step(IMAGES)
    check = check_pair(second.model, second.guide, IMAGES)
    assert "another pair has taken these names" in worry(check, "parameters")
    before = copy.deepcopy(second.state_dict())
    SVI(second.model, second.guide, Adam({"lr": 0.01}), Trace_ELBO()).step(IMAGES)
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.values(), second.state_dict().values(), strict=True)
    )
    pyro.clear_param_store()
    assert check_pair(second.model, second.guide, IMAGES).sound


def test_nothing_is_left_changed():
    net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    net[0].weight.grad = torch.ones(4, 1)
    pyro.param("other", torch.tensor(3.0))

    def of_net(x):
        pyro.module("net", net)
        loc, scale = net(x[:, None]).unbind(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()))

    def state():
        grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
        values = [*map(torch.clone, net.state_dict().values()), torch.get_rng_state()]
        return values, grads, dict(pyro.get_param_store().named_parameters())

    before = state()
    assert check_pair(model, of_net, X)["run"].verdict == "ok"
    after = state()
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert torch.equal(net[0].weight.grad, torch.ones(4, 1))
    assert [g is None for g in before[1]] == [g is None for g in after[1]]
    assert list(after[2]) == ["other"]
    assert after[2]["other"] is before[2]["other"]
    assert _PYRO_STACK == []


def test_parameters_used_without_a_call_are_left_alone_too():
    scale = nn.Module()
    scale.log = nn.Parameter(torch.tensor(0.1))
    scale.log.grad = torch.tensor(7.0)

    def scaled(x):
        pyro.module("scale", scale)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, scale.log.exp()))

    check = check_pair(model, scaled, X)
    assert check.sound, str(check)
    assert scale.log.item() == pytest.approx(0.1)
    assert scale.log.grad.item() == 7.0


def test_the_package_offers_it():
    assert pyro_bvae.check_pair is check_pair
    with pytest.raises(AttributeError, match="no attribute 'check_pear'"):
        _ = pyro_bvae.check_pear


def test_arguments_by_name_reach_both():
    def needs(x, *, offset):
        model(x + offset)

    def guide_too(x, *, offset):
        guide(x)

    assert check_pair(needs, guide_too, X, offset=1.0).sound
    check = check_pair(needs, guide_too, X)
    assert list(verdicts(check)) == ["run"]
    assert "The guide raised TypeError" in worry(check, "run")


def test_a_model_that_raises():
    def fails(x):
        raise RuntimeError("no such file")

    check = check_pair(fails, guide, X)
    assert "The model raised RuntimeError: no such file" in worry(check, "run")
    assert not check.sound


def test_a_guide_without_the_latent():
    check = check_pair(model, lambda x: None, X)
    assert "lacks the latent sites 'z'" in worry(check, "sites")
    assert "estimators" not in verdicts(check)


def test_a_guide_with_another_site():
    def more(x):
        guide(x)
        pyro.sample("w", dist.Normal(0.0, 1.0))

    assert "'w'" in worry(check_pair(model, more, X), "sites")


def test_a_model_that_observes_nothing():
    def prior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    assert "observes nothing" in worry(check_pair(prior, guide, X), "sites")


def test_no_latents():
    def regression(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.param("mean", torch.tensor(0.0)), 1.0), obs=x)

    assert "no latent sites" in worry(check_pair(regression, lambda x: None, X), "sites", "warning")


def test_undeclared_dimensions():
    def wide(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2, 3), 1.0))
            pyro.sample("x", dist.Normal(z.sum(0), 1.0), obs=x)

    def wide_guide(x):
        slope = pyro.param("slope", torch.tensor(0.4))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x.expand(2, 3), 0.8))

    assert "Shapes do not agree" in worry(check_pair(wide, wide_guide, X), "shapes")


def test_event_dimensions_that_differ():
    def vector(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def matrix_guide(x):
        slope = pyro.param("slope", torch.tensor(0.4))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x[:, None].expand(3, 2), 0.8).to_event(1))

    def scalar_guide(x):
        slope = pyro.param("slope", torch.tensor(0.4))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x[0], 0.8).expand([3, 1]).to_event(1))

    assert check_pair(vector, matrix_guide, X).sound
    assert "disagree at site 'z'" in worry(check_pair(vector, scalar_guide, X), "shapes")


def test_plates_that_differ():
    def elsewhere(x):
        slope = pyro.param("slope", torch.tensor(0.4))
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(slope * x, 0.8))

    sentence = worry(check_pair(model, elsewhere, X), "plates")
    assert "'data' (size 3) in the model and 'rows' (size 3) in the guide" in sentence


def test_data_in_no_plate():
    def bare(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).expand([3]).to_event(1), obs=x)

    def bare_guide(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.4)), 0.8))

    assert "single datum" in worry(check_pair(bare, bare_guide, X), "plates", "warning")


def test_latents_in_a_plate_without_data():
    def groups(x):
        with pyro.plate("groups", 2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)

    def groups_guide(x):
        with pyro.plate("groups", 2):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.4)), 0.8))

    assert "hold no data" in worry(check_pair(groups, groups_guide, X), "plates", "warning")


def test_draws_without_gradient():
    def mixture(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(k, 1.0), obs=x)

    def discrete(x):
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))))

    check = check_pair(mixture, discrete, X)
    assert "k (Bernoulli)" in worry(check, "reparameterised", "warning")
    assert "ELBO cannot be used" in worry(check, "estimators", "warning")


@pytest.mark.parametrize("side", ["model", "guide"])
def test_beta_on_one_side_only(side):
    hot = tempered((model, guide), 4.0)
    pair = (hot.model, guide) if side == "model" else (model, hot.guide)
    check = check_pair(*pair, X)
    expected = "4 in the model and 1 in" if side == "model" else "1 in the model and 4 in"
    assert expected in worry(check, "beta")
    assert "differ" in worry(check, "estimators")


def test_beta_by_hand_on_both_sides():
    def scaled(function):
        def wrapped(x):
            with poutine.scale(scale=4.0):
                function(x)

        return wrapped

    def scaled_model(x):
        mean = pyro.param("mean", torch.tensor(0.1))
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=4.0):
                z = pyro.sample("z", dist.Normal(mean, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    check = check_pair(scaled_model, scaled(guide), X)
    assert "says nothing of it" in worry(check, "beta", "warning")
    assert check.sound


def test_the_scale_of_a_subsampled_plate_is_no_beta():
    def subsampled(x):
        with pyro.plate("data", 30, subsample=torch.arange(3)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def its_guide(x):
        slope = pyro.param("slope", torch.tensor(0.4))
        with pyro.plate("data", 30, subsample=torch.arange(3)):
            pyro.sample("z", dist.Normal(slope * x, 0.8))

    assert check_pair(subsampled, its_guide, X)["beta"].verdict == "ok"
    hot = check_pair(*tempered((subsampled, its_guide), 2.0), X)
    assert "2 on 'z'" in hot["beta"].sentence


def test_a_loss_that_is_not_finite():
    def infinite(x):
        mean = pyro.param("mean", torch.tensor(0.1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(mean, 1.0))
            pyro.factor("ban", torch.full_like(z, -torch.inf))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    check = check_pair(infinite, guide, X)
    assert "The loss is" in worry(check, "loss")
    assert "estimators" not in verdicts(check)


def test_a_pair_without_parameters_is_sound_and_has_nothing_to_train():
    def fixed_model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def exact(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    check = check_pair(fixed_model, exact, X)
    assert check.sound
    assert "no parameters" in worry(check, "parameters", "warning")
    assert not {"gradients", "static"} & set(verdicts(check))


def test_bound_methods_of_a_pyro_module_show_no_parameters():
    class Bound(PyroModule):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(0.4))

        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.slope * x, 0.8))

    pair = Bound()
    assert "Pyro sees no parameters" in worry(check_pair(pair.model, pair.guide, X), "parameters")


def test_a_network_that_is_not_registered():
    net = nn.Linear(1, 1)

    def forgets(x):
        bias = pyro.param("bias", torch.tensor(0.4))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(net(x[:, None])[:, 0] + bias, 0.8))

    sentence = worry(check_pair(model, forgets, X), "parameters")
    assert "weight [1, 1]" in sentence
    assert "bias [1]" in sentence


def test_a_parameter_without_gradient():
    def idle(x):
        pyro.param("unused", torch.tensor(0.4))
        guide(x)

    check = check_pair(model, idle, X)
    assert "'unused'" in worry(check, "gradients", "warning")
    assert check.sound


def test_a_gradient_that_is_zero_is_none():
    def dead(x):
        off = torch.relu(pyro.param("off", torch.tensor(-1.0)))
        guide(x + off)

    assert "'off'" in worry(check_pair(model, dead, X), "gradients", "warning")


def test_no_gradient_at_all():
    def detached(x):
        slope = pyro.param("slope", torch.tensor(0.4)).detach()
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, 0.8))

    def fixed(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    assert "any parameter" in worry(check_pair(fixed, detached, X), "gradients")


def test_estimators_that_differ_because_of_the_order_of_draws():
    """p(b|a) given draws a ~ q(a|b): a closed-form KL(q(b) ‖ p(b|a)) forgets what a knows of b."""

    def chain(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(a, 0.5))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def backwards(x):
        slope = pyro.param("slope", torch.tensor(0.4))
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Normal(slope * x, 0.8))
            pyro.sample("a", dist.Normal(b, 0.1))

    sentence = worry(check_pair(chain, backwards, X), "estimators")
    assert "Trace_ELBO and TraceMeanField_ELBO differ" in sentence


def test_steps_that_depend_on_the_data():
    def branches(x):
        slope = pyro.param("slope", torch.tensor(0.4))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, 0.8 if x[0] > 0 else 0.9))

    check = check_pair(model, branches, X)
    assert "cannot be recorded" in worry(check, "static", "warning")
    assert check.sound


def test_auto_guides_are_sound():
    def regression(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    check = check_pair(regression, AutoNormal(regression), X)
    assert check.sound, str(check)


def test_it_reads_well():
    check = check_pair(model, lambda x: pyro.sample("<w>", dist.Normal(0.0, 1.0)), X)
    lines = str(check).splitlines()
    assert lines[0] == "The pair is not sound."
    assert any(line.startswith("✗ sites: ") for line in lines)
    assert any(line.startswith("    → ") for line in lines)
    markup = check._repr_html_()
    assert "<table>" in markup
    assert markup.count("<tr>") == len(check.findings)
    extra = check_pair(model, lambda x: (guide(x), pyro.sample("<w>", dist.Normal(0.0, 1.0))), X)
    assert "&lt;w&gt;" in extra._repr_html_()
    assert "<w>" not in extra._repr_html_()
    with pytest.raises(KeyError):
        check["colour"]


def test_refuses_what_is_no_function():
    with pytest.raises(TypeError, match=r"model, guide: expected two .* got function and NoneType"):
        check_pair(model, None, X)
