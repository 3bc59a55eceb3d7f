// Which function waits, in a program of Go: a thread that naps in a system call, and those that
// have nothing to do meanwhile.
package main

import (
	"runtime"
	"syscall"
)

var naps int

//go:noinline
func nap(ms int64) {
	time := syscall.Timespec{Nsec: ms * 1000000}
	syscall.Nanosleep(&time, nil)
	naps++
}

//go:noinline
func save() {
	nap(200)
	naps++
}

// Stops all others, on the stack that the runtime keeps for itself.
//go:noinline
func collect() {
	runtime.GC()
	naps++
}

func main() {
	done := make(chan bool)
	go func() {
		save()
		done <- true
	}()
	nap(100)
	collect()
	<-done
}
