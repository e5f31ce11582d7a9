package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"eckart/api/openai"
)

// A front is the HTTP server. It answers from the moment the address is bound; before the model is loaded it answers
// that it is not.
type front struct {
	http     *http.Server
	listener net.Listener
	behind   atomic.Pointer[http.Handler]
	stage    atomic.Pointer[string] // of bringing the model up; nil before the first
	failed   chan error             // the error that ended serving, if one does
}

// newFront starts to answer on listener, which it takes over.
func newFront(listener net.Listener, logger *slog.Logger) *front {
	f := &front{listener: listener, failed: make(chan error, 1)}
	f.http = openai.NewHTTPServer(f, logger)
	go func() {
		if err := f.http.Serve(listener); err != http.ErrServerClosed {
			f.failed <- err
		}
	}()
	return f
}

// addr returns the bound address; with port 0 asked for, the port that was given.
func (f *front) addr() net.Addr { return f.listener.Addr() }

// open lets h answer from here on.
func (f *front) open(h http.Handler) { f.behind.Store(&h) }

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := f.behind.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	message := "the model is loading"
	if stage := f.stage.Load(); stage != nil {
		message += ": " + *stage
	}
	text, err := json.Marshal(message)
	if err == nil {
		fmt.Fprintf(w, `{"error":{"message":%s,"type":"server_error","param":null,"code":"loading"}}`, text)
	}
}

// at says what bringing the model up is at.
func (f *front) at(stage string) { f.stage.Store(&stage) }

// Shutdown stops listening and waits for requests under way until ctx is done; then it cuts them off.
func (f *front) Shutdown(ctx context.Context) error {
	err := f.http.Shutdown(ctx)
	if err != nil {
		f.http.Close()
	}
	return err
}

// Close cuts everything off. It may be called after Shutdown.
func (f *front) Close() error { return f.http.Close() }

// serveProfiles serves the profiles of net/http/pprof at addr; "" for not at all. Closing the server ends it.
func serveProfiles(addr string) (*http.Server, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	if addr == "" {
		return s, nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on --pprof %s: %w", addr, reason(err))
	}
	go s.Serve(listener)
	return s, nil
}
