/* Two threads meet at a barrier again and again: one computes, one writes past the page cache.
   "compute": the first is late, for it computes on when the other one sleeps.
   "write": the second is late, for it writes on when the first one sleeps.
   Prints for how long the late one went on in all, and that it can't write so if it can't. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 4, BLOCK = 4096, LATE_MS = 40 };

static pthread_barrier_t barrier;
static atomic_int tids[2];
static int late, file;
static long long went_on;
static volatile unsigned computed;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int reads(int tid, const char *file, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, file);
    int fd = open(path, O_RDONLY);
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* In a futex, and asleep there: it can be on its way and wait for a CPU. 202 is futex on x86-64,
   98 on others. */
static int sleeps(int tid)
{
    char call[64], stat[256];
    return reads(tid, "syscall", call, sizeof call) && reads(tid, "stat", stat, sizeof stat) &&
           (!strncmp(call, "202 ", 4) || !strncmp(call, "98 ", 3)) && strstr(stat, ") S ");
}

__attribute__((noinline)) static void compute(void)
{
    for (unsigned i = 0; i < 100000; i++)
        computed = computed * 31 + i;
}

__attribute__((noinline)) static void save(void *block)
{
    if (pwrite(file, block, BLOCK, 0) != BLOCK)
        exit(1);
}

static void *meets(void *which)
{
    int is_writer = which != NULL;
    void *block;
    if (posix_memalign(&block, BLOCK, BLOCK))
        exit(1);
    memset(block, 1, BLOCK);
    tids[is_writer] = syscall(SYS_gettid);
    pthread_setname_np(pthread_self(), is_writer ? "writes" : "computes");
    for (int round = 0; round < ROUNDS; round++) {
        if (is_writer)
            save(block);
        else
            compute();
        if (late == is_writer) {
            while (!tids[!is_writer] || !sleeps(tids[!is_writer]))
                ;
            long long from = now();
            while (now() < from + LATE_MS * 1000000LL)
                if (is_writer)
                    save(block);
                else
                    compute();
            went_on += now() - from;
        }
        pthread_barrier_wait(&barrier);
    }
    free(block);
    return NULL;
}

int main(int argc, char **argv)
{
    late = argc > 1 && !strcmp(argv[1], "write");
    file = open("written", O_WRONLY | O_CREAT | O_DIRECT, 0600);
    char *block;
    if (posix_memalign((void **)&block, BLOCK, BLOCK))
        return 1;
    int can = file >= 0 && pwrite(file, block, BLOCK, 0) == BLOCK;
    if (can) {
        pthread_t threads[2];
        pthread_barrier_init(&barrier, NULL, 2);
        pthread_create(&threads[0], NULL, meets, NULL);
        pthread_create(&threads[1], NULL, meets, &barrier);
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
    }
    printf("{\"workload\": \"barriers\", \"can\": %s, \"went_on_ns\": %lld, \"computes\": %d, "
           "\"writes\": %d}\n", can ? "true" : "false", went_on, tids[0], tids[1]);
    return 0;
}
