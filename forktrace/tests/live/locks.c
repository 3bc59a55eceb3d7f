/* Main has a lock until four threads sleep on it, and for a nap more; then each of them has it
   for a nap. Before the end main waits for a thread that ends when it sees main sleep. Prints
   when each had the lock for certain.
   "pi": a mutex with priority inheritance. "cond": the four wait for a notice in place of the
   lock, and main gives it to all at once. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4 };

struct hold {
    int tid;
    long long from, to;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, other = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t notice = PTHREAD_COND_INITIALIZER;
static struct hold holds[THREADS + 1];
static atomic_int tids[THREADS];
static int told, with_notice;
static atomic_int about_to_wait;

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

static struct hold nap_with_it(long ms)
{
    struct hold hold = {.tid = syscall(SYS_gettid), .from = now()};
    nap(ms);
    hold.to = now();
    return hold;
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
    int at = (int)(long)number;
    tids[at] = syscall(SYS_gettid);
    if (with_notice) {
        pthread_mutex_lock(&other);
        about_to_wait++;
        while (!told)
            pthread_cond_wait(&notice, &other);
        pthread_mutex_unlock(&other);
        holds[at + 1] = nap_with_it(20);
        return number;
    }
    pthread_mutex_lock(&lock);
    holds[at + 1] = nap_with_it(20);
    pthread_mutex_unlock(&lock);
    return number;
}

static void *end_when_main_sleeps(void *unused)
{
    while (!sleeps(getpid()))
        nap(1);
    nap(20);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    if (argc > 1 && !strcmp(argv[1], "pi"))
        pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    with_notice = argc > 1 && !strcmp(argv[1], "cond");
    pthread_mutex_init(&lock, &attributes);
    pthread_t threads[THREADS], last;
    pthread_mutex_lock(&lock);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, wait_for_it, (void *)i);
    while (with_notice && about_to_wait < THREADS)
        nap(1);
    for (int i = 0; i < THREADS; i++)
        while (!tids[i] || !sleeps(tids[i]))
            nap(1);
    holds[0] = nap_with_it(50);
    pthread_mutex_unlock(&lock);
    if (with_notice) {
        pthread_mutex_lock(&other);
        told = 1;
        pthread_mutex_unlock(&other);
        pthread_cond_broadcast(&notice);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_create(&last, NULL, end_when_main_sleeps, NULL);
    pthread_join(last, NULL);
    printf("{\"workload\": \"locks\", \"holds\": [");
    for (int i = 0; i <= THREADS; i++)
        printf("%s{\"tid\": %d, \"begin_ns\": %lld, \"end_ns\": %lld}", i ? ", " : "",
               holds[i].tid, holds[i].from, holds[i].to);
    printf("]}\n");
    return 0;
}
