// A library with so many functions that reading them takes a while.
#include <time.h>
#include <unistd.h>
extern "C" void lib_nap() {
    struct timespec t = {0, 1000000};
    long r;
#if defined(__x86_64__)
    __asm__ volatile("syscall" : "=a"(r) : "a"(35), "D"(&t), "S"(0) : "rcx", "r11", "memory");
#else
    r = nanosleep(&t, 0);
#endif
    (void)r;
}
#define F(n) extern "C" int f##n(int x) { return x * n + 1; }
#define G(a) F(a##0) F(a##1) F(a##2) F(a##3) F(a##4) F(a##5) F(a##6) F(a##7) F(a##8) F(a##9)
#define H(a) G(a##0) G(a##1) G(a##2) G(a##3) G(a##4) G(a##5) G(a##6) G(a##7) G(a##8) G(a##9)
#define I(a) H(a##0) H(a##1) H(a##2) H(a##3) H(a##4) H(a##5) H(a##6) H(a##7) H(a##8) H(a##9)
I(1) I(2) I(3) I(4) I(5) I(6) I(7) I(8) I(9)
