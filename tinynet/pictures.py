"""One picture: encoded bytes to pixels and back, the same everywhere pixels are needed."""

import io

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

JPEG_MAGIC = b"\xff\xd8\xff"


def decode(data: bytes) -> np.ndarray:
    """Decode an encoded picture to uint8 (H, W, C); C is 1 for a grey JPEG and 3 otherwise.

    JPEGs go through libjpeg-turbo (2.5 times faster than PIL); whatever else PIL can read, and
    JPEGs in CMYK, are converted to RGB.
    Raises ``ValueError`` or ``OSError`` if the picture cannot be read.
    """
    if data.startswith(JPEG_MAGIC):
        # decode_jpeg wants a writable buffer, or it warns.
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            chw = decode_jpeg(buffer, mode=ImageReadMode.UNCHANGED)
        except RuntimeError as error:
            raise ValueError(str(error).split("\n")[0]) from error
        if chw.shape[0] in (1, 3):
            return chw.permute(1, 2, 0).contiguous().numpy()
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Give uint8 (H, W, 1 or 3) the asked number of channels: grey is repeated into RGB."""
    if pixels.shape[2] == channels:
        return pixels
    if pixels.shape[2] == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    raise ValueError(f"a picture of {pixels.shape[2]} channels cannot become {channels}")


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side of uint8 (H, W, C) to ``size`` (bicubic), cut the middle square."""
    height, width, channels = pixels.shape
    if (height, width) == (size, size):
        return pixels
    scale = size / min(height, width)
    grown = (max(size, round(width * scale)), max(size, round(height * scale)))
    picture = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    picture = picture.resize(grown, Image.Resampling.BICUBIC)
    left, top = (grown[0] - size) // 2, (grown[1] - size) // 2
    cut = np.asarray(picture.crop((left, top, left + size, top + size)))
    return cut.reshape(size, size, channels)


def encode_jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    """Encode uint8 (H, W, 1 or 3) as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(
        buffer, "JPEG", quality=quality
    )
    return buffer.getvalue()
