/* Two threads, of which one waits for the other for a nap, ROUNDS times: at an rwlock,
   condition variable, barrier or semaphore. */
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 10 };

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t notice = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier, start;
static sem_t semaphore;
static int told;
static volatile int waited;
static const char *kind;

static int is(const char *name)
{
    return !strcmp(kind, name);
}

static void nap(void)
{
    struct timespec time = {0, 20 * 1000000};
    nanosleep(&time, NULL);
}

static void before(void)
{
    if (is("rwlock"))
        pthread_rwlock_wrlock(&rwlock);
}

static void let_go(void)
{
    if (is("rwlock"))
        pthread_rwlock_unlock(&rwlock);
    else if (is("semaphore"))
        sem_post(&semaphore);
    else if (is("condition")) {
        pthread_mutex_lock(&mutex);
        told++;
        pthread_cond_signal(&notice);
        pthread_mutex_unlock(&mutex);
    } else if (is("barrier"))
        pthread_barrier_wait(&barrier);
}

__attribute__((noinline)) static void wait_for_it(int round)
{
    if (is("rwlock")) {
        pthread_rwlock_rdlock(&rwlock);
        pthread_rwlock_unlock(&rwlock);
    } else if (is("semaphore"))
        while (sem_wait(&semaphore))
            ;
    else if (is("condition")) {
        pthread_mutex_lock(&mutex);
        while (told <= round)
            pthread_cond_wait(&notice, &mutex);
        pthread_mutex_unlock(&mutex);
    } else if (is("barrier"))
        pthread_barrier_wait(&barrier);
    /* The call before is not the last thing that it does. */
    waited = round;
}

/* Nobody waits at the start for long: the nap comes after it. */
static void *other(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&start);
        wait_for_it(i);
    }
    return unused;
}

int main(int count, char **args)
{
    pthread_t thread;
    kind = count > 1 ? args[1] : "";
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_barrier_init(&start, NULL, 2);
    sem_init(&semaphore, 0, 0);
    pthread_create(&thread, NULL, other, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        before();
        pthread_barrier_wait(&start);
        nap();
        let_go();
    }
    return pthread_join(thread, NULL);
}
