"""Time training a VAE: a step of each trainer, what a mode costs to start, and what "auto" takes.

    python tests/benchmarks/svi.py [steps] [start] [choice] [--jobs small conv] [--rounds 7]
        [--device cuda]

`steps`: every trainer is a process of its own, once with the memory of glibc as it comes and once
with freed memory kept (see `training.allocator`). They take turns, one block of steps each, while
the others wait, so that a change in the machine's load meets all of them; ratios are taken within
a turn. All train the same networks on the same data with Adam; `fit` reads its loss once a block,
the others each step. 300,000 steps are those of a model of Locatello et al. (2019), Challenging
Common Assumptions in the Unsupervised Learning of Disentangled Representations.
`start`: seconds until steps run at full speed, in a fresh process with an empty compiler cache and
again with a filled one, and the step at which the mode has paid for itself.
`choice`: seconds of `fit` with each mode in turn, with the compiler's cache filled, and which one
"auto" ended in; 100,000 steps, and 1000 with convolutions, are extrapolated from the first few.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from pyro_bvae import fit
from pyro_bvae.training import svi
from pyro_bvae.training.allocator import kept_memory
from pyro_bvae.training.choice import Choice
from tests.benchmarks import rivals

PARTS = ("steps", "start", "choice")
ALLOCATORS = ("default", "tuned")
MODES = ("eager", "recorded", "compiled")
OURS = "fit, compiled"
PEERS = ("by hand, eager", "Pyro SVI", "pythae BetaVAE")
PROTOCOL = 300_000
# Names how memory is to be allocated without changing it, so that `fit` leaves it alone.
UNCHANGED = {"MALLOC_CHECK_": "0"}


def child(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start this script again, to do one thing and print JSON."""
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def serve(name: str, trainer: str, allocator: str, device: str) -> None:
    """Take and time one block of steps for each line that is read, after a first to warm up."""
    job = rivals.job_of(name, device)
    begun: list[float] = []

    def pause() -> None:
        elapsed = (time.perf_counter() - begun.pop()) / job.block if begun else 0.0
        print(json.dumps({"seconds": elapsed}), flush=True)
        if not sys.stdin.readline():
            os._exit(0)
        begun.append(time.perf_counter())

    with kept_memory(enabled=allocator == "tuned"), pyro.validation_enabled(False):
        rivals.trainers(name, device)[trainer](pause)


def steps(name: str, options: argparse.Namespace) -> None:
    """Print how long a step takes with every trainer, under both allocators."""
    names = list(rivals.trainers(name, options.device))
    threads = ["--threads", str(options.threads)]
    servers = {
        (allocator, trainer): child(
            ["--serve", name, trainer, allocator, options.device, *threads],
            UNCHANGED if allocator == "default" else {},
        )
        for allocator in ALLOCATORS
        for trainer in names
    }
    for server in servers.values():
        answer(server)
    turns = []
    for _ in range(options.rounds + 1):
        turns.append({key: asked(server) for key, server in servers.items()})
    for server in servers.values():
        server.stdin.close()
        server.wait()
    del turns[0]
    for allocator in ALLOCATORS:
        print(f"\n{name}, {allocator} allocator: ratio to {OURS!r}, min median max; ms per step")
        for trainer in names:
            row(turns, (allocator, trainer), (allocator, OURS))
    print(f"\n{name}: trainers with the default allocator, as they come, to {OURS!r} with its own")
    for trainer in (p for p in PEERS if p in names):
        row(turns, ("default", trainer), ("tuned", OURS))
    ours = statistics.median(turn["tuned", OURS] for turn in turns)
    print(f"  {PROTOCOL:,} steps of {OURS!r} with its own: {PROTOCOL * ours:,.0f} s")


def asked(server: subprocess.Popen[str]) -> float:
    """Let a server take a block of steps; return the seconds per step."""
    server.stdin.write("\n")
    server.stdin.flush()
    return answer(server)


def answer(server: subprocess.Popen[str]) -> float:
    """Return what a server measured, past what others print."""
    for line in server.stdout:
        if line.startswith("{"):
            return json.loads(line)["seconds"]
    raise SystemExit(server.wait())


def row(turns: list[dict], of: tuple[str, str], to: tuple[str, str]) -> None:
    """Print one line of a table."""
    ratios = sorted(turn[of] / turn[to] for turn in turns)
    spread = f"{ratios[0]:6.2f} {statistics.median(ratios):6.2f} {ratios[-1]:6.2f}"
    print(f"  {of[1]:36s} {spread}   {statistics.median(t[of] for t in turns) * 1e3:9.3f} ms")


def train(name: str, mode: str, number: int, stop: int) -> None:
    """Train once for `number` steps, of which `stop` are taken; print what was measured."""
    job = rivals.JOBS[name]()
    data, times = rivals.images(job), []
    choices: list[Choice] = []

    class Kept(Choice):
        def __init__(self, steps: int) -> None:
            super().__init__(steps)
            choices.append(self)

    svi.Choice = Kept

    def note(record: Any) -> bool:
        times.append((record.step, time.perf_counter()))
        return record.step >= stop

    start = time.perf_counter()
    optim = partial(torch.optim.Adam, lr=job.lr, fused=True)
    pair = rivals.vae_of(job)
    options = {"batch_size": job.batch, "beta": job.beta, "optim": optim, "progress": False}
    fit(pair, data, steps=number, every=8, compile=mode, callbacks=[note], **options)
    half = [t for t in times if t[0] >= stop // 2]
    rate = (half[-1][1] - half[0][1]) / max(half[-1][0] - half[0][0], 1)
    total = times[-1][1] - start
    ended = choices[0].mode if choices else mode
    print(json.dumps({"total": total, "rate": rate, "at": times[-1][0], "mode": ended}))


def trained(name: str, mode: str, number: int, stop: int, cache: str, threads: int) -> Any:
    """Train in a fresh process."""
    arguments = ["--train", name, mode, str(number), str(stop), "--threads", str(threads)]
    output, _ = child(arguments, {"TORCHINDUCTOR_CACHE_DIR": cache}).communicate()
    return json.loads(output.splitlines()[-1])


def start(name: str, options: argparse.Namespace) -> None:
    """Print what it costs to record and to compile, and when that is earned."""
    print(f"\n{name}: seconds beyond the steps themselves, and the step at which a mode has paid")
    stop = {"small": 400, "conv": 40}[name]
    with tempfile.TemporaryDirectory() as cache:
        runs = {mode: trained(name, mode, stop, stop, cache, options.threads) for mode in MODES}
        runs["compiled, warm cache"] = trained(name, "compiled", stop, stop, cache, options.threads)
    for mode, run in runs.items():
        cost = run["total"] - run["at"] * run["rate"]
        gain = runs["eager"]["rate"] - run["rate"]
        extra = cost - (runs["eager"]["total"] - runs["eager"]["at"] * runs["eager"]["rate"])
        even = f"{extra / gain:9.0f}" if gain > 0 else "    never"
        print(f"  {mode:24s} {cost:7.2f} s {even}   {run['rate'] * 1e3:9.3f} ms per step")


def choice(name: str, options: argparse.Namespace) -> None:
    """Print how much longer "auto" takes than the best mode: min median max over the rounds."""
    print(f"\n{name}: median seconds with each mode, and auto to the best of the three")
    most = {"small": 3000, "conv": 100}[name]
    with tempfile.TemporaryDirectory() as cache:
        trained(name, "compiled", 8, 8, cache, options.threads)
        for number in (100, 1000, 100_000):
            stop = min(number, most)
            turns, ended = [], set()
            for _ in range(options.rounds):
                turn = {}
                for mode in (*MODES, "auto"):
                    run = trained(name, mode, number, stop, cache, options.threads)
                    turn[mode] = run["total"] + (number - run["at"]) * run["rate"]
                turns.append(turn)
                ended.add(run["mode"])
            medians = {mode: statistics.median(t[mode] for t in turns) for mode in turns[0]}
            best = min(MODES, key=lambda mode: medians[mode])
            ratios = sorted(turn["auto"] / turn[best] for turn in turns)
            cells = "  ".join(f"{mode} {seconds:8.2f}" for mode, seconds in medians.items())
            spread = f"{ratios[0]:5.2f} {statistics.median(ratios):5.2f} {ratios[-1]:5.2f}"
            how = "" if stop == number else f"  (from {stop} steps)"
            print(
                f"  {number:7d} steps: {cells}   ratio {spread}, "
                f"auto ended in {' or '.join(sorted(ended))}{how}"
            )


def main() -> None:
    """Run the parts that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--jobs", nargs="+", choices=list(rivals.JOBS), default=list(rivals.JOBS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="of steps: cpu or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--train", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.serve:
        serve(*options.serve)
    if options.train:
        name, mode, number, stop = options.train
        train(name, mode, int(number), int(stop))
        return
    print(f"torch {torch.__version__}, {options.threads} threads")
    if not importlib.util.find_spec("pythae"):
        print(rivals.NO_PYTHAE)
    for part in options.parts:
        for name in options.jobs:
            {"steps": steps, "start": start, "choice": choice}[part](name, options)


if __name__ == "__main__":
    main()
