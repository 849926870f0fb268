"""A function of tensors that is called again and again: in Python at first, then as a recording."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from pyro_bvae.training.recording import Recording, record

EARNED = 64


@dataclass
class _Kind:
    """What is known of the calls with tensors of the same shapes."""

    calls: int = 0
    recording: Recording | None = None
    runs: bool = False
    refused: bool = False


class Repeated:
    """A function whose calls are recorded once they have come 64 times with the same shapes.

    The next two calls are recorded and compared, as a step of `CompiledSVI` is; further ones run
    the recording, with the same random draws and to the same bits. Until then, and for good where
    the function is not static, they run as they are: recording costs some hundred calls' worth of
    Python, which a short run does not earn. No gradients flow through a recording.

    Args:
        function: from tensors to a list of tensors.

    References:
        Reed et al. (2022), torch.fx: Practical Program Capture and Transformation for Deep
        Learning in Python.

    >>> import torch
    >>> double = Repeated(lambda x: [2 * x])
    >>> [double(torch.tensor(float(i)))[0].item() for i in range(70)][-1], double.is_recorded
    (138.0, True)
    """

    def __init__(self, function: Callable[..., list[Tensor]]) -> None:
        self._function = function
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    @property
    def is_recorded(self) -> bool:
        """Whether calls of any shapes run as a recording."""
        return any(kind.runs for kind in self._kinds.values())

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        """Call the function, or what was recorded of it."""
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        kind = self._kinds.setdefault(key, _Kind())
        kind.calls += 1
        if kind.runs and kind.recording is not None:
            return list(kind.recording(tensors))
        if kind.refused or kind.calls <= EARNED:
            return self._function(*tensors)
        return self._record(kind, tensors)

    def _record(self, kind: _Kind, tensors: tuple[Tensor, ...]) -> list[Tensor]:
        try:
            recording = record(self._function, tensors)
        except Exception:  # of any kind: a pair that cannot be recorded runs as it is
            kind.refused = True
            return self._function(*tensors)
        before, kind.recording = kind.recording, replace(recording, outputs=[])
        if before is not None:
            kind.refused = before.difference(recording) is not None
            kind.runs = not kind.refused
        return recording.outputs
