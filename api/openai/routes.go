package openai

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A route is one path. handle returns an error instead of writing it; writeError is called in one place.
type route struct {
	method string
	work   bool // new work, refused while draining
	handle func(w *response, r *http.Request) error
}

const modelsPrefix = "/v1/models/"

// table lists the paths. They are compared as they are: nothing is cleaned or redirected, so that no spelling of a path
// passes a check under one name and is served under another.
func (s *Server) table() map[string]route {
	return map[string]route{
		"/v1/chat/completions": {http.MethodPost, true, s.chat},
		"/v1/completions":      {http.MethodPost, true, s.complete},
		"/v1/models":           {http.MethodGet, false, s.models},
		modelsPrefix:           {http.MethodGet, false, s.model},
		"/tokenize":            {http.MethodPost, true, s.tokenize},
		"/detokenize":          {http.MethodPost, true, s.detokenize},
		"/apply-template":      {http.MethodPost, true, s.applyTemplate},
		"/health":              {http.MethodGet, false, s.health},
		"/ready":               {http.MethodGet, false, s.ready},
		"/metrics":             {http.MethodGet, false, s.serveMetrics},
		"/version":             {http.MethodGet, false, s.version},
	}
}

func (s *Server) dispatch(w *response, r *http.Request) error {
	path := r.URL.Path
	if len(path) > len(modelsPrefix) && strings.HasPrefix(path, modelsPrefix) {
		path = modelsPrefix
	}
	to, ok := s.routes[path]
	if !ok || path == modelsPrefix && path == r.URL.Path {
		return &requestError{
			status: http.StatusNotFound, kind: kindNotFound, code: "route_not_found",
			message: fmt.Sprintf("there is no route %s: there are %s", clip(printable(r.URL.Path)),
				strings.Join(slices.Sorted(maps.Keys(s.routes)), ", ")),
		}
	}
	w.route = path
	if r.Method != to.method && (r.Method != http.MethodHead || to.method != http.MethodGet) {
		allow := to.method
		if allow == http.MethodGet {
			allow = "GET, HEAD"
		}
		w.Header().Set("Allow", allow)
		return &requestError{
			status: http.StatusMethodNotAllowed, kind: kindInvalid, code: "method_not_allowed",
			message: fmt.Sprintf("%s takes %s, not %s", clip(printable(path)), allow, clip(printable(r.Method))),
		}
	}
	if to.work && s.draining.Load() {
		return draining(s.o.RetryAfter)
	}
	return to.handle(w, r)
}

// requestID returns the client's id for a request where it is a plain word, else a new one.
func requestID(given string) string {
	if given == "" || len(given) > 128 {
		return newID("req_")
	}
	for _, c := range []byte(given) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("-_.:", rune(c)) {
			return newID("req_")
		}
	}
	return given
}

// newID returns prefix and 24 random characters.
func newID(prefix string) string {
	var random [15]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
}

// logRequest writes a request's one line. What a client chose is cut and stripped of control characters, whatever the
// handler behind the logger does with them; prompts, answers and keys never appear.
func (s *Server) logRequest(w *response, r *http.Request) {
	level := slog.LevelInfo
	if w.route == "/health" || w.route == "/ready" || w.route == "/metrics" {
		level = slog.LevelDebug
	}
	if w.status >= 500 {
		level = slog.LevelError
	}
	if !s.o.Logger.Enabled(r.Context(), level) {
		return
	}
	line := []slog.Attr{
		slog.String("id", w.id),
		slog.String("method", clip(printable(r.Method))),
		slog.String("path", clip(printable(r.URL.Path))),
		slog.Int("status", w.status),
		slog.Duration("took", time.Since(w.start).Round(time.Microsecond)),
	}
	if w.seq > 0 {
		line = append(line,
			slog.Bool("stream", w.stream), slog.Int("sequences", w.seq), slog.Int("prompt_tokens", w.prompt),
			slog.Int("cached_tokens", w.cached), slog.Int("completion_tokens", w.generated),
			slog.Duration("first_token", w.first.Round(time.Microsecond)), slog.String("finish", w.finish))
	}
	if w.failure != nil {
		line = append(line, slog.String("code", w.failure.code), slog.String("error", cut(printable(w.failure.message), 4*clipBytes)))
	}
	s.o.Logger.LogAttrs(r.Context(), level, "request", line...)
}
