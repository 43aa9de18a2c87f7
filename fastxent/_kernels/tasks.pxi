# Tasks that threads share: some neighbouring ones at a time, in order, until there are none or it is time to stop.
#
# Neighbours, for what one fetches ahead at its end is the next one's: by turns of one task each two threads read half as
# fast. All tasks that somebody has taken are done, so those done are the first ones. No result depends on who does what.

from cython.parallel cimport prange

ctypedef int64_t (*Task)(const void *, int, Py_ssize_t) noexcept nogil  # job, phase, task; gives what is added up

cdef enum:
    CHUNK = 32768      # elements of a task, at least, where there are as many
    CHUNKS = 16        # that a thread takes at a time
    TURNS = 16         # of a thread, at least, where there are as many tasks

cdef struct Share:
    Py_ssize_t next    # the first task that nobody has taken
    Py_ssize_t tasks
    Py_ssize_t some    # taken at a time
    double end         # in seconds; then nothing more is begun


cdef int64_t take_tasks(Task run, const void *job, int phase, Share *share) noexcept nogil:
    cdef Py_ssize_t first, task
    cdef int64_t counts = 0
    while True:
        first = fx_take(&share.next, share.some)
        for task in range(first, min(first + share.some, share.tasks)):
            counts += run(job, phase, task)
        if first + share.some >= share.tasks or (share.end < INFINITY and fx_seconds() > share.end):
            return counts


cdef int64_t run_tasks(
    Task run, const void *job, int phase, Py_ssize_t tasks, Py_ssize_t elements, int threads, double seconds,
    Py_ssize_t *done,
) noexcept nogil:
    """The first of `tasks` tasks of so many elements each, as many as there is time for, one at least; `done` may be NULL."""
    cdef int64_t counts = 0
    cdef Share share
    cdef int number = <int>min(<Py_ssize_t>threads, tasks), i
    share.next = 0
    share.tasks = tasks
    share.some = max(1, min(CHUNKS * CHUNK // max(1, elements), tasks // (TURNS * max(1, threads))))
    share.end = fx_seconds() + seconds if seconds < INFINITY else INFINITY
    if number <= 1:
        counts = take_tasks(run, job, phase, &share)
    else:
        for i in prange(number, num_threads=number, schedule="static", chunksize=1):
            counts += take_tasks(run, job, phase, &share)
    if done != NULL:
        done[0] = min(share.next, tasks)
    return counts
