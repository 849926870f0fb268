"""The state of torch's random generators that training draws from."""

import torch

from pyro_bvae.training.state import State


def randomness(device: torch.device | None) -> State:
    """Return the state of the CPU's generator, and of the device's if that is a CUDA one.

    >>> before = randomness(None)
    >>> draw = torch.rand(())
    >>> set_randomness(None, before)
    >>> torch.equal(torch.rand(()), draw)
    True
    """
    cuda = device if device is not None and device.type == "cuda" else None
    return {
        "cpu": torch.get_rng_state(),
        "cuda": None if cuda is None else torch.cuda.get_rng_state(cuda),
    }


def set_randomness(device: torch.device | None, state: State) -> None:
    """Bring back what `randomness` returned; ValueError if the device is of another kind."""
    on_cuda = device is not None and device.type == "cuda"
    if on_cuda != (state["cuda"] is not None):
        kinds = ("a CPU", "a GPU") if on_cuda else ("a GPU", "a CPU")
        raise ValueError(f"pair: expected it on {kinds[0]}, as the run was, got it on {kinds[1]}")
    torch.set_rng_state(state["cpu"])
    if device is not None and on_cuda:
        torch.cuda.set_rng_state(state["cuda"], device)
