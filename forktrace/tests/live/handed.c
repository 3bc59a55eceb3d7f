/* Main has a lock until four threads sleep on it, and for a nap more; then each of them has it for
   a nap. The locks are of our own, but for the last: they name no owner.
   "queue": first come, first served; who lets it go wakes the next one only.
   "barging": who lets it go wakes one, but whoever comes first has it: main takes it again before
   it wakes anybody, who then comes in vain.
   "rwlock": main has it for writing, the others for reading, all at a time.
   Prints when each had it for certain, and when it had let it go for certain. */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, HOLDS = THREADS + 2 };

struct hold {
    int tid;
    long long from, to, gone;
};

static struct hold holds[HOLDS];
static atomic_int held, tids[THREADS];
static const char *kind;
static int takes_it_again;

static atomic_uint serving, tickets, state;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void nap(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void futex(atomic_uint *word, int call, unsigned value, unsigned bits)
{
    syscall(SYS_futex, word, call | FUTEX_PRIVATE_FLAG, value, NULL, NULL, bits);
}

static void lock(int is_main)
{
    if (*kind == 'q') {
        unsigned mine = atomic_fetch_add(&tickets, 1), served;
        while ((served = serving) != mine)
            futex(&serving, FUTEX_WAIT_BITSET, served, 1U << mine % 32);
    } else if (*kind == 'b') {
        unsigned free = 0;
        if (atomic_compare_exchange_strong(&state, &free, 1))
            return;
        while (atomic_exchange(&state, 2))
            futex(&state, FUTEX_WAIT_BITSET, 2, FUTEX_BITSET_MATCH_ANY);
    } else if (is_main) {
        pthread_rwlock_wrlock(&rwlock);
    } else {
        pthread_rwlock_rdlock(&rwlock);
    }
}

static void unlock(void)
{
    if (*kind == 'q') {
        unsigned next = atomic_fetch_add(&serving, 1) + 1;
        futex(&serving, FUTEX_WAKE_BITSET, INT_MAX, 1U << next % 32);
    } else if (*kind == 'b') {
        unsigned free = 0;
        if (atomic_exchange(&state, 0) == 2) {
            if (takes_it_again)
                atomic_compare_exchange_strong(&state, &free, 2);
            futex(&state, FUTEX_WAKE_BITSET, 1, FUTEX_BITSET_MATCH_ANY);
        }
    } else {
        pthread_rwlock_unlock(&rwlock);
    }
}

/* It is had already. */
static void nap_with_it(long ms)
{
    struct hold *hold = &holds[held++];
    hold->tid = syscall(SYS_gettid);
    hold->from = now();
    nap(ms);
    hold->to = now();
    unlock();
    hold->gone = now();
}

/* 202 is futex on x86-64, 98 on others. */
static int sleeps(int tid)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    int fd = open(path, O_RDONLY);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    return length > 0 && (!strncmp(text, "202 ", 4) || !strncmp(text, "98 ", 3));
}

static void *wait_for_it(void *number)
{
    tids[(intptr_t)number] = syscall(SYS_gettid);
    lock(0);
    nap_with_it(20);
    return number;
}

int main(int argc, char **argv)
{
    kind = argc > 1 ? argv[1] : "queue";
    pthread_t threads[THREADS];
    lock(1);
    for (intptr_t i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, wait_for_it, (void *)i);
        while (!tids[i] || !sleeps(tids[i]))
            nap(1);
    }
    takes_it_again = *kind == 'b';
    nap_with_it(50);
    if (takes_it_again) {
        takes_it_again = 0;
        nap_with_it(30);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("{\"workload\": \"handed\", \"holds\": [");
    for (int i = 0; i < held; i++)
        printf("%s{\"tid\": %d, \"begin_ns\": %lld, \"end_ns\": %lld, \"gone_ns\": %lld}",
               i ? ", " : "", holds[i].tid, holds[i].from, holds[i].to, holds[i].gone);
    printf("]}\n");
    return 0;
}
