/* Ranks of MPI, one of which comes late to each barrier. */
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int rank;
	double waited = 0;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	for (int round = 0; round < 4; round++) {
		if (rank == 1)
			usleep(400000);
		double begin = MPI_Wtime();
		MPI_Barrier(MPI_COMM_WORLD);
		waited += MPI_Wtime() - begin;
	}
	printf("rank %d pid %d waited %.3f\n", rank, getpid(), waited * 1e3);
	MPI_Finalize();
	return 0;
}
