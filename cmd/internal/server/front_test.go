package server

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestFront: from the first moment there is an answer, and it changes once the model is there.
func TestFront(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(listener, slog.New(slog.DiscardHandler))
	get := func() (status int, body string) {
		t.Helper()
		response, err := http.Get(fmt.Sprintf("http://%s/health", f.addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	if status, body := get(); status != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"loading"`) {
		t.Errorf("while loading: status %d, body %s", status, body)
	}
	f.at(`reading "it"`)
	if _, body := get(); !strings.Contains(body, `"the model is loading: reading \"it\""`) {
		t.Errorf("at a stage: body %s", body)
	}
	f.open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") }))
	if status, body := get(); status != http.StatusOK || body != "here" {
		t.Errorf("afterwards: status %d, body %s", status, body)
	}
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-f.failed:
		t.Errorf("a shutdown counts as a failure: %v", err)
	default:
	}
}

// TestProfiles: the profiles have an address of their own.
func TestProfiles(t *testing.T) {
	s, err := serveProfiles("")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := serveProfiles("nonsense"); err == nil || !strings.Contains(err.Error(), "--pprof nonsense") {
		t.Errorf("error %v, want one that names the flag", err)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1": true, "127.8.8.8": true, "::1": true, "0.0.0.0": false, "::": false, "10.0.0.1": false} {
		if got := loopback(&net.TCPAddr{IP: net.ParseIP(addr)}); got != want {
			t.Errorf("%s: loopback %v, want %v", addr, got, want)
		}
	}
}
