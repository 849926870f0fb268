"""Rendered dSprites against the counts of the published file, and against a plain renderer."""

import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Polygon
from torch.nn.functional import max_pool2d

from pyro_bvae.datasets import Sprites
from pyro_bvae.datasets.outlines import heart_half_outline

# On-pixels of the published data: their sum, and their mean per image by shape and scale.
PUBLISHED_TOTAL = 128_328_862
PUBLISHED_MEANS = [
    [92.14, 132.62, 180.52, 235.80, 298.46, 368.38],
    [72.32, 104.10, 141.73, 185.12, 234.25, 289.22],
    [56.17, 80.90, 110.09, 143.81, 181.98, 224.68],
]
AT_CENTRE_16_UPRIGHT = [
    [100, 144, 196, 256, 324, 400],
    [76, 104, 144, 184, 228, 288],
    [58, 84, 108, 140, 182, 222],
]


@pytest.fixture(scope="module")
def stored():
    return Sprites(in_memory=True)


@pytest.fixture(scope="module")
def counts(stored):
    return stored.counts(torch.arange(len(stored))).view(3, 6, 40, 32, 32)


@pytest.fixture
def some_indices():
    return torch.randint(737_280, (2000,), generator=torch.Generator().manual_seed(1))


def plain_image(factors):
    """One image straight from the definition: every pixel of the frame, no window, no table."""
    _, shape, scale, orientation, x, y = factors
    lines = np.arange(64) + 0.5
    dx, dy = np.meshgrid(lines - 16 - 32 * x / 31, lines - 16 - 32 * y / 31)
    angle, size = 2 * math.pi * orientation / 39, 0.5 + 0.1 * scale
    u = (math.cos(angle) * dx - math.sin(angle) * dy) / size
    v = (math.sin(angle) * dx + math.cos(angle) * dy) / size
    if shape == 0:
        on = np.maximum(abs(u), abs(v)) < 9.5967
    elif shape == 1:
        on = (u / 12.76) ** 2 + (v / 7.215) ** 2 < 1
    else:
        half = heart_half_outline()
        outline = Polygon(np.concatenate([half, half[::-1] * [-1, 1]]))
        on = outline.contains_points(np.stack([u, v], -1).reshape(-1, 2)).reshape(64, 64)
    on[:3] = on[61:] = False
    on[:, :3] = on[:, 61:] = False
    return torch.from_numpy(on)


def test_the_grid_is_that_of_the_published_file():
    sprites = Sprites()
    assert len(sprites) == 737_280
    assert sprites.factor_sizes == (1, 3, 6, 40, 32, 32)
    strides = torch.eye(6, dtype=torch.long)[1:]
    assert sprites.index(strides).tolist() == [245_760, 40_960, 1024, 32, 1]
    values = [v.tolist() for v in sprites.factor_values]
    assert values[:2] == [[1], [1, 2, 3]]
    assert values[2] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1])
    assert [values[3][39], values[4][31], values[5][31]] == pytest.approx([2 * math.pi, 1, 1])


def test_as_many_pixels_are_on_as_published(counts):
    assert abs(counts.sum() / PUBLISHED_TOTAL - 1) < 1e-3


def test_mean_counts_by_shape_and_scale(counts):
    means = counts.double().flatten(2).mean(2)
    assert (means - torch.tensor(PUBLISHED_MEANS)).abs().max() < 0.01


def test_counts_of_upright_shapes_at_the_first_position(counts):
    assert counts[:, :, 0, 0, 0].tolist() == AT_CENTRE_16_UPRIGHT


def test_the_heart_has_its_published_area():
    u, v = heart_half_outline().T
    assert np.trapezoid(u, v) * 2 == pytest.approx(224.67, abs=0.005)


def test_every_image_equals_the_plain_renderer(some_indices):
    sprites = Sprites()
    images = sprites[some_indices][:, 0].bool()
    for image, factors in zip(images, sprites.factors(some_indices).tolist(), strict=True):
        assert torch.equal(image, plain_image(factors)), factors


def test_the_border_is_blank_where_squares_reach_furthest(stored):
    largest = stored.subset(scale=[5])
    union = torch.zeros(64, 64)
    for part in torch.arange(len(largest)).split(8192):
        union = torch.maximum(union, largest[part].amax((0, 1)))
    rows, columns = union.any(1).nonzero()[:, 0], union.any(0).nonzero()[:, 0]
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [3, 60, 3, 60]


def test_the_first_and_last_orientation_are_one(stored):
    first, last = stored.subset(orientation=[0]), stored.subset(orientation=[39])
    assert len(first) == 18_432
    for part in torch.arange(len(first)).split(4608):
        assert torch.equal(first[part], last[part])


def test_a_heart_at_rest_points_down_and_turns_counter_clockwise():
    heart = Sprites().subset(shape=[2], scale=[5], posX=[15], posY=[15])
    image, turned = heart[0][0], heart[10][0]  # 10/39 of a turn: a little over a right angle
    assert image[:32].sum() > 1.3 * image[32:].sum()
    assert turned[:, :32].sum() > 1.3 * turned[:, 32:].sum()


def test_positions_move_right_and_down():
    square = Sprites().subset(shape=[0], scale=[0], orientation=[0])
    for image, row, column in (
        (square[0], 16, 16),
        (square[31], 48, 16),
        (square[32 * 31], 16, 48),
    ):
        rows, columns = image[0].nonzero().double().mean(0) + 0.5
        assert [rows, columns] == pytest.approx([row, column])


@pytest.mark.parametrize("size", [64, 32])
def test_images_in_memory_are_those_rendered_on_the_fly(stored, some_indices, size):
    memory = stored if size == 64 else Sprites(32, in_memory=True)
    assert torch.equal(memory[some_indices], Sprites(size)[some_indices])
    assert memory.nbytes == 737_280 * 2 * size**2 // 64
    assert Sprites(size).nbytes == 0
    assert torch.equal(memory.counts(some_indices), memory[some_indices].sum((1, 2, 3)).long())


def test_small_images_are_the_maxima_of_large_ones(some_indices):
    large = Sprites()[some_indices]
    assert torch.equal(Sprites(32)[some_indices], max_pool2d(large, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_have_the_default_dtype(dtype):
    torch.set_default_dtype(dtype)
    assert Sprites()[torch.tensor([0])].dtype == dtype


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="size: expected 64 or 32 pixels, got 28"):
        Sprites(28)
