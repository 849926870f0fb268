"""Networks in bfloat16, while model and guide run."""

import functools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_map

from pyro_bvae.types import Pair, PairLike, PyroFunction, as_pair

PRECISIONS = ("float32", "bf16")
NETWORKS = (
    *(nn.Sequential, nn.Linear, nn.Bilinear, nn.RNNBase, nn.MultiheadAttention),
    *(nn.TransformerEncoder, nn.TransformerDecoder, nn.modules.conv._ConvNd),
)

_here = threading.local()


def prepared(
    pair: PairLike, *, precision: str = "float32", device: torch.device | None = None
) -> Pair:
    """Return model and guide such that the networks in them run fast on a device.

    With `precision="bf16"` every network runs under `torch.autocast` in bfloat16, and what comes
    out of it is float32 again: so are distributions, the loss and the KL. Parameters stay what
    they are. A network is a `Sequential`, a linear, convolutional or recurrent layer, attention or
    a transformer, with all that is in it.

    Nothing is changed in the modules themselves, and outside of these two functions they run as
    ever. With "float32" the pair is returned as it is.

    Args:
        pair: a `Pair` or any `(model, guide)`.
        precision: "float32" or "bf16".
        device: that the networks are on, a CPU by default.

    Raises: ValueError for another precision.

    References:
        Micikevicius et al. (2018), Mixed Precision Training.
        Kalamkar et al. (2019), A Study of BFLOAT16 for Deep Learning Training.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> model, _ = prepared((net, print), precision="bf16")
    >>> x = torch.randn(4, 2)
    >>> model(x).dtype, torch.equal(model(x), net(x)), torch.allclose(model(x), net(x), atol=0.05)
    (torch.float32, False, True)
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, got {precision!r}")
    if precision == "float32":
        return as_pair(pair)
    networks = Networks("cpu" if device is None else device.type)
    model, guide = as_pair(pair)
    return Pair(_with(networks, model), _with(networks, guide))


class Networks:
    """What happens around each network of a function while it runs, in the thread it runs in."""

    def __init__(self, device_type: str) -> None:
        self.device_type = device_type

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Have networks run so inside, unless a function around has them run its way already."""
        if getattr(_here, "running", None) is not None:
            yield
            return
        with ExitStack() as running:
            _here.running, _here.outermost = running, None
            before = register_module_forward_pre_hook(self._before)
            after = register_module_forward_hook(self._after)
            try:
                yield
            finally:
                _here.running = None
                before.remove()
                after.remove()

    def _before(self, module: nn.Module, args: Any) -> None:
        running = getattr(_here, "running", None)
        if running is not None and _here.outermost is None and isinstance(module, NETWORKS):
            _here.outermost = module
            running.enter_context(torch.autocast(self.device_type, torch.bfloat16))

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        running = getattr(_here, "running", None)
        if running is None or module is not _here.outermost:
            return None
        running.close()
        _here.outermost = None
        return tree_map(_as_float32, output)


def _as_float32(value: Any) -> Any:
    is_lowered = isinstance(value, Tensor) and value.dtype == torch.bfloat16
    return value.float() if is_lowered else value


def _with(networks: Networks, function: PyroFunction) -> PyroFunction:
    @functools.wraps(function, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with networks():
            return function(*args, **kwargs)

    return wrapped
