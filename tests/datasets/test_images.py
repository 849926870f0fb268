"""Folders of image files."""

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_bvae.datasets import ImageFiles, as_source, image_folder


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    save(tmp_path / "b.png", rng.integers(0, 256, (8, 8, 3)))
    save(tmp_path / "a.png", rng.integers(0, 256, (8, 8, 3)))
    save(tmp_path / "more" / "c.PNG", rng.integers(0, 256, (8, 8, 3)))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_come_in_the_order_of_their_names(folder):
    data = image_folder(folder, size=8)
    assert [path.name for path in data.paths] == ["a.png", "b.png", "c.PNG"]
    expected = np.stack([np.array(Image.open(path)) for path in data.paths])
    batch = data[torch.arange(3)]
    assert torch.equal(batch, torch.from_numpy(expected).permute(0, 3, 1, 2).double() / 255)
    assert torch.equal(data[1], batch[1])
    assert as_source(data) is data


def test_the_central_square_is_kept(tmp_path):
    pixels = np.zeros((4, 10), np.uint8)
    pixels[:, 3:7] = 255
    pixels[1:3, 4:6] = 51
    save(tmp_path / "wide.png", pixels)
    data = image_folder(tmp_path, size=4, channels=1)
    assert data[0].shape == (1, 4, 4)
    assert data[0].unique().tolist() == pytest.approx([0.2, 1])
    assert data[0].mean().item() == pytest.approx((4 * 0.2 + 12) / 16)
    cropped = ImageFiles([tmp_path / "wide.png"], size=1, channels=1, crop=2)
    assert cropped[0].item() == pytest.approx(0.2)


def test_resizing_keeps_a_constant_image_and_the_mean_of_an_even_one(tmp_path):
    save(tmp_path / "constant.png", np.full((9, 9), 102))
    save(tmp_path / "stripes.png", np.tile([[0, 255]], (8, 4)))
    constant, stripes = image_folder(tmp_path, size=4, channels=1)[torch.arange(2)]
    assert torch.equal(constant, torch.full((1, 4, 4), 0.4))
    # Antialiased halving: all pixels near the mean, none one of the stripes.
    assert (stripes - 0.5).abs().max() < 0.15


@pytest.mark.parametrize(("mode", "colour", "grey"), [("L", 51, 0.2), ("RGB", (51,) * 3, 0.2)])
def test_grey_and_colour_files_are_converted(tmp_path, mode, colour, grey):
    Image.new(mode, (4, 4), colour).save(tmp_path / "a.png")
    assert torch.allclose(image_folder(tmp_path, size=4)[0], torch.full((3, 4, 4), grey))
    assert torch.allclose(
        image_folder(tmp_path, size=4, channels=1)[0], torch.full((1, 4, 4), grey)
    )


@pytest.mark.parametrize("keep", [0, 10, 60, 120])
def test_a_damaged_file_is_named(folder, keep):
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:keep])
    data = image_folder(folder, size=8)
    assert data[torch.tensor([0, 2])].shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"b\.png: expected a readable image"):
        data[torch.tensor([0, 1])]


def test_deep_and_small_images_are_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png.*8 bits a channel"):
        image_folder(tmp_path, size=8)[0]
    save(tmp_path / "small.png", np.zeros((8, 8)))
    with pytest.raises(ValueError, match=r"small\.png.*a square of 9 pixels"):
        ImageFiles([tmp_path / "small.png"], size=8, crop=9)[0]


def test_bad_arguments_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="path: expected a folder with images"):
        image_folder(folder / "nowhere", size=8)
    with pytest.raises(ValueError, match=r"channels: expected 3 .* got 4"):
        image_folder(folder, size=8, channels=4)
    with pytest.raises(ValueError, match="size: expected at least 1 pixel"):
        image_folder(folder, size=0)
