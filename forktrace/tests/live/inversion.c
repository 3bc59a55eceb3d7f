/* Priority inversion on one CPU: the low thread has the lock and computes for 100 ms, the high one waits for the
   lock, and the middle one keeps the CPU for 300 ms meanwhile. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int is_held, wants;

static long long cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void compute(long ms)
{
    long long until = cpu_ns() + ms * 1000000LL;
    while (cpu_ns() < until)
        ;
}

static void begin(const char *name, int priority)
{
    struct sched_param wanted = {priority};
    pthread_setname_np(pthread_self(), name);
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &wanted))
        exit(3);
}

static void *low(void *none)
{
    begin("low", 1);
    pthread_mutex_lock(&lock);
    __atomic_store_n(&is_held, 1, __ATOMIC_SEQ_CST);
    usleep(1000);
    compute(100);
    pthread_mutex_unlock(&lock);
    return none;
}

static void *high(void *none)
{
    begin("high", 3);
    __atomic_store_n(&wants, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    return none;
}

static void *middle(void *none)
{
    begin("middle", 2);
    compute(300);
    return none;
}

static void until(int *is_so)
{
    while (!__atomic_load_n(is_so, __ATOMIC_SEQ_CST))
        usleep(100);
}

int main(void)
{
    pthread_t threads[3];
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    pthread_create(&threads[0], NULL, low, NULL);
    until(&is_held);
    pthread_create(&threads[1], NULL, high, NULL);
    until(&wants);
    pthread_create(&threads[2], NULL, middle, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
