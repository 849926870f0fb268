"""Recurrent networks for text: token ids to features, latents to logits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_latents
from pyro_bvae.networks.base import Decoder, Encoder


def recurrent_encoder(shape: Sequence[int], *, embedding: int = 32, width: int = 128) -> Encoder:
    """Read token ids both ways: x `[batch, length]` to features `[batch, 2 · width]`.

    Args:
        shape: `(length, vocabulary)`.
        embedding: the width of a token's embedding.
        width: of the recurrent network (GRU) in either direction.

    Raises: ValueError if the shape or a width is no pair of whole numbers ≥ 1; when called, if x
        has another length. Token ids must lie in 0 … vocabulary − 1.

    References:
        Cho et al. (2014), Learning Phrase Representations using RNN Encoder–Decoder.
        Bowman et al. (2016), Generating Sentences from a Continuous Space.

    >>> recurrent_encoder((7, 20))(torch.zeros(5, 7, dtype=torch.long)).shape
    torch.Size([5, 256])
    """
    length, vocabulary = _check(shape)
    net = _Reader(vocabulary, check_count(embedding, "embedding"), check_count(width, "width"))
    return Encoder(net, (length,), features=2 * width)


def recurrent_decoder(latents: int, shape: Sequence[int], *, width: int = 128) -> Decoder:
    """Unroll z into logits: z `[n, latents]` to `[n, length, vocabulary]`.

    The recurrent network (GRU) starts from a state linear in z, reads z again at every step, and
    does not see the tokens before: given z they are independent, so the latents must say all.

    Args:
        latents: the width of z.
        shape: `(length, vocabulary)`.
        width: of the recurrent network.

    Raises: ValueError if `latents`, the shape or the width are no whole numbers ≥ 1; when called,
        if z has another width.

    References:
        As for `recurrent_encoder`.

    >>> recurrent_decoder(2, (7, 20))(torch.zeros(5, 2)).shape
    torch.Size([5, 7, 20])
    """
    length, vocabulary = _check(shape)
    net = _Writer(check_latents(latents), length, vocabulary, check_count(width, "width"))
    return Decoder(net, latents, (length, vocabulary))


def _check(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(f"shape: expected (length, vocabulary), got {tuple(shape)}")
    return check_count(shape[0], "length"), check_count(shape[1], "vocabulary")


class _Reader(nn.Module):
    def __init__(self, vocabulary: int, embedding: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.cells = nn.GRU(embedding, width, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.cells(self.embedding(x.long()))
        return torch.cat([last[0], last[1]], dim=-1)


class _Writer(nn.Module):
    def __init__(self, latents: int, length: int, vocabulary: int, width: int) -> None:
        super().__init__()
        self.length = length
        self.start = nn.Linear(latents, width)
        self.cells = nn.GRU(latents, width, batch_first=True)
        self.last = nn.Linear(width, vocabulary)

    def forward(self, z: Tensor) -> Tensor:
        steps = z.unsqueeze(1).expand(-1, self.length, -1)
        states, _ = self.cells(steps, torch.tanh(self.start(z)).unsqueeze(0))
        return self.last(states)
