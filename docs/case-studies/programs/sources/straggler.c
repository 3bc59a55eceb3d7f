/* Four threads of OpenMP, one of which has far more to compute. */
#define _GNU_SOURCE
#include <omp.h>
#include <stdio.h>
#include <unistd.h>

static void busy(double seconds)
{
	double begin = omp_get_wtime();
	while (omp_get_wtime() - begin < seconds)
		;
}

int main(void)
{
	for (int round = 0; round < 3; round++) {
		double slowest = 0;
		int tid = 0;
#pragma omp parallel reduction(max : slowest, tid)
		{
			double begin = omp_get_wtime();
			int slow = omp_get_thread_num() == 2;
			busy(slow ? 0.3 : 0.01);
			tid = slow ? gettid() : 0;
			slowest = omp_get_wtime() - begin;
		}
		printf("tid %d slowest %.3f\n", tid, slowest * 1e3);
	}
	return 0;
}
