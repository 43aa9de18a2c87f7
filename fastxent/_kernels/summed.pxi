# Losses that are only added up: a thread takes some rows at a time, as a block of its own, whose losses it adds to a sum of
# its own while they are in its cache. The sums are exact (exact.pxi): no result depends on who adds what.

cdef struct Adders:
    const Job *job
    Share share            # of blocks of `rows` rows
    Py_ssize_t rows
    char *room             # (threads, rows) losses
    int64_t *sums          # (threads, LIMBS + SPECIAL)


cdef int64_t add_blocks(Adders *adders, int worker) noexcept nogil:
    cdef Job job = adders.job[0]
    cdef Py_ssize_t block, size = 4 if job.single else 8, row0 = job.row0, row1 = job.row1
    cdef int64_t counts = 0
    cdef int64_t *limbs = adders.sums + worker * (LIMBS + SPECIAL)
    cdef uint64_t control
    job.flat = True
    job.out = adders.room + worker * adders.rows * size
    while True:
        block = fx_take(&adders.share.next, 1)
        if block >= adders.share.tasks:
            return counts
        job.row0 = row0 + block * adders.rows
        job.row1 = min(job.row0 + adders.rows, row1)
        counts += run_job(&job, 1, INFINITY)
        control = fx_fp_enter()
        add_many(limbs, job.out, job.single, job.row1 - job.row0)
        fx_fp_leave(control)
        if adders.share.end < INFINITY and fx_seconds() > adders.share.end:
            return counts


cdef int64_t run_adders(Adders *adders, Job *job, int threads, double seconds) noexcept nogil:
    """The first rows of the job, of one segment each; row1 becomes the end of those that are done."""
    cdef int64_t counts = 0
    cdef int i
    adders.job = job
    adders.share.next = 0
    adders.share.tasks = (job.row1 - job.row0 + adders.rows - 1) // adders.rows
    adders.share.end = fx_seconds() + seconds if seconds < INFINITY else INFINITY
    threads = <int>min(<Py_ssize_t>threads, adders.share.tasks)
    if threads <= 1:
        counts = add_blocks(adders, 0)
    else:
        for i in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            counts += add_blocks(adders, i)
    job.row1 = min(job.row0 + adders.share.next * adders.rows, job.row1)
    return counts
