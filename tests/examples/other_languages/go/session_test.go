// Package session: a server knows a session for 30 days.
package session

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

var clock = http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(os.Getenv("VDSOTIME_CONTROL"), "unix:"))
	},
}}

func TestSessionExpires(t *testing.T) {
	login := time.Now()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(login) >= 30*24*time.Hour {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	after := func(span string, status int) {
		moved, err := clock.Post("http://clock/jump", "application/json", strings.NewReader(`{"span": "`+span+`"}`))
		if err != nil || moved.StatusCode != http.StatusOK {
			t.Fatal(moved, err)
		}
		if answer, err := http.Get(server.URL); err != nil || answer.StatusCode != status {
			t.Error(answer, err)
		}
	}
	after("29d", http.StatusOK)
	after("1d", http.StatusUnauthorized)
}
