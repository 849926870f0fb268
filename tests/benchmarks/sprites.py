"""How fast dSprites is rendered and read: `python tests/benchmarks/sprites.py`.

Prints, at 64 and 32 pixels in float32, the seconds and megabytes to build the grid in memory,
and images per second on the fly and in memory, in random batches of 64 and of 1024.
"""

import time

import torch

from pyro_bvae.datasets import Sprites

REPEATS = 5


def images_per_second(data: Sprites, batch: int, images: int) -> float:
    """The best of several passes over random batches."""
    batches = torch.randint(len(data), (images,)).split(batch)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for indices in batches:
            data[indices]
        seconds.append(time.perf_counter() - start)
    return images / min(seconds)


def main() -> None:
    """Measure and print."""
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for size in (64, 32):
        start = time.perf_counter()
        stored = Sprites(size, in_memory=True)
        seconds = time.perf_counter() - start
        print(f"{size}x{size} built in {seconds:.1f} s, {stored.nbytes / 1e6:.1f} MB")
        for name, data, images in (
            ("on the fly", Sprites(size), 16_384),
            ("memory", stored, 65_536),
        ):
            for batch in (64, 1024):
                speed = images_per_second(data, batch, images)
                print(f"{size}x{size} {name:>10}, batches of {batch:>4}: {speed:>9,.0f} images/s")


if __name__ == "__main__":
    main()
