/* OTHER OWN TIMES OWN_NS OTHERS_NS: naps in a function of its own, then executes the other program, and so on, TIMES in all. The two
   differ in the name of the function (NAP) and in how long it naps, not in where it is. The last one
   prints how long was napped in each. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* What makes the call can be left out where frame pointers are followed. */
static __attribute__((noinline)) void nap(void)
{
    struct timespec time = {0, MS * 1000000};
    nanosleep(&time, NULL);
    __asm__ volatile("");
}

__attribute__((noinline)) void NAP(void)
{
    nap();
    __asm__ volatile("");
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    int left = atoi(argv[3]);
    long long own = atoll(argv[4]), others = atoll(argv[5]), begun = now();
    NAP();
    own += now() - begun;
    if (!left) {
        printf("{\"workload\": \"executes\", \"own_ns\": %lld, \"others_ns\": %lld}\n", own, others);
        return 0;
    }
    char times[32], mine[32], its[32];
    snprintf(times, sizeof times, "%d", left - 1);
    snprintf(mine, sizeof mine, "%lld", own);
    snprintf(its, sizeof its, "%lld", others);
    execl(argv[1], argv[1], argv[2], argv[1], times, its, mine, (char *)NULL);
    return 1;
}
