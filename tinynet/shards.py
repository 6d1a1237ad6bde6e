"""Shards on disk as one array of samples: plain WebDataset tars, mapped into memory.

A sample is two tar members, ``KEY.cls`` (the label in ASCII) and ``KEY.npy`` or ``KEY.jpg``.
A tar header takes 512 bytes and contents are padded to 512, so all ``npy`` samples of a split
take the same number of bytes and a shard is a strided array over its file: no index, no copy, no
decoding. ``jpg`` members are found through the offsets in the manifest.
"""

import json
import math
import mmap
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, get_args

import simplejpeg
import torch
from torch import Tensor

from tinynet import native
from tinynet.errors import UserError
from tinynet.layout import NPY_HEADER, PIXELS_AT, TAR_BLOCK, sample_stride

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

Encoding = Literal["npy", "jpg"]

PROBES = 8
"""Samples of a shard whose headers are looked at when it is opened."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar of a split. ``offsets`` and ``sizes`` (bytes) are those of the jpg members."""

    name: str
    samples: int
    bytes: int
    sha256: str
    labels: list[int]
    offsets: list[int]
    sizes: list[int]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a split holds; ``manifest.json`` beside its shards.

    ``image_shape`` is (height, width, channels); ``mean`` and ``std`` are per channel, of pixel
    values in 0…1; classes are in label order; ``source`` says where the pictures came from.
    """

    format_version: int
    split: str
    encoding: Encoding
    image_shape: tuple[int, int, int]
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    shards: tuple[Shard, ...]

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    def to_json(self) -> str:
        """One line per field and per shard, for people and for diffs."""
        fields = dict(vars(self))
        shards = ",\n  ".join(json.dumps(vars(shard)) for shard in fields.pop("shards"))
        lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in fields.items()]
        return "{\n" + "\n".join(lines) + f'\n "shards": [\n  {shards}\n ]\n}}\n'


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a split's folder; ``UserError`` if missing, foreign or damaged."""
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"no packed split in {folder} ({MANIFEST} is missing): make one with "
            f"`python launch/pack.py --source tiny-imagenet --path ZIP --out {folder.parent}`"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): pack the data set again") from None
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, this tinynet reads {FORMAT_VERSION}: "
            "pack the data set again with launch/pack.py"
        )
    try:
        shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        manifest = Manifest(**{**fields, **lists}, shards=shards)
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): pack the data set again") from None
    if manifest.encoding not in get_args(Encoding):
        raise UserError(
            f"{path} says encoding {manifest.encoding}, this tinynet reads "
            f"{' and '.join(get_args(Encoding))}: pack the data set again"
        )
    return manifest


class Split:
    """A packed split as an array: ``len``, ``labels`` and ``gather``.

    Opening checks the manifest, every shard's size, so that no mapped read can fall off the end
    of a file, and some headers of each; all contents are checked by ``launch/pack.py --verify``.
    Raises ``UserError`` naming the shard that is missing or not as its manifest says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.labels: Tensor = torch.tensor(
            [label for shard in self.manifest.shards for label in shard.labels], dtype=torch.int64
        )
        self._files = [_mapped(folder / shard.name, shard) for shard in self.manifest.shards]
        for file, shard in zip(self._files, self.manifest.shards, strict=True):
            _check(file, shard, self.manifest, folder / shard.name)
        counts = [shard.samples for shard in self.manifest.shards]
        self._starts = torch.tensor([0, *accumulate(counts)])
        if self.manifest.encoding == "npy":
            self._rows = [
                _as_array(file, shard.samples, self.manifest.image_shape)
                for file, shard in zip(self._files, self.manifest.shards, strict=True)
            ]
        self.resident: Tensor | None = None
        self._ids: Tensor | None = None
        self._threads = torch.get_num_threads()

    def part(self, sample_ids: Tensor) -> "Split":
        """Some samples as a split of their own; int64 (n,), ascending ids of this whole split."""
        part = copy(self)
        part.labels, part._ids = self.labels[sample_ids], sample_ids
        return part

    def reside(self, device: torch.device) -> None:
        """Bring all pixels to ``device``, as ``resident``, uint8 (samples, H, W, C)."""
        shape = (len(self), *self.manifest.image_shape)
        resident = torch.empty(shape, dtype=torch.uint8, device=device)
        for ids in torch.arange(len(self)).split(4096):
            resident[ids[0] : ids[-1] + 1] = self.gather(ids).to(device)
        self.resident = resident

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, sample_ids: Tensor) -> Tensor:
        """Pixels of the samples, uint8 (n, H, W, C), in the order of ``sample_ids`` (int64)."""
        ascending, order = sample_ids.sort()
        out = torch.empty((len(sample_ids), *self.manifest.image_shape), dtype=torch.uint8)
        return torch.empty_like(out).index_copy_(0, order, self.read(ascending, out))

    def read(self, ascending: Tensor, out: Tensor) -> Tensor:
        """Copy pixels straight from the maps into ``out``, uint8 (n, H, W, C); int64 (n,) ids.

        Raises ``IndexError`` for ids that the split does not have.
        """
        if self._ids is not None:
            ascending = self._ids[ascending]
        starts, bounds = self._starts.tolist(), torch.searchsorted(ascending, self._starts).tolist()
        if bounds[0] or bounds[-1] < len(ascending):
            raise IndexError(f"sample ids must be in 0 … {len(self) - 1}")
        for shard, (first, last) in enumerate(pairwise(bounds)):
            if first < last:
                local = ascending[first:last] - starts[shard]
                self._read(shard, local, out[first:last])
        return out

    def key(self, sample_id: int) -> str:
        """The sample's name in its shard, such as ``n01443537_0``."""
        if self._ids is not None:
            sample_id = int(self._ids[sample_id])
        shard = int(torch.searchsorted(self._starts, sample_id, right=True)) - 1
        local = sample_id - int(self._starts[shard])
        if self.manifest.encoding == "npy":
            at = local * sample_stride(self.manifest.image_shape)
        else:
            at = self.manifest.shards[shard].offsets[local] - TAR_BLOCK
        name = bytes(self._files[shard][at : at + 100].numpy())
        return name.split(b"\0")[0].decode().rsplit(".", 1)[0]

    def _read(self, shard: int, local: Tensor, out: Tensor) -> None:
        if self.manifest.encoding == "npy":
            if native.available:
                native.gather(self._rows[shard], local, out)
            else:
                torch.index_select(self._rows[shard], 0, local, out=out)
            return
        file, described = self._files[shard], self.manifest.shards[shard]
        data = file.numpy()
        pixels, samples = out.numpy(), local.tolist()
        colours = "GRAY" if self.manifest.image_shape[2] == 1 else "RGB"

        def decode(rows: range) -> None:
            for row, sample in zip(rows, samples[rows.start : rows.stop], strict=True):
                at = described.offsets[sample]
                jpeg = data[at : at + described.sizes[sample]]
                simplejpeg.decode_jpeg(jpeg, colours, buffer=pixels[row])

        # One block of rows for each thread; list() waits for all and lets the first error through.
        block = -(-len(samples) // self._threads)
        blocks = [
            range(first, min(first + block, len(samples)))
            for first in range(0, len(samples), block)
        ]
        if self._threads == 1:
            decode(range(len(samples)))
        else:
            list(self._decoders.map(decode, blocks))

    @cached_property
    def _decoders(self) -> ThreadPoolExecutor:
        """Threads, not processes: libjpeg runs outside the interpreter lock."""
        return ThreadPoolExecutor(self._threads, thread_name_prefix="decode")


def _mapped(path: Path, shard: Shard) -> Tensor:
    """Map a shard's file as uint8 (bytes,). Pages are shared by all processes that read it."""
    if not path.is_file():
        raise UserError(f"shard {path} is missing: copy it back or pack the data set again")
    size = path.stat().st_size
    if size != shard.bytes:
        raise UserError(
            f"shard {path} has {size:,} bytes, its manifest says {shard.bytes:,}: "
            "copy it again or pack the data set again"
        )
    with path.open("rb") as file:
        # torch.frombuffer warns of read-only buffers; a private map is writable and never written.
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(buffer, dtype=torch.uint8)


def _check(file: Tensor, shard: Shard, manifest: Manifest, path: Path) -> None:
    """Compare what a shard's size and some of its tar headers say with the manifest."""
    pixels = math.prod(manifest.image_shape)
    if manifest.encoding == "npy":
        stride = sample_stride(manifest.image_shape)
        whole = shard.bytes == shard.samples * stride + 2 * TAR_BLOCK
        headers = [sample * stride + 2 * TAR_BLOCK for sample in range(shard.samples)]
        sizes = [NPY_HEADER + pixels] * shard.samples
    else:
        ends = map(sum, zip(shard.offsets, shard.sizes, strict=False))
        whole = len(shard.offsets) == len(shard.sizes) == shard.samples
        whole = whole and all(TAR_BLOCK < end <= shard.bytes for end in ends)
        headers = [offset - TAR_BLOCK for offset in shard.offsets]
        sizes = shard.sizes
    if not whole or len(shard.labels) != shard.samples:
        raise UserError(
            f"shard {path} cannot hold what its manifest says, {shard.samples} {manifest.encoding} "
            f"samples of {manifest.image_shape} in {shard.bytes:,} bytes: pack the data set again"
        )
    for sample in {shard.samples * part // PROBES for part in range(PROBES)} if headers else ():
        header = bytes(file[headers[sample] : headers[sample] + TAR_BLOCK].numpy())
        name = header[:100].rstrip(b"\0").decode(errors="replace")
        right_size = header[124:135] == b"%011o" % sizes[sample]
        if (
            header[257:262] != b"ustar"
            or not right_size
            or not name.endswith(f".{manifest.encoding}")
        ):
            raise UserError(
                f"shard {path} has no {manifest.encoding} picture where its manifest says that "
                f"sample {sample} is (found {name!r}): pack the data set again"
            )


def _as_array(file: Tensor, samples: int, image_shape: tuple[int, int, int]) -> Tensor:
    """See a whole npy shard as uint8 (samples, H, W, C), strided over the mapped file."""
    _, width, channels = image_shape
    strides = (sample_stride(image_shape), width * channels, channels, 1)
    return file.as_strided((samples, *image_shape), strides, PIXELS_AT)
