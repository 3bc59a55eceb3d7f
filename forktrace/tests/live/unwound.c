/* Which function waits, in a program that nothing was added to: no frame pointers. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int updates;

static void nap(long ms) {
    struct timespec time = {0, ms * 1000000};
    nanosleep(&time, NULL);
}

__attribute__((noinline)) static void save(void) {
    nap(200);
    updates++;
}

__attribute__((noinline)) static void log_line(void) {
    nap(50);
    updates++;
}

__attribute__((noinline)) static void update_index(void) {
    pthread_mutex_lock(&lock);
    updates++;
    pthread_mutex_unlock(&lock);
}

__attribute__((noinline)) static void on_signal(int number) {
    (void)number;
    nap(60);
    updates++;
}

/* Is interrupted while it runs. */
__attribute__((noinline)) static void raise_it(void) {
    raise(SIGUSR1);
    updates++;
}

static int begun[2];

static void *thr(void *unused) {
    if (write(begun[1], "x", 1) != 1) {
        return unused;
    }
    update_index();
    updates++;
    return unused;
}

int main(void) {
    pthread_t thread;
    char byte;
    pthread_mutex_lock(&lock);
    if (pipe(begun) || pthread_create(&thread, NULL, thr, NULL) || read(begun[0], &byte, 1) != 1) {
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        save();
        log_line();
    }
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    signal(SIGUSR1, on_signal);
    raise_it();
    return 0;
}
