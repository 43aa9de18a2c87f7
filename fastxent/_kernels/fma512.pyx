"""The kernels, compiled for the level named by this module; setup.py has its flags, README.md the contract."""

include "kernels.pxi"
