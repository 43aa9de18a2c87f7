"""The version, from the metadata of the installed package: it stands in pyproject.toml alone."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fastxent")
except PackageNotFoundError:  # a source tree that was built in place and not installed
    __version__ = "0+unknown"
