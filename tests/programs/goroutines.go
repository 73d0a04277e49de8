// run: start=2038-01-19T03:14:07Z on=go,go-386 bare=fails
// Goroutines on several OS threads, garbage collection, locked threads and child processes: all of
// them read the clock, and the program ends by itself.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

func check(ok bool, what string, got any) {
	if !ok {
		fmt.Fprintf(os.Stderr, "goroutines: not %s: %v\n", what, got)
		os.Exit(1)
	}
}

func main() {
	start, err := strconv.ParseInt(os.Args[1], 10, 64)
	check(err == nil, "a number", os.Args)
	checkWall := func() {
		now := time.Now().UnixNano()
		check(now == start, "the clock's instant", now-start)
	}
	checkWall()
	if len(os.Args) == 4 {
		fmt.Println("child")
		return
	}

	runtime.GOMAXPROCS(8)
	begin := time.Now()
	var group sync.WaitGroup
	for i := 0; i < 200; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			if i%20 == 0 {
				runtime.LockOSThread() // and end locked: the thread is thrown away
			}
			for k := 0; k < 50; k++ {
				checkWall()
				garbage := make([]byte, 10000)
				garbage[k] = 1
				runtime.Gosched()
			}
		}()
	}
	runtime.GC()
	group.Wait()

	for i := 0; i < 5; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			output, err := exec.Command("/proc/self/exe", os.Args[1], os.Args[2], "child").CombinedOutput()
			check(err == nil && strings.TrimSpace(string(output)) == "child", "a child", string(output))
		}()
	}
	group.Wait()

	timer := time.After(50 * time.Millisecond)
	time.Sleep(20 * time.Millisecond)
	<-timer
	// time.Since uses the monotonic line, which flows.
	check(time.Since(begin) >= 50*time.Millisecond, "time that passes", time.Since(begin))
	fmt.Println("EXIT-SUCCESS")
}
