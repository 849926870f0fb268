"""torchvision's sets, on small files in the formats they have on disk."""

import gzip
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_bvae.datasets import celeba, fashion_mnist, mnist

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def idx(array):
    """The idx format: two zeros, the type 8 (bytes), the rank, the sizes, the data."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(params=["packed", "unpacked"])
def idx_root(request, tmp_path):
    for name in ("MNIST", "FashionMNIST"):
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        for part, count in (("train", 5), ("t10k", 2)):
            for kind, array in (("images-idx3", PIXELS), ("labels-idx1", LABELS)):
                file = raw / f"{part}-{kind}-ubyte"
                if request.param == "packed":
                    file.with_name(file.name + ".gz").write_bytes(gzip.compress(idx(array[:count])))
                else:
                    file.write_bytes(idx(array[:count]))
    return tmp_path


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_images_and_labels_are_those_of_the_files(idx_root, load):
    train, test = load(idx_root), load(idx_root, split="test")
    assert torch.equal(train.images[:, 0] * 255, torch.from_numpy(PIXELS).double())
    assert train.labels.tolist() == LABELS.tolist()
    assert torch.equal(test.images, train.images[:2])
    padded = load(idx_root, size=32).images
    assert padded.shape == (5, 1, 32, 32)
    assert torch.equal(padded[:, :, 2:30, 2:30], train.images)
    assert padded.sum().item() == pytest.approx(train.images.sum().item())


def test_files_there_are_not_fetched_again(idx_root):
    assert len(mnist(idx_root, download=True).images) == 5


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"MNIST.raw.*download=True"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", idx(PIXELS)[:-7], b"\xff" * 200, idx(PIXELS[:, :8]), idx(LABELS)]
)
def test_damaged_images_are_refused(idx_root, content):
    (idx_root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=r"MNIST.raw"):
        mnist(idx_root)


def test_a_damaged_archive_leaves_nothing_behind(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(PIXELS))[:-20])
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged file"):
            mnist(tmp_path)


def test_other_splits_and_sizes_are_refused(idx_root):
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'all'"):
        mnist(idx_root, split="all")
    with pytest.raises(ValueError, match="size: expected 28 or 32 pixels, got 64"):
        fashion_mnist(idx_root, size=64)


@pytest.fixture
def celeba_root(tmp_path):
    """Six faces as published: jpg files and five tables, of which one says the split."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{k:06}.jpg" for k in range(1, 7)]
    for k, name in enumerate(names):
        image = np.full((218, 178, 3), 255, np.uint8)
        image[35:183, 15:163] = 40 * k  # the central square of 148 pixels
        Image.fromarray(image).save(folder / "img_align_celeba" / name, quality=95)
    tables = {
        "list_eval_partition.txt": [f"{n} {p}" for n, p in zip(names, "000112", strict=True)],
        "identity_CelebA.txt": [f"{n} {k}" for k, n in enumerate(names)],
        "list_attr_celeba.txt": ["6", "Bald Young", *(f"{n}  1 -1" for n in names)],
        "list_bbox_celeba.txt": ["6", "image_id x_1 y_1 width height", *names],
        "list_landmarks_align_celeba.txt": ["6", "lefteye_x lefteye_y", *names],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "faces"),
    [("train", [0, 1, 2]), ("valid", [3, 4]), ("test", [5]), ("all", [0, 1, 2, 3, 4, 5])],
)
def test_faces_of_a_split_are_cropped_and_resized(celeba_root, split, faces):
    data = celeba(celeba_root, split=split, size=16)
    batch = data[torch.arange(len(data))]
    assert batch.shape == (len(faces), 3, 16, 16)
    # JPEG blurs the edge of the square, by 2 of 255 levels in the inner pixels at most.
    levels = batch[:, :, 2:-2, 2:-2].mean((1, 2, 3)) * 255
    assert levels.tolist() == pytest.approx([40 * k for k in faces], abs=2)
    assert batch[0].std() < 0.03


def test_a_wider_crop_keeps_more(celeba_root):
    assert celeba(celeba_root, size=8, crop=178)[0].mean() > 0.2


def test_missing_or_damaged_faces_are_named(celeba_root, tmp_path):
    partition = celeba_root / "celeba" / "list_eval_partition.txt"
    with pytest.raises(ValueError, match=r"split: expected one of .* got 'dev'"):
        celeba(celeba_root, split="dev")
    partition.write_text("000001.jpg 7\n")
    with pytest.raises(ValueError, match="expected lines of a file name and 0, 1 or 2"):
        celeba(celeba_root)
    partition.write_text("absent.jpg 0\n")
    with pytest.raises(ValueError, match=r"absent\.jpg: expected a readable image"):
        celeba(celeba_root)[0]
    partition.unlink()
    with pytest.raises(FileNotFoundError, match=r"list_eval_partition\.txt.*download=True"):
        celeba(celeba_root)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "CelebA"])
def test_download_is_torchvisions(monkeypatch, tmp_path, name):
    """`download=True` reaches the method of torchvision that fetches, with our folder."""
    from torchvision import datasets

    class FetchedError(Exception):
        pass

    def fetch(self):
        raise FetchedError(self.root)

    monkeypatch.setattr(getattr(datasets, name), "download", fetch)
    load = {"MNIST": mnist, "FashionMNIST": fashion_mnist, "CelebA": celeba}[name]
    with pytest.raises(FetchedError, match=str(tmp_path)):
        load(tmp_path, download=True)


def test_a_torchvision_that_does_not_fit_is_explained(monkeypatch, tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"does not fit .*nms does not exist.*whl/cpu"):
        mnist(tmp_path)
