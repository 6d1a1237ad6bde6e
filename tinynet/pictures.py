"""One picture: encoded bytes to pixels and back, the same everywhere pixels are needed."""

import io

import numpy as np
import simplejpeg
from PIL import Image

JPEG_MAGIC = b"\xff\xd8\xff"


def decode(data: bytes) -> np.ndarray:
    """Decode an encoded picture to uint8 (H, W, C); C is 1 for a grey JPEG and 3 otherwise.

    JPEGs go through simplejpeg, four times faster than PIL; whatever else PIL can read, JPEGs in
    CMYK among it, is converted to RGB.
    Raises ``ValueError`` or ``OSError`` if the picture cannot be read.
    """
    if data.startswith(JPEG_MAGIC):
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours == "Gray":
            return simplejpeg.decode_jpeg(data, "GRAY")
        if colours == "YCbCr":
            return simplejpeg.decode_jpeg(data, "RGB")
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def decode_into(content: bytes | np.ndarray, out: np.ndarray, resize: bool) -> tuple[int, int, int]:
    """Bring an encoded picture, or pixels, into ``out``, uint8 (H, W, C); returns its own shape.

    Grey is repeated into RGB. A picture of another size is resized if ``resize``.
    Raises ``ValueError`` or ``OSError`` if it cannot be read or does not fit.
    """
    height, width, channels = out.shape
    if isinstance(content, bytes) and content.startswith(JPEG_MAGIC):
        *size, colours, _ = simplejpeg.decode_jpeg_header(content)
        own = {"Gray": 1, "YCbCr": 3}.get(colours, channels + 1)
        if size == [height, width] and own <= channels:
            simplejpeg.decode_jpeg(content, "GRAY" if channels == 1 else "RGB", buffer=out)
            return height, width, own
    decoded = decode(content) if isinstance(content, bytes) else content
    pixels = with_channels(decoded, channels)
    if resize:
        pixels = resized(pixels, height)
    if pixels.shape != out.shape:
        raise ValueError(
            f"it is {decoded.shape[1]}×{decoded.shape[0]}, others are {height}×{height}: "
            "give --image-size"
        )
    out[:] = pixels
    return decoded.shape[0], decoded.shape[1], decoded.shape[2]


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
