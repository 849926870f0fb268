"""What every member of a family must do; a new member inherits these tests by giving a factory.

class TestMyPrior(PriorContract):
    def make(self):
        return MyPrior(self.latents)
"""

import copy
import io
import pickle
from abc import ABC, abstractmethod

import pyro
import pytest
import torch
from pyro import poutine
from pyro.poutine.runtime import _PYRO_STACK
from scipy.integrate import quad
from torch import nn


class ModuleContract(ABC):
    """A module that returns a distribution."""

    draws_when_called = False

    @abstractmethod
    def make(self):
        """Build the module, under the default dtype."""

    @abstractmethod
    def inputs(self, module, batch=5):
        """Return the arguments of a call whose result has batch shape `self.batch(batch)`."""

    @abstractmethod
    def event_shape(self):
        """Return the event shape of the distribution."""

    def batch(self, n):
        return (n,)

    def support(self, fn):
        """Return a value within the support at which to take densities."""
        return fn.sample()

    def moved(self, value):
        """Return a value nearby within the support, where no gradient is 0 by chance."""
        return value + 0.1 * torch.rand_like(value)

    def call(self, module, batch=5):
        return module(*self.inputs(module, batch))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_shapes_and_dtype(self, dtype):
        torch.set_default_dtype(dtype)
        fn = self.call(self.make())
        value = self.support(fn)
        assert fn.batch_shape == self.batch(5)
        assert fn.event_shape == self.event_shape()
        assert value.shape == (*self.batch(5), *self.event_shape())
        assert fn.log_prob(value).shape == self.batch(5)
        assert value.dtype == fn.log_prob(value).dtype == dtype
        assert torch.isfinite(fn.log_prob(value)).all()

    def test_moves_to_another_dtype(self):
        module = self.make().to(torch.float32)
        inputs = [x.to(torch.float32) for x in self.inputs(module)]
        fn = module(*inputs)
        assert fn.sample().dtype == fn.log_prob(fn.sample()).dtype == torch.float32
        assert self.call(module.to(torch.float64)).sample().dtype == torch.float64

    def test_state_dict_round_trip(self):
        torch.manual_seed(1)
        module, other = self.make(), self.make()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        inputs = self.inputs(module)
        value = self.support(module(*inputs))
        other.load_state_dict(module.state_dict())
        assert torch.equal(
            self.log_prob(other, inputs, value), self.log_prob(module, inputs, value)
        )

    def test_copies_and_pickles_after_use(self):
        module = self.make()
        inputs = self.inputs(module)
        value = self.support(module(*inputs))
        expected = self.log_prob(module, inputs, value)
        with io.BytesIO(pickle.dumps(module)) as file:
            loaded = pickle.load(file)
        for other in (copy.deepcopy(module), loaded):
            assert torch.equal(self.log_prob(other, inputs, value), expected)
            assert not {id(p) for p in other.parameters()} & {id(p) for p in module.parameters()}

    def test_gradients_reach_every_parameter(self):
        module = self.make()
        inputs = self.inputs(module)
        value = self.support(module(*inputs)).detach()
        log_prob = self.log_prob(module, inputs, self.moved(value)).sum()
        trained = dict(module.named_parameters())
        for name in self.parameters_of_the_guide():
            trained.pop(name)
        assert log_prob.requires_grad == bool(trained)
        if trained:
            log_prob.backward()
        for name, parameter in trained.items():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_calling_leaves_no_trace(self):
        module = self.make()
        inputs = self.inputs(module)
        state = torch.get_rng_state()
        trace = poutine.trace(module).get_trace(*inputs)
        draws = self.draws_when_called or bool(trace.stochastic_nodes)
        assert draws != torch.equal(torch.get_rng_state(), state)
        trace.nodes["_RETURN"]["value"].sample()
        assert len(pyro.get_param_store()) == 0
        assert _PYRO_STACK == []

    def parameters_of_the_guide(self):
        return set()

    def log_prob(self, module, inputs, value):
        torch.manual_seed(0)
        return module(*inputs).log_prob(value)


def normalisation(log_prob, low=-torch.inf, high=torch.inf):
    """Integrate exp(log_prob) over one variable, by adaptive quadrature, to 5e-8."""

    def density(x):
        return log_prob(torch.tensor(x)).exp().item()

    with torch.no_grad():
        return quad(density, low, high, limit=500, epsabs=5e-8)[0]


def total_on_a_grid(log_prob, dimensions):
    """Sum a density over a grid: for kinks at places unknown, of error O(spacing²)."""
    points = torch.linspace(-12, 12, 200_001 if dimensions == 1 else 801)
    z = torch.cartesian_prod(*[points] * dimensions).reshape(-1, dimensions)
    with torch.no_grad():
        total = sum(log_prob(part).exp().sum() for part in z.split(200_000))
    return (total * (points[1] - points[0]) ** dimensions).item()


class Aware(nn.Module):
    """A network that multiplies what it takes by 1 + c, for a context c `[n, 1]`."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.features = getattr(net, "features", None)

    def forward(self, x, context=None):
        if context is None:
            return self.net(x)
        return self.net(x * (1 + context.reshape(-1, *[1] * (x.dim() - 1))))

    def __getitem__(self, index):
        return self.net[index]


class PriorContract(ModuleContract):
    """p(z): give `make`, which builds a prior over `self.latents` latents."""

    latents = 3

    @abstractmethod
    def make(self, latents=3):
        """Build the prior."""

    def inputs(self, module, batch=5):
        return ()

    def batch(self, n):
        return ()

    def event_shape(self):
        return (self.latents,)

    def test_has_its_latents(self):
        assert self.make().latents == self.latents

    def test_density_integrates_to_one(self):
        fn = self.make(1)()
        assert normalisation(lambda z: fn.log_prob(z.reshape(1))) == pytest.approx(1, abs=1e-7)

    def test_expands_over_data_and_particles(self):
        fn = self.make()()
        expanded = fn.expand((4, 5))
        z = expanded.sample()
        assert z.shape == (4, 5, self.latents)
        assert torch.allclose(expanded.log_prob(z)[2, 3], fn.log_prob(z[2, 3]))
        assert z.reshape(-1, self.latents).unique(dim=0).shape[0] == 20

    def test_model_and_guide_sample_the_same_sites(self):
        prior = self.make()
        of_model = poutine.trace(prior).get_trace()
        of_guide = poutine.trace(prior.guide).get_trace()
        assert of_model.stochastic_nodes == of_guide.stochastic_nodes
        for name in of_model.stochastic_nodes:
            assert of_model.nodes[name]["fn"].event_shape == of_guide.nodes[name]["fn"].event_shape
            assert of_guide.nodes[name]["fn"].has_rsample

    def test_takes_context(self):
        torch.manual_seed(0)
        expected = self.make()
        z = torch.randn(5, self.latents)
        assert torch.equal(
            self.log_prob(expected, (torch.randn(5, 2),), z), self.log_prob(expected, (), z)
        )

    @pytest.mark.parametrize("latents", [0, -1, 2.0, True, "2", None])
    def test_refuses_latents(self, latents):
        with pytest.raises(ValueError, match=r"latents: expected a whole number >= 1, got"):
            self.make(latents)


class LikelihoodContract(ModuleContract):
    """p(x|z): give `make`, which builds a likelihood of events `self.shape` from a decoder."""

    latents, shape = 3, (1, 2, 4)

    @abstractmethod
    def make(self, decoder=None):
        """Build the likelihood around `decoder`, by default `self.decoder()`."""

    def decoder(self, shape=None):
        shape = shape or self.shape
        out = nn.Linear(self.latents, torch.Size(shape).numel())
        return nn.Sequential(out, nn.Unflatten(1, shape))

    def inputs(self, module, batch=5):
        return (torch.randn(batch, self.latents),)

    def event_shape(self):
        return self.shape

    def test_density_integrates_to_one(self):
        fn = self.make(self.decoder((1,)))(torch.randn(1, self.latents))
        assert self.total(lambda x: fn.log_prob(x.reshape(1, 1))) == pytest.approx(1, abs=1e-7)

    def total(self, log_prob):
        return normalisation(log_prob)

    def test_density_is_that_of_each_datum(self):
        """Under particle and batch dimensions, and one at a time, the same numbers come out."""
        likelihood = self.make()
        z = torch.randn(4, 5, self.latents)
        fn = likelihood(z)
        x = self.support(likelihood(z[0]))
        together = fn.log_prob(x)
        assert fn.batch_shape == (4, 5)
        assert together.shape == (4, 5)
        for i, j in ((0, 0), (2, 4), (3, 1)):
            alone = likelihood(z[i, j]).log_prob(x[j])
            assert alone.shape == ()
            assert torch.allclose(together[i, j], alone, rtol=1e-12)

    def test_passes_context_to_the_decoder(self):
        """Also under a particle dimension, where the context is repeated."""
        likelihood = self.make(Aware(self.decoder()))
        z, context = torch.randn(4, 5, self.latents), torch.rand(5, 1)
        scaled, plain = likelihood(z, context), likelihood(z * (1 + context))
        x = self.support(plain)
        assert scaled.batch_shape == (4, 5)
        assert torch.allclose(scaled.log_prob(x), plain.log_prob(x), rtol=1e-12)
        assert not torch.allclose(likelihood(z).log_prob(x), plain.log_prob(x))

    def test_refuses_context_of_another_length(self):
        likelihood = self.make(Aware(self.decoder()))
        with pytest.raises(ValueError, match=r"context: expected shape \[5, ...\].*got \[4, 1\]"):
            likelihood(torch.randn(2, 5, self.latents), torch.rand(4, 1))

    def test_mean_is_the_mean_of_draws(self):
        """Within 5 standard errors, for every pixel."""
        fn = self.make()(torch.randn(1, self.latents))
        draws = fn.sample((4000,))
        error = draws.std(0) / len(draws) ** 0.5
        assert ((draws.mean(0) - fn.mean).abs() < 5 * error + 1e-12).all()

    def test_accepts_its_own_draws(self):
        likelihood = self.make()
        likelihood.check(self.support(self.call(likelihood)))

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    def test_refuses_values_that_are_not_finite(self, bad):
        likelihood = self.make()
        x = self.support(self.call(likelihood)).to(torch.get_default_dtype())
        x[1] = bad
        count = x[1].numel()
        with pytest.raises(ValueError, match=f"x: expected finite.*{count} NaN or infinite of"):
            likelihood.check(x)


class PosteriorContract(ModuleContract):
    """q(z|x): give `make`, which builds a posterior of `latents` from data `self.shape`."""

    latents, shape, features = 3, (1, 2, 4), 6

    @abstractmethod
    def make(self, latents=3, encoder=None, features=None):
        """Build the posterior on `encoder`, by default `self.encoder()`."""

    def encoder(self):
        width = torch.Size(self.shape).numel()
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(width, self.features), nn.Tanh())
        encoder.features = self.features
        return encoder

    def inputs(self, module, batch=5):
        return (torch.rand(batch, *self.shape),)

    def event_shape(self):
        return (self.latents,)

    def test_has_its_latents(self):
        assert self.make().latents == self.latents

    def test_density_integrates_to_one(self):
        fn = self.make(latents=1)(torch.rand(1, *self.shape))
        assert normalisation(lambda z: fn.log_prob(z.reshape(1, 1))) == pytest.approx(1, abs=1e-7)

    def test_is_reparameterised(self):
        """The gradient of a draw reaches every parameter."""
        posterior = self.make()
        fn = self.call(posterior)
        assert fn.has_rsample
        (fn.rsample() ** 2).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in posterior.parameters())

    def test_draws_under_a_particle_dimension(self):
        fn = self.call(self.make())
        z = fn.rsample((4,))
        assert z.shape == (4, 5, self.latents)
        assert fn.log_prob(z).shape == (4, 5)
        assert torch.allclose(fn.log_prob(z)[2], fn.log_prob(z[2]))

    def test_passes_context_to_the_encoder(self):
        posterior = self.make(encoder=Aware(self.encoder()))
        (x,) = self.inputs(posterior)
        context = torch.rand(5, 1)
        scaled = x * (1 + context.reshape(5, *[1] * (x.dim() - 1)))
        z = posterior(x).sample()
        expected = posterior(scaled).log_prob(z)
        assert torch.allclose(posterior(x, context).log_prob(z), expected, rtol=1e-12)
        assert torch.allclose(posterior.code(x, context), posterior.code(scaled), rtol=1e-12)
        assert not torch.allclose(posterior(x).log_prob(z), expected)

    def test_code_is_a_point_for_each_datum(self):
        posterior = self.make()
        (x,) = self.inputs(posterior)
        torch.manual_seed(0)
        code = posterior.code(x)
        assert code.shape == (5, self.latents)
        torch.manual_seed(0)
        assert torch.equal(code, posterior.code(x))

    def test_each_datum_has_its_own(self):
        posterior = self.make()
        (x,) = self.inputs(posterior)
        z = posterior(x).sample()
        order = torch.tensor([3, 1, 4, 0, 2])
        permuted = posterior(x[order]).log_prob(z[order])
        assert torch.allclose(permuted, posterior(x).log_prob(z)[order], rtol=1e-12)
        assert torch.allclose(posterior(x[2:3]).log_prob(z[2:3]), posterior(x).log_prob(z)[2:3])

    @pytest.mark.parametrize("latents", [0, -1, 2.0, True, "2", None])
    def test_refuses_latents(self, latents):
        with pytest.raises(ValueError, match=r"latents: expected a whole number >= 1, got"):
            self.make(latents=latents)

    def test_refuses_an_encoder_of_unknown_width(self):
        with pytest.raises(
            ValueError, match=r"features: Flatten has no \.features .*pass features"
        ):
            self.make(encoder=nn.Flatten())

    def test_refuses_features_of_another_shape(self):
        posterior = self.make(encoder=nn.Flatten(), features=5)
        with pytest.raises(ValueError, match=r"encoder: expected .*\[2, 5\], got \[2, 8\]"):
            posterior(torch.zeros(2, *self.shape))
