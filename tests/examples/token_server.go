// Gives out tokens that are good for 15 minutes: GET /login, then GET / with the token.
package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

func main() {
	var expiries sync.Map
	http.HandleFunc("/login", func(w http.ResponseWriter, _ *http.Request) {
		token := rand.Text()
		expiries.Store(token, time.Now().Add(15*time.Minute))
		fmt.Fprint(w, token)
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		expiry, known := expiries.Load(r.Header.Get("Authorization"))
		if !known || time.Now().After(expiry.(time.Time)) {
			http.Error(w, "log in again", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "hello")
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	panic(http.Serve(listener, nil))
}
