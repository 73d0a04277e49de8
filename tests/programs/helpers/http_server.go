// An HTTP server with time limits: says where it listens, and when it has closed a connection.
package main

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "hello")
		}),
	}
	fmt.Printf("ready\n%d\n", listener.Addr().(*net.TCPAddr).Port)
	panic(server.Serve(listener))
}
