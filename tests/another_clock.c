/*
 * Another clock for a process and all that it starts: CLOCK_SHIFT seconds are added to the time of day; clocks that only
 * measure (CLOCK_MONOTONIC and others) stay. `make test-on` builds and preloads it.
 *
 * Ours, because libfaketime 0.9.10 breaks time.sleep of Python (clock_nanosleep with an absolute time), and because the
 * embedded PostgreSQL is started with an environment of its own: execve adds what is needed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift;
static char preload[4096], shifted[64];

__attribute__((constructor)) static void begin(void) {
    const char *seconds = getenv("CLOCK_SHIFT"), *library = getenv("LD_PRELOAD");
    shift = seconds ? atol(seconds) : 0;
    snprintf(shifted, sizeof shifted, "CLOCK_SHIFT=%ld", shift);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library ? library : "");
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += shift;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int execve(const char *path, char *const arguments[], char *const given[]) {
    int (*real)(const char *, char *const[], char *const[]) = dlsym(RTLD_NEXT, "execve");
    size_t many = 0, kept = 0;
    while (given && given[many]) many++;
    char *environment[many + 3];
    for (size_t i = 0; i < many; i++)
        if (strncmp(given[i], "LD_PRELOAD=", 11) && strncmp(given[i], "CLOCK_SHIFT=", 12)) environment[kept++] = given[i];
    environment[kept++] = preload;
    environment[kept++] = shifted;
    environment[kept] = NULL;
    return real(path, arguments, environment);
}
