/* The process around us: how many CPUs it may use now, how many threads it can make. For machine.pyx alone, so that a
   change recompiles no level.                                                                                     */
#ifndef FASTXENT_PROCESS_H
#define FASTXENT_PROCESS_H

#ifdef _OPENMP
#include <omp.h>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define FX_PTHREADS 1
#endif
#endif

/* CPUs that the calling thread may run on; where OpenMP has bound it to a place (OMP_PROC_BIND), those of all places.
   0 without OpenMP.                                                                                               */
static inline int fx_processors(void) {
#ifdef _OPENMP
    return omp_get_num_procs();
#else
    return 0;
#endif
}

/* How many of n threads, the calling one among them, can be there at once. OpenMP ends the process where it cannot make
   one (libgomp, team.c: gomp_fatal), so this is tried before: under a limit of memory or of processes. Stacks are of
   the default size, as OpenMP's are.                                                                              */
#ifdef FX_PTHREADS
enum { FX_MOST_THREADS = 1024 }; /* MOST_THREADS of fastxent/_threads.py */
static void *fx_wait(void *gate) {
    pthread_mutex_lock((pthread_mutex_t *)gate);
    pthread_mutex_unlock((pthread_mutex_t *)gate);
    return 0;
}
static int fx_threads_possible(int n) {
    pthread_t made[FX_MOST_THREADS];
    pthread_mutex_t gate;
    int count = 0;
    if (n > FX_MOST_THREADS) n = FX_MOST_THREADS;
    if (pthread_mutex_init(&gate, 0)) return 1;
    pthread_mutex_lock(&gate);
    while (count < n - 1 && !pthread_create(&made[count], 0, fx_wait, &gate)) count++;
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < count; i++) pthread_join(made[i], 0);
    pthread_mutex_destroy(&gate);
    return count + 1;
}
#else
static int fx_threads_possible(int n) { return n; }
#endif

#endif
