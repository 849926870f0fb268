"""The full-rank posterior."""

from pyro_bvae.posteriors import FullRankPosterior
from tests.contracts import PosteriorContract


class TestFullRankPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return FullRankPosterior(encoder or self.encoder(), latents, features=features)
