/* Four calls of fsync from one function to one from another, which both measure how long they
   were in it. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 12 };

static int file;
static long long save_ns, log_ns;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Where the C library's functions keep no frame pointers, and these are followed, this one's name
   is lost, and who calls it is not. */
__attribute__((noinline)) static int flush(void)
{
    int failed = pwrite(file, "x", 1, 0) != 1 || fsync(file);
    return failed ? -1 : 0;
}

__attribute__((noinline)) static int save(void)
{
    long long from = now();
    int failed = flush();
    save_ns += now() - from;
    return failed;
}

__attribute__((noinline)) static int log_line(void)
{
    long long from = now();
    int failed = flush();
    log_ns += now() - from;
    return failed;
}

int main(void)
{
    file = open("synced", O_WRONLY | O_CREAT, 0600);
    for (int round = 0; round < ROUNDS; round++) {
        for (int time = 0; time < 4; time++)
            if (save())
                return 1;
        if (log_line())
            return 1;
    }
    /* Names are looked up while it lives. */
    usleep(200000);
    printf("{\"workload\": \"syncs\", \"save_ns\": %lld, \"log_ns\": %lld}\n", save_ns, log_ns);
    return 0;
}
