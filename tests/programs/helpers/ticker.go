// Ticks each minute, and says at which second.
package main

import (
	"fmt"
	"time"
)

func main() {
	begin := time.Now()
	ticker := time.NewTicker(time.Minute)
	fmt.Println("ready")
	for range ticker.C {
		fmt.Println(int(time.Since(begin).Seconds() + 0.5))
	}
}
