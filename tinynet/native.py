"""The compiled loops of ``native.c``, for pixels in the memory of the CPU.

``available`` is false where tinynet was installed without a C compiler; callers then use torch.
"""

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor


def _load() -> ctypes.CDLL | None:
    folder = Path(__file__).parent
    found = [
        path for suffix in EXTENSION_SUFFIXES if (path := folder / f"_native{suffix}").exists()
    ]
    try:
        return ctypes.CDLL(str(found[0])) if found else None
    except OSError:  # built on another machine
        return None


_LIBRARY = _load()
available = _LIBRARY is not None


def gather(rows: Tensor, ids: Tensor, out: Tensor) -> None:
    """``torch.index_select(rows, 0, ids, out=out)`` with the next row fetched ahead.

    ``rows`` uint8 (samples, …), strided along the first axis only; ``ids`` int64 (n,), which must
    be in range; ``out`` contiguous.
    """
    assert _LIBRARY is not None
    assert rows.dtype == out.dtype == torch.uint8
    assert rows[0].is_contiguous()
    assert out.is_contiguous()
    assert out.shape == (len(ids), *rows.shape[1:])
    count, stride, size = (
        ctypes.c_int64(value) for value in (len(ids), rows.stride(0), rows[0].numel())
    )
    _LIBRARY.gather(_address(rows), _address(ids.contiguous()), count, stride, size, _address(out))


def show(
    images: Tensor,
    shifts: tuple[Tensor, Tensor],
    mirrored: Tensor,
    affine: tuple[Tensor, Tensor],
    out: Tensor,
) -> None:
    """Crop, mirror and normalise in one pass over the pixels.

    ``images`` uint8 (n, H, W, C); ``shifts`` down and right in pixels, int64 (n,) each, less than
    the sides; ``mirrored`` bool (n,); ``affine`` scale and shift of a row, float32 (W · C,) each;
    ``out`` float32 or bfloat16 (n, H, W, C). All contiguous.
    """
    assert _LIBRARY is not None
    assert images.dtype == torch.uint8
    assert out.dtype in (torch.float32, torch.bfloat16)
    tensors = [images, *(part.contiguous() for part in shifts), mirrored.contiguous()]
    tensors += [*affine, out]
    assert all(tensor.is_contiguous() for tensor in tensors)
    assert out.shape == images.shape
    sizes = [ctypes.c_int64(size) for size in images.shape]
    half = ctypes.c_int(out.dtype == torch.bfloat16)
    first, *middle, last = map(_address, tensors)
    if _LIBRARY.show(first, *sizes, *middle, half, last):
        raise MemoryError("no memory for a row of pixels")


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
