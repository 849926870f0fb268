"""A recorded step as one graph of the device, which starts all of its kernels at once.

On CUDA this is a CUDA graph. It has been tested on a CPU only, with a stand-in for the device's
graph; `tests/training/test_captured.py` has further tests that run where CUDA is.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, device

from pyro_bvae.training.notices import FallbackWarning, warn
from pyro_bvae.training.placement import Misplaced, scalars_to_move
from pyro_bvae.training.recording import Recording

WARM_UP = 3
NOT_CAPTURED = "the compiled graph is not captured as one of the device: "
Run = Callable[[], Sequence[Tensor]]


class DeviceGraph(Protocol):
    """What a device was told to do once, and can do again on what is then in the same memory."""

    def capture(self, run: Run, *, warm_up: Run) -> None:
        """Note the work of `run` without doing it, after calling `warm_up` a few times."""

    def replay(self) -> Sequence[Tensor]:
        """Do the work; return what `run` returned, in memory that the next replay overwrites."""


class CudaGraph:
    """A CUDA graph. torch registers the default generator with it, so that draws go on.

    Args:
        on: the device.

    References:
        PyTorch documentation, CUDA semantics: CUDA Graphs.
    """

    def __init__(self, on: device) -> None:
        self._device = on
        self._graph = torch.cuda.CUDAGraph()
        self._outputs: Sequence[Tensor] = ()

    def capture(self, run: Run, *, warm_up: Run) -> None:
        """Warm up on a side stream, then capture on another."""
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    warm_up()
            torch.cuda.current_stream().wait_stream(stream)
            capturing = torch.cuda.graph(
                self._graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"
            )
            with capturing:
                self._outputs = run()

    def replay(self) -> Sequence[Tensor]:
        """Launch the graph on the current stream."""
        self._graph.replay()
        return self._outputs


GRAPHS: dict[str, Callable[[device], DeviceGraph]] = {"cuda": CudaGraph}


class Captured:
    """A recording, compiled and then captured on a device.

    Each call copies its inputs to where the graph reads them, and 0-dim tensors on the CPU, such
    as a β, to the device. Neither this nor a replay waits for the device. Parameters and all else
    that the recording holds are used where they are; if one is moved, the graph is captured anew,
    or a warning tells why not. Warming up works on copies, which for a moment take as much memory
    as the originals, and changes nothing.

    Args:
        recording: of operations on the device.
        inputs: tensors like those it will be called with.
        on: the device.

    Attributes:
        failure: why the device could not capture it, so that it runs uncaptured; None if it did.

    Raises: Misplaced if the recording depends on what is done elsewhere.
    """

    def __init__(self, recording: Recording, inputs: Sequence[Tensor], *, on: device) -> None:
        self._outside = recording.live
        self._device, self._count = on, len(recording.live)
        given = [*self._outside, *inputs]
        self._scalars = scalars_to_move(recording.graph.graph, given, on)
        self._copied = [i for i in range(self._count, len(given)) if i not in self._scalars]
        own = {*self._scalars, *self._copied}
        self._buffers = [_like(t, on) if i in own else t for i, t in enumerate(given)]
        self._fill(inputs)
        placed = replace(recording, live=self._buffers[: self._count])
        self._recording = placed.compiled(self._buffers[self._count :])
        self._capture()

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Do the recorded operations on new inputs; the outputs are the caller's to keep."""
        if self._addresses != _addresses(self._buffers):
            self._capture()
            if self.failure:
                warn(f"{NOT_CAPTURED}{self.failure}", FallbackWarning)
        self._fill(inputs)
        return [output.clone() for output in self._replay()]

    def _fill(self, inputs: Sequence[Tensor]) -> None:
        given = [*self._outside, *inputs]
        for i in self._scalars:
            self._buffers[i].fill_(given[i].detach())
        for i in self._copied:
            self._buffers[i].copy_(given[i], non_blocking=True)

    def _capture(self) -> None:
        self.failure: str | None = None
        self._addresses = _addresses(self._buffers)
        graph = GRAPHS[self._device.type](self._device)
        try:
            copies = [_like(t, t.device).copy_(t.detach()) for t in self._buffers]
            scratch = replace(self._recording, live=copies[: self._count])
            with torch.random.fork_rng(range(torch.cuda.device_count())):
                graph.capture(self._run, warm_up=lambda: scratch(copies[self._count :]))
            self._replay = graph.replay
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            self._replay = self._run

    def _run(self) -> Sequence[Tensor]:
        return self._recording(self._buffers[self._count :])


def compiled(
    recording: Recording, inputs: Sequence[Tensor]
) -> tuple[Recording | Captured, str | None]:
    """Return a recording, compiled, as one graph of its device where the device has such.

    Returns: it, and why it is not one graph although its device has them, None otherwise.
    """
    on = next((t.device for t in (*inputs, *recording.live) if t.device.type in GRAPHS), None)
    if on is None:
        return recording.compiled(inputs), None
    try:
        captured = Captured(recording, inputs, on=on)
    except Misplaced as error:
        return recording.compiled(inputs), str(error)
    return captured, captured.failure


def _like(tensor: Tensor, on: device) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=on)


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
