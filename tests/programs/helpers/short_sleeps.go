// Sleeps ten times for a millisecond, and says by how many milliseconds the clock went on.
package main

import (
	"fmt"
	"time"
)

func main() {
	begin := time.Now()
	for i := 0; i < 10; i++ {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(time.Since(begin).Milliseconds())
}
