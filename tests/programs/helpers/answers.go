// Answers each line on its standard input with the time, read by several goroutines while others
// keep the processors and the collector busy.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"time"
)

func spin() {
	for {
		kept := make([][]byte, 0, 64)
		for i := 0; i < 64; i++ {
			kept = append(kept, make([]byte, 4096))
			_ = time.Now()
		}
		runtime.Gosched()
		time.Sleep(5 * time.Millisecond) // or it would never be at rest on a busy machine
		_ = kept
	}
}

func main() {
	for i := 0; i < 8; i++ {
		go spin()
	}
	lines := bufio.NewScanner(os.Stdin)
	fmt.Println("up")
	for lines.Scan() {
		answers := make(chan int64)
		for i := 0; i < 4; i++ {
			go func() { answers <- time.Now().Unix() }()
		}
		first := <-answers
		for i := 1; i < 4; i++ {
			if other := <-answers; other != first {
				first = -1
			}
		}
		fmt.Println(first)
	}
}
