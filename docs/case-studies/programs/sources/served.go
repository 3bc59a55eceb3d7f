// A server of net/http whose handlers wait: for a mutex of Go, for a lock on a file.
package main

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

func main() {
	var mutex sync.Mutex
	http.HandleFunc("/mutex", func(w http.ResponseWriter, _ *http.Request) {
		mutex.Lock()
		defer mutex.Unlock()
		time.Sleep(400 * time.Millisecond)
		fmt.Fprintln(w, "done")
	})
	http.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) {
		begin := time.Now()
		file, err := os.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		}
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer file.Close()
		fmt.Fprintf(w, "waited %d ms\n", time.Since(begin).Milliseconds())
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	if err := http.ListenAndServe("127.0.0.1:"+os.Args[1], nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
