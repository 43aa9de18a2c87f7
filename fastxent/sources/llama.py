"""llama.cpp's KL base files, which ``llama-perplexity --kl-divergence-base`` writes: no library reads them.

Little-endian, without a version: 8 bytes ``_logits_``; uint32 n_ctx; int32 n_vocab; int32 n_chunk; int32
tokens[n_ctx * n_chunk]; then for each chunk n_ctx - 1 - n_ctx/2 rows, of the positions n_ctx/2 to n_ctx - 2, whose
labels are the next tokens. A row is 2 * ((n_vocab + 1)/2) + 4 uint16: two float32, scale and min_log_prob, then the
codes q, with log p = scale * q + min_log_prob. Source: llama.cpp, tools/perplexity/perplexity.cpp.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent.sources.base import FormatError, Options, Source
from fastxent.sources.raw import RawSource

MAGIC = b"_logits_"
_HEADER = struct.Struct("<8sIii")


class LlamaSource(Source):
    """Log-probabilities of a KL base file, as float32; decoded with one rounding of the product, one of the sum."""

    format = "llama.cpp"
    inputs = "log_probs"

    def __init__(self, codes: RawSource, classes: int) -> None:
        self._codes = codes
        self.name = codes.name
        self.shape = (codes.rows, classes)
        self.row_shape = (classes,)
        self.dtype = np.dtype(np.float32)

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        result = self.target(stop - start, out)
        # in pieces, so that the codes take little room beside the result
        step = max(1, (1 << 20) // self._codes.row_bytes)
        for row in range(start, stop, step):
            codes = self._codes.read(row, min(row + step, stop))
            scale, least = codes[:, :4].view("<f4").T[:, :, None]
            piece = result[row - start : row - start + len(codes)]
            with np.errstate(all="ignore"):  # a corrupt scale gives rows that are not finite, and are counted
                np.multiply(codes[:, 4 : 4 + self.shape[1]], scale, out=piece, dtype=np.float32)
                np.add(piece, least, out=piece)
        return result


class LlamaLabels(Source):
    """The next tokens of a KL base file, as int32."""

    format = "llama.cpp"

    def __init__(self, tokens: RawSource) -> None:
        self._tokens = tokens  # (n_chunk, n_ctx)
        chunks, context = tokens.shape
        self._each = context - 1 - context // 2  # rows of a chunk: its last tokens
        self.name = tokens.name
        self.shape = (chunks * self._each,)
        self.row_shape = ()
        self.dtype = tokens.dtype

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        result = self.target(stop - start, out)
        context = self._tokens.shape[1]
        row = start
        while row < stop:
            chunk, within = divmod(row, self._each)
            end = min(stop, (chunk + 1) * self._each)
            first = chunk * context + context - self._each + within
            result[row - start : end - start] = self._tokens.read(first, first + end - row)
            row = end
        return result


def is_llama(path: str | os.PathLike[str]) -> bool:
    """Whether this is a regular file that begins as a KL base file; an OSError where it is one that cannot be read."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open_llama(path: Path, options: Options) -> Source:
    """The log-probabilities, or the labels, of a KL base file."""
    name = str(path)
    if options.name is not None:
        raise FormatError(f"{name}: a KL base file of llama.cpp has no members, so none named {options.name!r}")
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise FormatError(f"{name}: truncated: a header of {_HEADER.size} bytes, the file ends at byte {size}")
    _, context, vocabulary, chunks = _HEADER.unpack(head)
    if context < 3 or vocabulary < 1 or chunks < 1:
        raise FormatError(f"{name}: the header says n_ctx {context}, n_vocab {vocabulary}, n_chunk {chunks}")
    rows = chunks * (context - 1 - context // 2)
    width = 2 * ((vocabulary + 1) // 2) + 4
    data = _HEADER.size + 4 * context * chunks
    wanted = data + 2 * rows * width
    if size != wanted:
        raise FormatError(
            f"{name}: {'truncated' if size < wanted else 'too long'}: n_ctx {context}, n_vocab {vocabulary}, n_chunk "
            f"{chunks} want {wanted} bytes, the file ends at byte {size}"
        )
    flat = Options(labels=True)
    if options.labels:
        tokens = RawSource(path, name, _HEADER.size, (chunks, context), np.dtype("<i4"), flat, size=size)
        return LlamaLabels(tokens)
    codes = RawSource(path, name, data, (rows, width), np.dtype("<u2"), Options(), size=size)
    return LlamaSource(codes, vocabulary)
