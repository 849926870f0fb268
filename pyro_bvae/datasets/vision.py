"""MNIST, Fashion-MNIST and CelebA, fetched by torchvision and given as sources of batches."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType

import torch
from torch.nn.functional import pad

from pyro_bvae.datasets.images import ImageFiles
from pyro_bvae.datasets.labelled import LabelledImages

_CELEBA_SPLITS = {"train": {"0"}, "valid": {"1"}, "test": {"2"}, "all": {"0", "1", "2"}}


def mnist(
    root: str | Path, *, split: str = "train", size: int = 28, download: bool = False
) -> LabelledImages:
    """MNIST's handwritten digits: 60,000 to train, 10,000 to test, `[n, 1, size, size]`.

    Args:
        root: the folder that holds `MNIST/raw/`, torchvision's.
        split: `"train"` or `"test"`.
        size: 28, or 32 to pad with two blank pixels on each side.
        download: let torchvision fetch the files if they are not there.

    Raises:
        FileNotFoundError: files missing, and not to be downloaded.
        ValueError: files that are damaged, another split or size.
        ImportError: torchvision that does not fit the installed torch.

    Reference:
        LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document
        recognition".
    """
    return _idx_images("MNIST", Path(root), split, size, download)


def fashion_mnist(
    root: str | Path, *, split: str = "train", size: int = 28, download: bool = False
) -> LabelledImages:
    """Fashion-MNIST's articles of clothing; everything else as :func:`mnist`.

    The folder in `root` is `FashionMNIST/raw/`.

    Raises:
        FileNotFoundError: files missing, and not to be downloaded.
        ValueError: files that are damaged, another split or size.
        ImportError: torchvision that does not fit the installed torch.

    Reference:
        Xiao, Rasul, Vollgraf 2017, "Fashion-MNIST: a novel image dataset for benchmarking
        machine learning algorithms".
    """
    return _idx_images("FashionMNIST", Path(root), split, size, download)


def celeba(
    root: str | Path,
    *,
    split: str = "train",
    size: int = 64,
    crop: int = 148,
    download: bool = False,
) -> ImageFiles:
    """CelebA's 202,599 aligned faces, `[n, 3, size, size]`, read from their files when needed.

    Args:
        root: the folder that holds `celeba/`, torchvision's: `img_align_celeba/` and
            `list_eval_partition.txt`.
        split: `"train"` (162,770), `"valid"` (19,867), `"test"` (19,962) or `"all"`.
        size: width and height of the images given.
        crop: the side of the central square that is kept, of 178 × 218 pixels.
        download: let torchvision fetch the files, or compare them with their checksums.

    Raises:
        FileNotFoundError: files missing, and not to be downloaded.
        ValueError: another split, a partition file that cannot be read.
        ImportError: torchvision that does not fit the installed torch.

    Reference:
        Liu, Luo, Wang, Tang 2015, "Deep learning face attributes in the wild".
    """
    if split not in _CELEBA_SPLITS:
        raise ValueError(f"split: expected one of {tuple(_CELEBA_SPLITS)}, got {split!r}.")
    if download:
        _torchvision_datasets().CelebA(str(root), download=True)
    folder = Path(root) / "celeba"
    partition, pictures = folder / "list_eval_partition.txt", folder / "img_align_celeba"
    for needed in (partition, pictures):
        if not needed.exists():
            raise FileNotFoundError(f"root: no {needed}. Give its folder, or download=True.")
    rows = [line.split() for line in partition.read_text().splitlines() if line.strip()]
    if not rows or any(len(row) != 2 or row[1] not in _CELEBA_SPLITS["all"] for row in rows):
        raise ValueError(f"{partition}: expected lines of a file name and 0, 1 or 2.")
    names = [name for name, part in rows if part in _CELEBA_SPLITS[split]]
    return ImageFiles([pictures / name for name in names], size=size, crop=crop)


def _idx_images(name: str, root: Path, split: str, size: int, download: bool) -> LabelledImages:
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}.")
    if size not in (28, 32):
        raise ValueError(f"size: expected 28 or 32 pixels, got {size!r}.")
    kind = getattr(_torchvision_datasets(), name)
    raw = root / name / "raw"
    try:
        _unpack(raw)
        data = kind(str(root), train=split == "train", download=download)
    except RuntimeError as error:
        missing = FileNotFoundError if "not found" in str(error) else ValueError
        raise missing(f"root: {raw}: {error}") from error
    except (AssertionError, EOFError, KeyError, TypeError, ValueError, gzip.BadGzipFile) as error:
        raise ValueError(f"{raw}: damaged file, fetch it again ({error!r}).") from error
    if data.data.shape[1:] != (28, 28) or len(data.data) != len(data.targets):
        raise ValueError(
            f"{raw}: expected 28×28 images and as many labels, got {list(data.data.shape)} and "
            f"{len(data.targets)}."
        )
    images = data.data[:, None].to(torch.get_default_dtype()) / 255
    return LabelledImages(pad(images, [(size - 28) // 2] * 4), data.targets)


def _unpack(folder: Path) -> None:
    """Unpack the archives that torchvision would fetch again because it finds them packed."""
    for archive in folder.glob("*-ubyte.gz"):
        target = archive.with_suffix("")
        if not target.exists():
            target.write_bytes(gzip.decompress(archive.read_bytes()))


def _torchvision_datasets() -> ModuleType:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"torchvision does not fit the installed torch {torch.__version__} ({error}). Install "
            "both from one place; with a CPU build of torch: pip install --force-reinstall "
            "torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from error
    return datasets
