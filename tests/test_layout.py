import io
import tarfile

import numpy as np
import pytest

from tinynet.layout import NPY_HEADER, PIXELS_AT, npy_header, sample_stride, tar_headers


def test_headers_are_those_of_tarfile() -> None:
    names = ["a.cls", "n01443537/n01443537_0.npy", "x" * 96 + ".jpg"]
    sizes = [1, 12_416, 8**11 - 1]
    for name, size, header in zip(names, sizes, tar_headers(names, sizes), strict=True):
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o444
        assert header.tobytes() == info.tobuf(tarfile.USTAR_FORMAT)


def test_one_size_serves_all_headers() -> None:
    assert np.array_equal(tar_headers(["a", "b"], [7]), tar_headers(["a", "b"], [7, 7]))


@pytest.mark.parametrize("shape", [(64, 64, 3), (28, 28, 1), (224, 224, 3)])
def test_pixels_follow_numpys_own_header(shape: tuple[int, int, int]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(shape, np.uint8))
    assert buffer.getvalue()[:NPY_HEADER] == npy_header(shape)
    assert len(buffer.getvalue()) == NPY_HEADER + shape[0] * shape[1] * shape[2]


def test_an_npy_sample_of_tiny_imagenet_takes_14_336_bytes() -> None:
    assert sample_stride((64, 64, 3)) == 14_336
    assert PIXELS_AT == 1_664
