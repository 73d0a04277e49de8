// What Go waits with, each in its turn: says what ended, after how many minutes of the monotonic
// clock and of the wall clock.
package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

var begin = time.Now()

func say(what string) {
	now := time.Now()
	wall := now.Round(0).Sub(begin.Round(0)) // Round(0) takes away the monotonic reading
	fmt.Printf("%s %d %d\n", what, int(now.Sub(begin).Minutes()+0.01), int(wall.Minutes()+0.5))
}

func main() {
	fmt.Println("ready")
	var group sync.WaitGroup
	group.Add(2)
	time.AfterFunc(10*time.Minute, func() {
		say("AfterFunc")
		group.Done()
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	go func() {
		<-ctx.Done()
		say("context")
		group.Done()
	}()
	time.Sleep(30 * time.Minute)
	say("Sleep")
	group.Wait()

	select {
	case <-make(chan int):
	case <-time.After(10 * time.Minute):
		say("After")
	}
	timer := time.NewTimer(time.Hour)
	timer.Reset(10 * time.Minute)
	<-timer.C
	say("Reset")

	ticker := time.NewTicker(time.Minute)
	for i := 0; i < 10; i++ {
		<-ticker.C
		say("tick")
	}
}
