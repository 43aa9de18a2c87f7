#!/usr/bin/env bash
# Build the kernels for 64-bit Arm on x86-64 and run them under an emulator (QEMU, user mode), against bits from here.
#
#     apt-get install gcc-aarch64-linux-gnu qemu-user
#     dpkg --add-architecture arm64 && apt-get update
#     FASTXENT_LEVEL=avx2 python tools/bits.py save bits.json
#     tools/cross_arm.sh build/arm bits.json [--few]
#
# The folder keeps what was downloaded (Debian's Python 3.11 for arm64, NumPy's wheel) and the build. The Python that runs
# this needs Cython and setuptools and must be 3.11, too; nothing of it but the headers' versions enters the build.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd) bits=$(realpath "$2")
shift 2
cd "$(dirname "$0")/.."
tools=$PWD/tools
python=${PYTHON:-python3}
root=$folder/root packages=$folder/packages
version=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

if [ ! -d "$root" ]; then
    mkdir -p "$folder/debs"
    names=(libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libssl3 libuuid1 libcrypt1 \
        "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib" "libpython$version" \
        "libpython$version-dev")
    (cd "$folder/debs" && apt-get download -q "${names[@]/%/:arm64}" 2> "$folder/apt.log") || { cat "$folder/apt.log"; exit 1; }
    for deb in "$folder"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
fi
if [ ! -d "$packages/numpy" ]; then
    $python -m pip install -q --no-deps --target "$packages" --only-binary :all: --python-version "$version" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 "numpy>=2"
fi

# the kernels, in a copy: this tree keeps its own
rm -rf "$folder/build"
mkdir "$folder/build"
# with their times: no C is taken for newer than it is
cp -a fastxent fastxent_command.py setup.py pyproject.toml README.md LICENSE "$folder/build"
(
    cd "$folder/build"
    find . -name '*.so' -delete
    export CC="${CCACHE:-} aarch64-linux-gnu-gcc" LDSHARED="aarch64-linux-gnu-gcc -shared" FASTXENT_LEVELS=baseline
    export CFLAGS="-I$root/usr/include/python$version -I$root/usr/include -Wno-psabi -fsigned-char" FASTXENT_REQUIRE_OPENMP=1
    $python setup.py -q build_ext --inplace > "$folder/build.log" 2>&1 || { tail -30 "$folder/build.log"; exit 1; }
    for file in fastxent/_kernels/*.so; do mv "$file" "${file%%.*}.cpython-${version/./}-aarch64-linux-gnu.so"; done
)

export PYTHONPATH=$folder/build:$packages QEMU_LD_PREFIX=$root FASTXENT_NUM_THREADS=${FASTXENT_NUM_THREADS:-2}
export PYTHONHOME=$root/usr
unset FASTXENT_LEVEL
cd "$folder" # not the source tree, whose package would be imported instead
emulated() { qemu-aarch64 "$root/usr/bin/python$version" "$@"; }
emulated -c 'import fastxent; fastxent.show_config()'
emulated "$tools/bits.py" compare "$bits" "$@"
