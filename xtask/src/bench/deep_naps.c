/* Naps at the bottom of a stack of known depth: DEPTH NAPS MICROSECONDS. The naps make no system
   call but clock_nanosleep, and one comes right after the other. */
#include <stdlib.h>
#include <time.h>

static long naps;
static struct timespec length;
static volatile long calls;

/* What comes after the call keeps its frame. */
__attribute__((noinline)) static void deep(long left) {
    if (left > 0)
        deep(left - 1);
    else
        for (long nap = 0; nap < naps; nap++)
            clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
    calls++;
}

int main(int count, char **words) {
    if (count != 4)
        return 2;
    long micros = atol(words[3]);
    naps = atol(words[2]);
    length.tv_sec = micros / 1000000;
    length.tv_nsec = micros % 1000000 * 1000;
    deep(atol(words[1]));
    return 0;
}
