#!/usr/bin/env bash
# The installed package on older CPUs, emulated (QEMU, user mode): the level that is chosen, its bits against those of this
# CPU, and the word that a level which the CPU lacks is refused with. Wants a CPU with AVX2.
#
#     apt-get install qemu-user
#     tools/old_cpus.sh .venv/bin/python
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tools=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" # not the source tree, whose package would be imported instead
unset FASTXENT_LEVEL
demo=(-m fastxent eval --demo --json -)
emulated() { qemu-x86_64 -cpu "$@" 2> errors || { grep -v 'TCG doesn.t support' errors; return 1; }; }

# Nehalem (2008) has SSE 4.2 at most; Haswell (2013) has AVX2, FMA and F16C, and no AVX-512
for pair in Nehalem:baseline Haswell:avx2; do
    cpu=${pair%:*} level=${pair#*:}
    chosen=$(emulated "$cpu" "$python" -c 'from fastxent import _dispatch; print(_dispatch.level)')
    [ "$chosen" = "$level" ] || { echo "$cpu: level $chosen, not $level"; exit 1; }
    FASTXENT_LEVEL=$level "$python" -I "$tools/bits.py" save "$level.json" --few > /dev/null
    emulated "$cpu" "$python" -I "$tools/bits.py" compare "$level.json" --few
    FASTXENT_LEVEL=$level "$python" "${demo[@]}" > here.json
    emulated "$cpu" "$python" "${demo[@]}" > there.json
    cmp here.json there.json
    echo "$cpu: $level, the same bits, the demo too"
done
if FASTXENT_LEVEL=avx2 emulated Nehalem "$python" -m fastxent info > refused; then
    echo "avx2 was not refused on a CPU without it"
    exit 1
fi
grep "FASTXENT_LEVEL is 'avx2', but that level needs instructions that this CPU lacks" refused
