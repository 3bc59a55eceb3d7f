/* Sorts by counting with threads of OpenMP that meet after each step, as the benchmark IS of NAS
   does. So many threads as THREADS says. */
#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 1 << 21, VALUES = 1 << 10, TIMES = 3 };

static unsigned keys[KEYS], counts[THREADS][VALUES];

int main(void)
{
    unsigned long long sum = 0;
    for (int time = 0; time < TIMES; time++) {
#pragma omp parallel for num_threads(THREADS) schedule(static)
        for (int i = 0; i < KEYS; i++) {
            unsigned key = i * 2654435761u + time;
            for (int step = 0; step < 150; step++)
                key = key * 1103515245u + 12345u;
            keys[i] = key >> 22;
        }
#pragma omp parallel for num_threads(THREADS) schedule(static)
        for (int part = 0; part < THREADS; part++)
            for (int i = part * (KEYS / THREADS); i < (part + 1) * (KEYS / THREADS); i++)
                counts[part][keys[i]]++;
        for (int part = 0; part < THREADS; part++)
            for (int value = 0; value < VALUES; value++)
                sum += counts[part][value];
    }
    printf("%llu\n", sum);
    return 0;
}
