// What Go's runtime needs its own thread, sysmon, for: that works although no time passes.
package main

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func main() {
	begin := time.Now()
	runtime.GOMAXPROCS(1)
	// A goroutine blocks in the kernel, which the scheduler does not see: sysmon takes its
	// processor away and gives it to the others.
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		panic(err)
	}
	reads := make(chan string)
	for i := 0; i < 20; i++ {
		go func() {
			buffer := make([]byte, 1)
			syscall.Read(pipe[0], buffer)
			reads <- string(buffer)
		}()
	}
	runtime.Gosched()
	for i := 0; i < 20; i++ {
		syscall.Write(pipe[1], []byte("x"))
		if got := <-reads; got != "x" {
			panic(got)
		}
	}

	runtime.GOMAXPROCS(4)
	var group sync.WaitGroup
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for k := 0; k < 50; k++ {
				garbage := make([]byte, 20000)
				garbage[k] = 1
				runtime.Gosched()
			}
		}()
	}
	group.Wait()
	runtime.GC()
	fmt.Println(time.Since(begin).Nanoseconds())
}
