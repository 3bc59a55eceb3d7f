/* 16 threads and 8 locks, of which one is held while its holder sleeps. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static pthread_mutex_t locks[8];

static void update_index(int lock)
{
    pthread_mutex_lock(&locks[lock]);
    if (lock == 5) {
        struct timespec nap = {0, 4 * 1000 * 1000};
        nanosleep(&nap, NULL);
    }
    pthread_mutex_unlock(&locks[lock]);
}

static void *work(void *seed)
{
    unsigned state = (unsigned)(long)seed;
    for (int i = 0; i < 20; i++)
        update_index(rand_r(&state) % 4 ? 5 : rand_r(&state) % 8);
    return NULL;
}

int main(void)
{
    pthread_t threads[16];
    for (int i = 0; i < 8; i++)
        pthread_mutex_init(&locks[i], NULL);
    for (long i = 0; i < 16; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < 16; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
