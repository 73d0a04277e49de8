// Go programs use no libc at all; this one asks for the time in several threads.
package main

import (
	"fmt"
	"sync"
	"time"
)

func main() {
	var readings [4]time.Time
	var group sync.WaitGroup
	for i := range readings {
		group.Add(1)
		go func() {
			defer group.Done()
			readings[i] = time.Now()
		}()
	}
	group.Wait()
	for _, reading := range readings {
		fmt.Println("static Go:  ", reading.UTC().Format("Mon Jan _2 15:04:05 UTC 2006"))
	}
}
