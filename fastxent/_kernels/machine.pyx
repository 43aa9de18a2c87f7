"""The machine: which levels its CPU can run, its OpenMP runtime, the fork guard.

Built with no level's flags, so that it can be imported on any CPU before a level is chosen.
"""

from libc.stdint cimport uint64_t


cdef extern from "platform.h" nogil:
    int fx_cpu_has(const char *level)
    void fx_cpu_name(char *name)
    int fx_omp_version()
    int fx_omp_max_threads()
    int fx_omp_pause()
    const char *fx_compiler()
    uint64_t fx_fp_enter()
    void fx_fp_leave(uint64_t old)

cdef extern from "process.h" nogil:
    int fx_processors()
    int fx_threads_possible(int n)


def cpu_has(str level):
    """Whether this CPU and operating system can run the code of `level`."""
    return bool(fx_cpu_has(level.encode()))


def cpu_name():
    """The processor's own name for itself, or ''."""
    cdef char name[49]
    fx_cpu_name(name)
    return (<bytes>name).decode("ascii", "replace").strip()


def openmp_version():
    """The OpenMP date (such as 201511) that the kernels were compiled for; 0 without OpenMP."""
    return fx_omp_version()


def openmp_max_threads():
    """OpenMP's own idea of the number of threads: OMP_NUM_THREADS, threadpoolctl and the like act on it."""
    return fx_omp_max_threads()


def processors():
    """CPUs that this thread may run on now, or OpenMP's places; 0 without OpenMP."""
    return fx_processors()


def threads_possible(int n):
    """How many of n threads, this one among them, can be there at once."""
    cdef int count
    with nogil:
        count = fx_threads_possible(n)
    return count


def pause_openmp():
    """Give the pool of threads up; the next parallel region starts a new one. 0 where it worked."""
    return fx_omp_pause()


def repeat(call, Py_ssize_t times):
    """Call something so often: bench/instructions.py counts what happens within."""
    cdef Py_ssize_t i
    for i in range(times):
        call()


def compiler():
    """The compiler that built the kernels."""
    return fx_compiler().decode()


def swap_fp_control(word=None):
    """Set the floating-point control word of this thread (the default one for None); return the one before.

    For the tests of the promise that kernels compute with default control whatever another library has set.
    """
    cdef uint64_t old = fx_fp_enter()
    if word is not None:
        fx_fp_leave(word)
    return old
