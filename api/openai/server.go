package openai

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"eckart/model"
	"eckart/model/compress"
	"eckart/model/tokenizer"
	"eckart/model/tokenizer/chat"
	"eckart/runtime"
)

// An Engine is what the server needs of a *runtime.Engine. All methods may be called by any number of goroutines.
type Engine interface {
	Generate(ctx context.Context, r runtime.Request) iter.Seq2[runtime.Token, error]
	Stats() runtime.Stats
	Healthy() error
}

// Options configure a Server. Engine, Tokenizer, Model and Context must be set; a zero in any other field means the
// default that is named with it.
type Options struct {
	Engine    Engine
	Tokenizer *tokenizer.Tokenizer
	Template  *chat.Template // nil: the model has none, and chats are refused
	Model     string         // the name under which the model is served
	Created   time.Time      // of the model, for /v1/models; now
	Context   int            // most tokens of a prompt and its answer together, as the engine enforces it
	Vocab     int            // ids that the model knows; the tokenizer's number

	Compression *compress.Report // what was done to the model, for /v1/models/{id}; nil: nothing

	Defaults   Defaults         // from flags
	Generation model.Generation // from generation_config.json

	APIKeys []string // any of them opens every route but /health and /ready; none: no key is asked for
	CORS    string   // the origin whose pages may call the server, or "*"; "": none
	// Loopback says that the server is bound to a loopback address. Then a request whose Host is another name is
	// refused: a page whose name was pointed at 127.0.0.1 (DNS rebinding) sends its own.
	Loopback bool

	MaxBody      int64         // bytes; 4 MiB, or up to 32 when the context can hold more text
	MaxChoices   int           // most n; 128
	Parallel     int           // sequences of one request that are in the engine at once, at most those it takes when idle; 16
	BodyTimeout  time.Duration // to receive a body; 60 s
	WriteTimeout time.Duration // for a client to take what was written; 30 s
	PingInterval time.Duration // silence in a stream after which a comment is sent; 10 s
	RetryAfter   time.Duration // sent with 429 and 503; 1 s

	Version string           // for /version; "unknown"
	Logger  *slog.Logger     // one line per request; none
	Now     func() time.Time // the clock of templates and of created; time.Now
}

// maxHeaderBytes bounds a request's header; net/http answers 431 beyond it.
const maxHeaderBytes = 32 << 10

// A Server is the handler. It may serve any number of requests at once.
type Server struct {
	o        Options
	base     runtime.Sampling // of a request that chooses nothing
	report   []byte           // of compression, as JSON; nil for none
	keys     [][sha256.Size]byte
	specials []string // spellings of special tokens
	longest  int      // bytes of the longest token
	routes   map[string]route
	browser  *http.CrossOriginProtection
	metrics  *metrics
	draining atomic.Bool
}

// New returns a Server over an engine. It fails for options that no server can work with.
func New(o Options) (*Server, error) {
	switch {
	case o.Engine == nil || o.Tokenizer == nil:
		return nil, errors.New("make server: an engine and a tokenizer are needed")
	case o.Model == "":
		return nil, errors.New("make server: the served model needs a name")
	case o.Context < 1:
		return nil, fmt.Errorf("make server: a context of %d tokens is too small", o.Context)
	}
	for i, key := range o.APIKeys {
		if strings.TrimSpace(key) != key || key == "" {
			return nil, fmt.Errorf("make server: API key %d is empty or has a blank at its ends", i+1)
		}
	}
	s := &Server{browser: http.NewCrossOriginProtection()}
	if o.CORS != "" && o.CORS != "*" {
		if err := s.browser.AddTrustedOrigin(o.CORS); err != nil {
			return nil, fmt.Errorf("make server: CORS takes * or an origin such as https://example.org: %w", err)
		}
	}
	if o.Vocab == 0 {
		o.Vocab = o.Tokenizer.VocabSize()
	}
	s.longest = longestToken(o.Tokenizer)
	orDefault(&o.MaxBody, max(4<<20, min(32<<20, s.byteLimit(o.Context))))
	orDefault(&o.MaxChoices, 128)
	orDefault(&o.Parallel, 16)
	orDefault(&o.BodyTimeout, 60*time.Second)
	orDefault(&o.WriteTimeout, 30*time.Second)
	orDefault(&o.PingInterval, 10*time.Second)
	orDefault(&o.RetryAfter, time.Second)
	orDefault(&o.Version, "unknown")
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Created.IsZero() {
		o.Created = o.Now()
	}
	s.o = o
	s.base = baseSampling(o.Generation, o.Defaults)
	for _, key := range o.APIKeys {
		s.keys = append(s.keys, sha256.Sum256([]byte(key)))
	}
	if o.Compression != nil {
		var err error
		if s.report, err = json.Marshal(o.Compression); err != nil {
			return nil, fmt.Errorf("make server: write the report of compression: %w", err)
		}
	}
	s.specials = specialTokens(o.Tokenizer)
	s.metrics = newMetrics(s)
	s.routes = s.table()
	return s, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func longestToken(t *tokenizer.Tokenizer) int {
	longest := 1
	for id := range int32(t.VocabSize()) {
		longest = max(longest, len(t.Bytes(id)))
	}
	return longest
}

// byteLimit is the length from which a text cannot fit into a context: nothing longer is tokenized, only to be refused
// afterwards. Normalization may shrink a text, hence the factor.
func (s *Server) byteLimit(context int) int64 { return 2 * int64(context) * int64(s.longest) }

// Drain makes the server refuse new work with 503 and report itself as not ready. Requests under way go on: wait for
// them with http.Server.Shutdown.
func (s *Server) Drain() { s.draining.Store(true) }

// NewHTTPServer returns an http.Server over h, a Server or what stands before one, with the limits that a handler cannot
// set itself: headers of at most 32 KiB within ten seconds, and connections that are silent between requests for two
// minutes closed. There is no limit on the time of an answer: a Server sets one for each write. What net/http has to
// say, mostly about broken connections, goes to the logger at the level of debugging.
func NewHTTPServer(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// A response is an http.ResponseWriter that remembers what the log and the metrics want to know.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	id      string // request id
	start   time.Time
	route   string // as the metrics name it
	status  int    // 0: nothing was sent
	failure *requestError

	model                          string
	prompt, cached, generated, seq int
	first                          time.Duration // to the first token
	finish                         string
	stream                         bool
}

// WriteHeader notes the status that the client gets, the first one.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write notes the status that the client gets where none was set.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ServeHTTP answers one request: the checks that hold for every route, then the route, then one line in the log.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &response{ResponseWriter: rw, control: http.NewResponseController(rw), start: time.Now(), route: "other"}
	w.id = requestID(r.Header.Get("X-Request-Id"))
	w.Header().Set("X-Request-Id", w.id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	defer s.finish(w, r)
	if err := s.admit(w, r); err != nil {
		s.writeError(w, r, err)
	}
}

// finish is the end of every request, of one that panicked too.
func (s *Server) finish(w *response, r *http.Request) {
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			panic(p)
		}
		s.metrics.panics.Inc()
		s.o.Logger.Error("panic in a handler", "id", w.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		s.writeError(w, r, fmt.Errorf("panic: %v", p))
		w.status = max(w.status, http.StatusInternalServerError)
	}
	s.metrics.finish(w, r.Method)
	s.logRequest(w, r)
}

// admit runs the checks in the order in which they protect: who is asked for, who asks, from where, for what.
func (s *Server) admit(w *response, r *http.Request) error {
	if s.o.Loopback && !isLoopbackHost(r.Host) {
		return &requestError{
			status: http.StatusForbidden, kind: kindForbidden, code: "host_not_allowed",
			message: fmt.Sprintf("the Host %q is not this machine's loopback: the server is bound to a loopback address", clip(printable(r.Host))),
		}
	}
	if done := s.cors(w, r); done {
		return nil
	}
	if s.o.CORS != "*" {
		if err := s.browser.Check(r); err != nil {
			return &requestError{
				status: http.StatusForbidden, kind: kindForbidden, code: "origin_not_allowed",
				message: fmt.Sprintf("pages of the origin %q may not call this server: start it with --cors", clip(printable(r.Header.Get("Origin")))),
			}
		}
	}
	if !isPublic(r.URL.Path) && !s.authorized(r) {
		return &requestError{
			status: http.StatusUnauthorized, kind: kindKey, code: "invalid_api_key",
			message: "the API key is missing or wrong: send Authorization: Bearer KEY",
		}
	}
	return s.dispatch(w, r)
}

// isPublic: probes of an orchestrator carry no key, and these two answer with one word.
func isPublic(path string) bool { return path == "/health" || path == "/ready" }

// authorized compares digests, all of them, so that neither the length nor a common prefix shows in the time.
func (s *Server) authorized(r *http.Request) bool {
	if len(s.keys) == 0 {
		return true
	}
	given := r.Header.Get("X-Api-Key")
	if scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimSpace(key)
	}
	digest := sha256.Sum256([]byte(given))
	match := 0
	for i := range s.keys {
		match |= subtle.ConstantTimeCompare(digest[:], s.keys[i][:])
	}
	return match == 1
}

// isLoopbackHost reports whether a Host header names the machine itself.
func isLoopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}

// cors adds the headers for the one origin that was allowed and answers a preflight, which carries no key.
func (s *Server) cors(w *response, r *http.Request) (done bool) {
	origin := r.Header.Get("Origin")
	if s.o.CORS == "" || origin == "" || s.o.CORS != "*" && s.o.CORS != origin {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", s.o.CORS)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	// Clients send headers of their own (OpenAI's sends ten), and * does not cover Authorization.
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// writeJSON sends a finished JSON text.
func (s *Server) writeJSON(w *response, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	s.send(w, status, text)
}

func (s *Server) send(w *response, status int, body []byte) {
	if err := w.control.SetWriteDeadline(time.Now().Add(s.o.WriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return // the connection is gone
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		s.o.Logger.Debug("write answer", "id", w.id, "error", err)
	}
}
