"""Build of the kernels: one extension for each instruction-set level, from the same Cython sources.

Environment
-----------
FASTXENT_REQUIRE_OPENMP=1   fail where the compiler has no OpenMP, instead of building for one thread
FASTXENT_TEST_LEVELS=1      build the levels that only the tests use, too
FASTXENT_LEVELS=avx2        build these levels only (separated by commas): while working on the kernels
FASTXENT_DEBUG=1            bounds checks in the Cython code
SOURCE_DATE_EPOCH=...       the sdist's files have this time, and it has the same bytes whenever it is made
CYTHON_CACHE_DIR=folder     keep the generated C there, for the next build of the same sources wherever they lie
FASTXENT_SANITIZE=address,undefined  build with GCC's or Clang's sanitizers (tools/sanitize builds and runs that)
"""

import gzip
import multiprocessing
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.sdist import sdist

X86 = platform.machine().lower() in ("x86_64", "amd64")

# -ffp-contract=off: a multiply-add is fused only where the source says so, the same at every level.
# Nothing of -ffast-math: it would reorder sums, and at link time switch subnormals off for the whole process.
COMMON_FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-inline-functions-called-once", "-g0"]
if not X86:  # int8 arrays come in as char, which Arm has without a sign
    COMMON_FLAGS.append("-fsigned-char")

# With a sanitizer: what it says must carry lines and frames. At -O1 and not specialised, for it takes GCC long. Many
# Pythons build with -fwrapv, which leaves nothing of signed overflow to find. Null pointers and the ends of objects are
# AddressSanitizer's to see.
SANITIZE = os.environ.get("FASTXENT_SANITIZE", "")
INLINE = "inline __attribute__((always_inline, unused))"
if SANITIZE:
    INLINE = "inline __attribute__((unused))"
    COMMON_FLAGS[COMMON_FLAGS.index("-O3")] = "-O1"
    COMMON_FLAGS[COMMON_FLAGS.index("-g0")] = "-g1"
    COMMON_FLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize=null,object-size"]
    COMMON_FLAGS += ["-fno-omit-frame-pointer", "-fno-wrapv"]

# level: flags, machines. The checks of the CPU stand in fastxent/_kernels/platform.h, the order of preference in
# fastxent/_dispatch.py.
LEVELS: dict[str, tuple[list[str], bool]] = {
    "baseline": ([], True),
    "avx2": (["-mavx2", "-mfma", "-mf16c"], X86),
    "avx512": (
        ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c", "-mprefer-vector-width=512"],
        X86,
    ),
}
# The promise that the register width changes no bit, shown on any CPU with AVX2: registers of half the width and of
# twice it (in two halves), the latter standing in for AVX-512 where no CPU with it is at hand. Vectors in two
# halves keep GCC 12 busy for minutes at -O3; optimisation may change no bit either, so -O1 tests the same.
TEST_LEVELS: dict[str, tuple[list[str], bool]] = {
    "fma128": (["-mavx", "-mfma", "-mf16c", "-DFX_VBYTES=16"], X86),
    "fma512": (["-mavx2", "-mfma", "-mf16c", "-DFX_VBYTES=64", "-Wno-psabi", "-O1"], X86),
}


def openmp_flags() -> list[str]:
    """The compiler's OpenMP flags, or none where it has no OpenMP."""
    compiler = os.environ.get("CC", "cc").split()
    for flags in (["-fopenmp"], ["-Xpreprocessor", "-fopenmp", "-lomp"]):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
            try:
                subprocess.run(
                    [*compiler, str(source), "-o", str(Path(folder, "probe")), *flags], check=True, capture_output=True
                )
                return flags
            except (OSError, subprocess.CalledProcessError):
                continue
    if os.environ.get("FASTXENT_REQUIRE_OPENMP", "0") == "1":
        sys.exit("FASTXENT_REQUIRE_OPENMP=1, but the compiler builds no OpenMP program (on macOS: brew install libomp)")
    print("fastxent: no OpenMP found, the kernels will use one thread", file=sys.stderr)
    return []


def extensions() -> list[Extension]:
    """machine, which any CPU can import, and one extension a level."""
    openmp = openmp_flags()
    levels = LEVELS | (TEST_LEVELS if os.environ.get("FASTXENT_TEST_LEVELS", "0") == "1" else {})
    if only := os.environ.get("FASTXENT_LEVELS"):
        levels = {name: (LEVELS | TEST_LEVELS)[name] for name in only.split(",")}
    flags = {"machine": [], **{name: flags for name, (flags, here) in levels.items() if here}}
    folder = Path("fastxent", "_kernels")
    depends = [str(p) for p in sorted(folder.glob("*.pxi")) + sorted(folder.glob("*.h"))]
    return [
        Extension(
            f"fastxent._kernels.{name}",
            [f"fastxent/_kernels/{name}.pyx"],
            include_dirs=["fastxent/_kernels"],
            depends=depends,
            # every inline function of the kernels is one: a loop is specialised by the constants it is called with
            define_macros=[("CYTHON_INLINE", INLINE)],
            extra_compile_args=COMMON_FLAGS + level_flags + openmp,
            extra_link_args=openmp + ([f"-fsanitize={SANITIZE}"] if SANITIZE else []),
        )
        for name, level_flags in flags.items()
    ]


class ReproducibleSdist(sdist):
    """The sdist; where SOURCE_DATE_EPOCH is set, without a trace of clock and user, which setuptools leaves in it."""

    def make_archive(self, base_name: str, format: str, *args, base_dir: str = "", **others) -> str:
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return super().make_archive(base_name, format, *args, base_dir=base_dir, **others)

        def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = int(epoch), 0, 0, "", ""
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            return entry

        name = f"{base_name}.tar.gz"
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with (
            open(name, "wb") as file,
            gzip.GzipFile("", "wb", 9, file, int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)  # a folder's names in order: tarfile sorts them
        return name


# the levels compile side by side
parallel = {"build_ext": {"parallel": os.cpu_count() or 1}}
checks = os.environ.get("FASTXENT_DEBUG", "0") == "1"
# an sdist and the metadata want no kernels: generating their C takes a minute
command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
without_kernels = command in ("sdist", "egg_info", "dist_info")
# setup.py has no main guard, which other ways of starting processes want
processes = (os.cpu_count() or 1) if multiprocessing.get_start_method() == "fork" else 0
setup(
    options=parallel,
    cmdclass={"sdist": ReproducibleSdist},
    ext_modules=cythonize(
        [] if without_kernels else extensions(),
        language_level=3,
        nthreads=processes,
        cache=os.environ.get("CYTHON_CACHE_DIR", False),
        compiler_directives={
            "boundscheck": checks,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": checks,
            "embedsignature": True,
            "freethreading_compatible": True,
        },
    ),
)
