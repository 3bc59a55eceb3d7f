// Blocks and wakes in functions with names that have to be demangled. Given a path, it
// unlinks that. Given "made", it also blocks in code that it makes as it runs, and says
// only after the first time where that is.
#include <atomic>
#include <climits>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

// The function that calls the C library is not on a stack of frame pointers, and after a
// tail call the caller is not either: so there is always one more, and it does something
// afterwards.
#define APART __attribute__((noinline))
#define STAY asm volatile("" ::: "memory")

namespace shop {
struct Door {
    std::atomic<int> open{0};
    APART void wait() {
        while (!open) syscall(SYS_futex, &open, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
        STAY;
    }
    APART void wake() {
        syscall(SYS_futex, &open, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
        STAY;
    }
};
APART void enter(Door &door) { door.wait(); STAY; }
APART void unlock(Door &door) { door.open = 1; door.wake(); STAY; }
APART void nap() {
    timespec time{0, 30'000'000};
    syscall(SYS_nanosleep, &time, nullptr);
    STAY;
}
APART void rest(int times) {
    for (int i = 0; i < times; i++) nap();
    STAY;
}
}  // namespace shop

APART void nap_in_made_code() {
#ifdef __x86_64__
    // push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret
    const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
    void *memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(memory, code, sizeof code);
    auto made = reinterpret_cast<void (*)(void (*)())>(memory);
    auto rest = [] { shop::rest(1); };
    made(rest);
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(path, "w");
    fprintf(map, "%lx %zx made:as it ran\n", reinterpret_cast<long>(memory), sizeof code);
    fclose(map);
    for (int i = 0; i < 60; i++) made(rest);
    unlink(path);
#endif
}

int main(int, char **arguments) {
    if (arguments[1] && strcmp(arguments[1], "made") == 0) {
        nap_in_made_code();
    } else if (arguments[1]) {
        unlink(arguments[1]);
    }
    shop::Door door;
    std::thread waiter([&] {
        pthread_setname_np(pthread_self(), "waiter");
        shop::enter(door);
    });
    shop::rest(5);
    shop::unlock(door);
    waiter.join();
    // So that it can be looked at.
    sleep(1);
}
