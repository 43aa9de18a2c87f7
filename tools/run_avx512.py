"""Run the avx512 level on an emulated CPU: Linux in the Bochs emulator, whose Skylake-X has AVX-512.

    apt-get install bochs bochs-sdl bochsbios vgabios isolinux xorriso busybox-static
    apt-get download linux-image-6.1.0-56-cloud-amd64 && dpkg-deb -x linux-image-*.deb kernel
    FASTXENT_LEVEL=avx2 python tools/bits.py save bits.json
    python tools/run_avx512.py kernel/boot/vmlinuz-* bits.json [--few]

A CD is made whose initial file system has busybox, this Python with NumPy and fastxent (those files only that
tools/bits.py uses) and the saved digests. In there tools/bits.py compares what the avx512 level gives with what was
saved; what it prints comes out of the serial line. Some three minutes of a core: Bochs interprets every instruction.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
exec > /dev/ttyS0 2>&1
export {environment}
cd /
{command}
echo "exit status $?"
echo FINISHED
/bin/busybox sleep 2 # until the line has sent it
/bin/busybox poweroff -f
"""
SETTINGS = """
cpu: model=corei7_skylake_x, count=1, ips=10000000, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
clock: sync=none
display_library: sdl2
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
log: {log}
panic: action=fatal
"""


def files_in_use(environment: dict[str, str], few: list[str], saved: Path) -> set[Path]:
    """The files that a run of tools/bits.py here reads: modules, and libraries that they load."""
    code = f"""
import pathlib, runpy, sys
sys.argv = ["bits.py", "compare", {str(saved)!r}, *{few!r}]
try:
    runpy.run_path({str(HERE / "bits.py")!r}, run_name="__main__")
except SystemExit:
    pass
files = {{m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)}}
files |= {{m.__cached__ for m in sys.modules.values() if getattr(m, "__cached__", None)}}
files |= {{line.split()[-1] for line in open("/proc/self/maps") if "/" in line and ".so" in line}}
print("FILES", *files, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    print(done.stdout.partition("FILES")[0], end="")
    files = {Path(name) for name in done.stdout.partition("FILES")[2].split() if Path(name).is_file()}
    # the memory map has libraries by their own names, the loader asks for them by those of links
    libraries = {f for f in files if ".so" in f.name and "site-packages" not in f.parts}
    return files | {link for f in libraries for link in f.parent.glob(f.name.partition(".so")[0] + ".so.*")}


def put(file: Path, root: Path) -> None:
    """Copy a file to the same path under root, and the target of a link with it."""
    place = root / file.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, place)  # with its time, which the compiled modules' are compared to
    if ".so" in file.name and "site-packages" not in file.parts:  # symbols for debuggers would take long to load
        subprocess.run(["strip", "--strip-unneeded", str(place)], check=True)


def initial_file_system(root: Path, files: set[Path], environment: dict[str, str], command: str) -> None:
    for file in files:
        put(file, root)
    for name in ("bin", "proc", "dev", "tmp"):
        (root / name).mkdir(exist_ok=True)
    shutil.copy2(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
    assignments = " ".join(f"{name}={value}" for name, value in environment.items())
    (root / "init").write_text(INIT.format(environment=assignments, command=command))
    (root / "init").chmod(0o755)


# Bochs 2.7 gives the size of the standard XSAVE area where Linux asks for that of the compacted one, whereupon Linux
# gives up all of AVX: XSAVES and XSAVEC, which are compacted, are both to be left alone (noxsaves does not do it)
APPEND = "initrd=/initrd console=ttyS0 quiet mitigations=off nokaslr audit=0 no_timer_check clearcpuid=xsaves,xsavec"


def make_iso(folder: Path, root: Path, kernel: Path) -> Path:
    cd = folder / "cd"
    cd.mkdir()
    with (cd / "initrd").open("wb") as out:
        names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, stdout=out, check=True)
    shutil.copy(kernel, cd / "vmlinuz")
    shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", cd)
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", cd)
    (cd / "isolinux.cfg").write_text(f"default linux\nprompt 0\nlabel linux\n kernel /vmlinuz\n append {APPEND}\n")
    iso = folder / "cd.iso"
    made = [
        *("xorriso", "-as", "mkisofs", "-quiet", "-o", str(iso), "-b", "isolinux.bin", "-c", "boot.cat"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", str(cd)),
    ]
    subprocess.run(made, check=True)
    return iso


def emulate(folder: Path, iso: Path, minutes: float) -> str:
    """What came out of the serial line."""
    serial, settings = folder / "serial.txt", folder / "bochsrc"
    settings.write_text(SETTINGS.format(iso=iso, serial=serial, log=folder / "bochs.log"))
    start = folder / "start"  # Debian's Bochs has its debugger in and waits for a command
    start.write_text("continue\n")
    call = ["bochs", "-q", "-f", str(settings), "-rc", str(start)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(call, env=os.environ | {"SDL_VIDEODRIVER": "dummy"}, **quiet) as bochs:
        seen, until = 0, time.monotonic() + 60 * minutes
        while bochs.poll() is None and time.monotonic() < until:
            time.sleep(1)
            text = serial.read_text(errors="replace") if serial.exists() else ""
            print(text[seen:], end="", flush=True)
            seen = len(text)
            if "FINISHED" in text or "Kernel panic" in text:
                break
        bochs.kill()
    return serial.read_text(errors="replace") if serial.exists() else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("kernel", type=Path, help="a Linux kernel (vmlinuz) with the serial console built in")
    parser.add_argument("bits", type=Path, help="what tools/bits.py saved at another level")
    parser.add_argument("--few", action="store_true", help="fewer sizes")
    parser.add_argument("--minutes", type=float, default=60, help="give up after that many")
    parser.add_argument("--folder", type=Path, help="keep everything that is made in this folder")
    args = parser.parse_args()
    few = ["--few"] * args.few
    python_path = os.pathsep.join(p for p in sys.path if p and p != str(HERE))
    environment = {"PYTHONPATH": python_path, "PYTHONHOME": sys.base_prefix, "FASTXENT_NUM_THREADS": "1"}
    saved = args.bits.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = files_in_use(os.environ | environment, few, saved) | {saved, HERE / "bits.py"}
        here = {f for f in files if f.name.startswith(("avx2.", "baseline.", "avx512.")) and f.suffix == ".so"}
        files |= {f.with_name(f.name.replace(f.name.split(".")[0], "avx512", 1)) for f in here}
        interpreter = Path(sys.executable).resolve()
        loader = Path("/lib64/ld-linux-x86-64.so.2")
        files |= {interpreter, loader}
        run = f"{interpreter} -S -s {HERE / 'bits.py'}"
        command = f"{run} compare {saved} {' '.join(few)}"
        libraries = {str(f.parent) for f in files if ".so" in f.name and "site-packages" not in str(f)}
        initial_file_system(
            folder / "root", files, environment | {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}, command
        )
        output = emulate(folder, make_iso(folder, folder / "root", args.kernel), args.minutes)
    return 0 if "exit status 0\r\n" in output or "exit status 0\n" in output else 1


if __name__ == "__main__":
    sys.exit(main())
