/* A thread waits for a lock that main holds, again and again. Each time main sees in /proc
   that the thread sleeps before it lets go. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 20 };

#ifdef LIBRARY
pthread_mutex_t *the_lock(void);
#else
static pthread_mutex_t locks[8];
#ifdef IS_LIBRARY
pthread_mutex_t *the_lock(void)
#else
static pthread_mutex_t *the_lock(void)
#endif
{
    return &locks[5];
}
#endif

#ifndef IS_LIBRARY
static atomic_int tid, turn;

static void nap(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void *wait_for_it(void *unused)
{
    tid = syscall(SYS_gettid);
    for (int i = 0; i < ROUNDS; i++) {
        while (turn != 2 * i + 1)
            nap(1);
        pthread_mutex_lock(the_lock());
        pthread_mutex_unlock(the_lock());
        turn = 2 * i + 2;
    }
    return unused;
}

/* 202 is futex on x86-64, 98 on others. */
static int sleeps(void)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    int fd = open(path, O_RDONLY);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    return length > 0 && (!strncmp(text, "202 ", 4) || !strncmp(text, "98 ", 3));
}

int main(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_it, NULL);
    while (!tid)
        nap(1);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(the_lock());
        turn = 2 * i + 1;
        while (!sleeps())
            nap(1);
        pthread_mutex_unlock(the_lock());
        while (turn != 2 * i + 2)
            nap(1);
    }
    pthread_join(thread, NULL);
    /* Its memory is looked at while it lives. */
    nap(1500);
    return 0;
}
#endif
