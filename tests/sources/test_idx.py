import gzip
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST, FashionMNIST

from tinynet.errors import UserError
from tinynet.packing import pack
from tinynet.shards import Split
from tinynet.sources.idx import fashion_mnist, fetch_fashion_mnist, fetch_mnist, mnist


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(raw: Path, seed: int = 0) -> Path:
    """Some plain and some gzipped, in names as two distributors write them."""
    rng = np.random.default_rng(seed)
    raw.mkdir(parents=True)
    for prefix, count in (("train", 20), ("t10k", 7)):
        images = idx(rng.integers(0, 256, (count, 28, 28)))
        (raw / f"{prefix}-images.idx3-ubyte").write_bytes(images)
        labels = gzip.compress(idx(np.arange(count) % 10))
        (raw / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(labels)
    return raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "MNIST" / "raw").parents[1]


def test_pictures_and_labels_are_packed(folder: Path, tmp_path: Path) -> None:
    source = mnist(folder)
    assert [len(source.splits[split]) for split in ("train", "val")] == [20, 7]
    picture = source.splits["val"][3]
    assert picture.label == 3
    assert np.asarray(source.read(picture)).shape == (28, 28, 1)
    pack(source, tmp_path / "out", lambda _: None)
    split = Split(tmp_path / "out/train")
    assert split.manifest.image_shape == (28, 28, 1)
    assert split.manifest.class_names == tuple("0123456789")
    image = split.gather(split.labels.new_tensor([0]))[0].numpy()
    packed = {p.key: p for p in source.splits["train"]}[split.key(0)]
    np.testing.assert_array_equal(image, source.read(packed))


def test_every_usual_place_will_do(folder: Path) -> None:
    pictures = [mnist(folder / below).splits for below in ("", "MNIST", "MNIST/raw")]
    assert pictures[0] == pictures[1] == pictures[2]


def test_mnist_and_fashion_side_by_side_are_told_apart(folder: Path) -> None:
    write(folder / "FashionMNIST" / "raw", seed=1)
    digits, clothes = mnist(folder), fashion_mnist(folder)
    assert clothes.class_names[9] == "Ankle boot"
    assert clothes.class_ids == digits.class_ids == digits.class_names
    pictures = [np.asarray(s.read(s.splits["train"][0])) for s in (digits, clothes)]
    assert not np.array_equal(*pictures)


def test_bad_files_are_named(folder: Path) -> None:
    images, labels = (
        folder / "MNIST/raw" / name for name in ("t10k-images.idx3-ubyte", "t10k-labels-idx1-ubyte")
    )
    good = images.read_bytes()
    for path, content, message in [
        (images, good[:-5], "holds 5,483 bytes of values, its head says 5,488"),
        (images, b"\0\0\x0d\x03" + good[4:], "not an idx file of bytes with 3 axes"),
        (images, good[:9], "not an idx file"),
        (images, b"", "not an idx file"),
        (images, idx(np.zeros((7, 32, 32))), "7×32×32, not pictures of 28×28"),
        (images, idx(np.zeros((6, 28, 28))), "holds 6 pictures but .* 7 labels"),
        (labels, idx(np.full(7, 10)), "has label 10, and MNIST has 0 to 9"),
    ]:
        images.write_bytes(good)
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path}.*{message}"):
            mnist(folder)
    images.unlink()
    with pytest.raises(UserError, match=r"holds no t10k-images-idx3-ubyte"):
        mnist(folder)


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(bytes(9999))[:-9]])
def test_a_damaged_gzip_is_named(folder: Path, content: bytes) -> None:
    (folder / "MNIST/raw/train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz cannot be read"):
        mnist(folder)


def test_an_unreachable_server_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data_set in (MNIST, FashionMNIST):
        monkeypatch.setattr(data_set, "mirrors", ["http://127.0.0.1:9/"])
    for fetch in (fetch_mnist, fetch_fashion_mnist):
        with pytest.raises(UserError, match=r"could not be downloaded .* --path FOLDER"):
            fetch(tmp_path)


def test_what_was_fetched_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = write(tmp_path / "served")
    for path in list(served.glob("*.idx3-ubyte")):
        name = path.name.replace(".", "-") + ".gz"
        (served / name).write_bytes(gzip.compress(path.read_bytes()))
    resources = [(path.name, None) for path in served.glob("*.gz")]
    monkeypatch.setattr(MNIST, "resources", resources)
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        found = fetch_mnist(tmp_path / "cache")
        server.shutdown()
        thread.join()
    assert len(mnist(found).splits["train"]) == 20
    assert mnist(tmp_path / "cache").splits == mnist(found).splits
