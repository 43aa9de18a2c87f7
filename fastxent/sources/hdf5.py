"""HDF5 files through h5py: a dataset, a band of chunks at a time.

What leads out of the file (external links, external storage, virtual datasets) is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent.sources.base import BLOCK_BYTES, FormatError, Options, check_numbers, check_shape, optional, pick, reading
from fastxent.sources.boxes import Box, BoxSource

_MOST_NAMES = 10_000


class Hdf5Source(BoxSource):
    """Rows of a dataset."""

    format = "hdf5"

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        h5py = optional("h5py", str(path))
        with reading(str(path), "no .h5 file, or a corrupt one"), h5py.File(path, "r") as file:
            self.member = pick(_datasets(file, h5py), options, str(path), "dataset")
            name = f"{path}:{self.member}"
            dataset = file[self.member]
            if dataset.is_virtual or dataset.external:
                raise FormatError(f"{name}: its data lie in other files, which are not followed")
            shape, dtype, chunks = dataset.shape, dataset.dtype, dataset.chunks
            if dtype.hasobject:
                raise FormatError(f"{name}: items of no fixed size; save numbers, or text of fixed width")
            check_numbers(dtype, name)
            if shape is None:
                raise FormatError(f"{name}: an empty dataset, without a shape")
            check_shape(shape, dtype, name)
            self._size = os.fstat(file.id.get_vfd_handle()).st_size
        super().__init__(name, shape, dtype, options, chunks=chunks, band_bytes=BLOCK_BYTES)
        self._file: Any = None

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _read_box(self, box: Box) -> NDArray[Any]:
        with reading(self.name, "corrupt"):
            if self._file is None:
                # no cache of chunks: a band is a whole number of them
                self._file = optional("h5py", self.name).File(self.path, "r", rdcc_nbytes=0)
            values: NDArray[Any] = np.asarray(self._file[self.member][box])
            # behind the end of the file the library gives zeros (H5FDsec2.c, H5FD__sec2_read), and no error
            size = os.fstat(self._file.id.get_vfd_handle()).st_size
            if size < self._size:
                raise FormatError(
                    f"{self.name}: truncated while it was read: it ended at byte {self._size}, now at byte {size}"
                )
            return values


def _datasets(file: Any, h5py: Any) -> list[str]:
    """Names of the datasets in a file, found by its hard links alone."""
    names: list[str] = []
    seen = {hash(file["/"].id)}  # a group may hold itself
    groups = [("", file)]
    while groups:
        prefix, group = groups.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue
            item = group[key]
            if isinstance(item, h5py.Dataset):
                names.append(prefix + key)
            elif isinstance(item, h5py.Group) and hash(item.id) not in seen:
                seen.add(hash(item.id))
                groups.append((f"{prefix}{key}/", item))
            if len(names) + len(seen) > _MOST_NAMES:
                raise FormatError(f"{file.filename}: more than {_MOST_NAMES} groups and datasets")
    return names
