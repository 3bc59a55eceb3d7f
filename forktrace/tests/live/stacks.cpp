// Blocks and wakes in functions with names that have to be demangled. Given a path, it
// unlinks that. Given "made", "late" or "forked" it also blocks in code that it makes as it
// runs, and says where that is: after the first time there, at its end, or before a child
// goes on in it, which itself says nothing.
#include <atomic>
#include <climits>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <string>
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

#ifdef __x86_64__
// push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret
const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};

// Two functions, one behind the other, that call what they are given.
using Made = void (*)(void (*)());
APART Made make_code() {
    void *memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(memory, code, sizeof code);
    memcpy(static_cast<char *>(memory) + sizeof code, code, sizeof code);
    return reinterpret_cast<Made>(memory);
}

// Tells where the first of them is, or the second.
void say(Made made, size_t which, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(path, "a");
    fprintf(map, "%lx %zx %s\n", reinterpret_cast<long>(made) + which * sizeof code, sizeof code, name);
    fclose(map);
}

void nap_in_rest() { shop::rest(1); }
void nap_alone() { shop::nap(); STAY; }

APART void nap_in_made_code() {
    Made made = make_code();
    made(nap_in_rest);
    made(nap_alone);
    say(made, 0, "made:as it ran");
    for (int i = 0; i < 60; i++) made(nap_in_rest);
}

APART void say_it_late() {
    Made made = make_code();
    say(made, 1, "made:something else");
    for (int i = 0; i < 60; i++) made(nap_in_rest);
    say(made, 0, "made:as it ran");
    _exit(0);
}

void nap_in_child() {
    pid_t child = fork();
    if (child == 0) {
        shop::rest(60);
        _exit(0);
    }
    waitpid(child, nullptr, 0);
    STAY;
}

APART void fork_in_made_code() {
    Made made = make_code();
    say(made, 0, "made:as it ran");
    made(nap_in_child);
}
#endif

int main(int, char **arguments) {
    if (arguments[1]) {
        std::string given = arguments[1];
#ifdef __x86_64__
        printf("%d\n", getpid());
        fflush(stdout);
        if (given == "made") nap_in_made_code();
        if (given == "late") say_it_late();
        if (given == "forked") fork_in_made_code();
#endif
        unlink(given.c_str());
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
