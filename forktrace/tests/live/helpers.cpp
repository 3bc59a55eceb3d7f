// What a workload can do to whoever looks at its files.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

extern "C" __attribute__((noinline)) void nap() {
    struct timespec time = {0, 2000000};
    nanosleep(&time, nullptr);
}

static double now() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// Copies of a library are loaded, and cut short and made whole again while they are in use.
static int cut(const std::string& library, const std::string& folder, int rounds) {
    for (int i = 0; i < rounds; i++) {
        std::string copy = folder + "/l" + std::to_string(i) + ".so";
        if (system(("cp " + library + " " + copy).c_str())) return 1;
        int fd = open(copy.c_str(), O_RDWR);
        struct stat s;
        fstat(fd, &s);
        size_t half = s.st_size / 2, rest = s.st_size - half;
        char* tail = (char*)malloc(rest);
        if (pread(fd, tail, rest, half) < 0) return 1;
        void* loaded = dlopen(copy.c_str(), RTLD_NOW);
        if (!loaded) return puts(dlerror()), 1;
        void (*lib_nap)() = (void (*)())dlsym(loaded, "lib_nap");
        lib_nap();
        for (double end = now() + 0.025; now() < end;) {
            double until = now() + (rand() % 1000) * 1e-6;
            if (ftruncate(fd, half) || pwrite(fd, tail, rest, half) < 0) return 1;
            while (now() < until) {
            }
        }
        lib_nap();
        free(tail);
        close(fd);
        unlink(copy.c_str());
    }
    return 0;
}

// Many threads wait for one mutex, for so many milliseconds.
static int wait(int count, int millis) {
    static std::mutex lock;
    lock.lock();
    std::vector<std::thread> threads;
    for (int i = 0; i < count; i++) threads.emplace_back([] { lock.lock(), lock.unlock(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(millis));
    lock.unlock();
    for (auto& thread : threads) thread.join();
    return 0;
}

int main(int count, char** words) {
    std::string what = count > 1 ? words[1] : "";
    if (what == "cut") return cut(words[2], words[3], atoi(words[4]));
    if (what == "wait") return wait(atoi(words[2]), atoi(words[3]));
    for (int i = 0; i < 100; i++) nap();
    return 0;
}
