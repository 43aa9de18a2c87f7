"""The heads of an Arrow IPC file's messages, which count the rows and the bytes without reading them.

Source: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format and format/Message.fbs
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from fastxent.sources.base import FormatError

_RECORD_BATCH = 3  # in the union MessageHeader


def record_batches(file: BinaryIO, name: str) -> Iterator[tuple[int, int, int]]:
    """Rows, bytes, and items of the longest column, of each record batch."""
    size = os.fstat(file.fileno()).st_size
    if file.read(8)[:6] != b"ARROW1":
        raise FormatError(f"{name}: no Arrow IPC file: it does not begin with ARROW1")
    place = 8
    while True:
        file.seek(place)
        mark, length = struct.unpack("<Ii", file.read(8).ljust(8, b"\0"))
        if mark == 0xFFFFFFFF:
            head = 8
        else:  # before version 0.15 there was no mark
            head, length = 4, mark
            file.seek(place + 4)
        if length == 0:
            return
        if not 0 < length <= size - place - head:
            raise FormatError(f"{name}: truncated: a message of {length} bytes at byte {place}, the file has {size}")
        try:
            kind, rows, body, items = _message(file.read(length))
        except struct.error:
            raise FormatError(f"{name}: corrupt: no message at byte {place}") from None
        place += head + length
        if not 0 <= body <= size - place:
            raise FormatError(f"{name}: truncated: {body} bytes of data at byte {place}, the file ends at byte {size}")
        place += body
        if kind == _RECORD_BATCH:
            yield rows, body, items


def _message(raw: bytes) -> tuple[int, int, int, int]:
    """Kind, rows, length of the body, and items of the longest column, of a flatbuffer Message.

    struct.error where it reaches outside.
    """

    def number(form: str, place: int) -> int:
        if place < 0:
            raise struct.error
        return int(struct.unpack_from(form, raw, place)[0])

    def field(table: int, index: int) -> int:
        vtable = table - number("<i", table)
        offset = number("<H", vtable + 4 + 2 * index) if 4 + 2 * index < number("<H", vtable) else 0
        return table + offset if offset else 0

    root = number("<I", 0)
    kind, header, body = field(root, 1), field(root, 2), field(root, 3)
    if not kind or not header:
        raise struct.error
    code = number("<B", kind)
    rows = items = 0
    if code == _RECORD_BATCH:
        batch = header + number("<I", header)
        length, nodes = field(batch, 0), field(batch, 1)
        rows = items = number("<q", length) if length else 0
        if nodes:  # a vector of (length, null count), children behind their parents: the scores of a list column
            nodes += number("<I", nodes)
            items = max(rows, *(number("<q", nodes + 4 + 16 * i) for i in range(number("<I", nodes))), 0)
    return code, rows, number("<q", body) if body else 0, items
