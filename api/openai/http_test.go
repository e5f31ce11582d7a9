package openai_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"eckart/api/openai"
	"eckart/model/compress"
	"eckart/runtime"
)

// talk sends raw bytes and returns the answer that comes before the connection closes or a second has passed.
func talk(t *testing.T, url, raw string) (status int, header http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = io.WriteString(c, raw) }()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	method, _, _ := strings.Cut(raw, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.60q: no answer: %v", raw, err)
	}
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(b)
}

// TestBadHTTP has the rows J1 to J5 that are not about a JSON text: they need a connection.
func TestBadHTTP(t *testing.T) {
	e := &scripted{script: says("ok")}
	o := options(t, e)
	o.MaxBody = 1 << 16
	o.BodyTimeout = 100 * time.Millisecond
	o.Loopback = true
	o.APIKeys = []string{"right", "other"}
	_, url := serve(t, o)
	const key = "Authorization: Bearer right\r\n"
	body := chatWith("")
	send := func(head, body string) string {
		return "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" + key + head + "\r\n" + body
	}
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	get := func(method, path, head string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + head + "\r\n"
	}
	for _, row := range []struct {
		name, raw string
		status    int
		code      string // "": the answer is net/http's own and no JSON
	}{
		{"J1/json", send("Content-Type: application/json\r\n"+length, body), 200, ""},
		{"J1/no type", send(length, body), 200, ""},
		{"J1/charset", send("Content-Type: application/json; charset=UTF-8\r\n"+length, body), 200, ""},
		{"J1/text", send("Content-Type: text/plain\r\n"+length, body), 415, "unsupported_media_type"},
		{"J1/form", send("Content-Type: application/x-www-form-urlencoded\r\n"+length, body), 415, "unsupported_media_type"},
		{"J1/utf-16 charset", send("Content-Type: application/json; charset=utf-16\r\n"+length, body), 415, "unsupported_media_type"},
		{"J1/broken type", send("Content-Type: ;;\r\n"+length, body), 415, "unsupported_media_type"},
		{"J1/gzip", send("Content-Encoding: gzip\r\n"+length, body), 415, "unsupported_media_type"},
		{"J1/no length", send("", ""), 400, "invalid_json"},

		{"J2/huge length", send("Content-Length: 1073741824\r\n", ""), 413, "request_too_large"},
		{"J2/huge chunks", send("Transfer-Encoding: chunked\r\n", strings.Repeat("4000\r\n"+strings.Repeat(" ", 0x4000)+"\r\n", 5)), 413, "request_too_large"},
		{"J2/slow", send("Content-Length: 100\r\n", "{"), 408, "body_timeout"},
		{"J2/no end", send("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n"), 408, "body_timeout"},
		{"J2/large header", get("GET", "/v1/models", "X: "+strings.Repeat("x", 100<<10)+"\r\n"), 431, ""},
		{"J2/many headers", get("GET", "/v1/models", strings.Repeat("X: y\r\n", 10_000)), 431, ""},

		{"J3/both lengths", send("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400, "invalid_json"}, // chunked wins, as RFC 9112 says
		{"J3/two lengths", send("Content-Length: 5\r\nContent-Length: 6\r\n", "12345"), 400, ""},
		{"J3/chunk size", send("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n"), 400, "invalid_body"},
		{"J3/folded header", send("X: a\r\n b\r\n"+length, body), 200, ""}, // net/http unfolds, as RFC 9112 5.2 allows
		{"J3/no host", "GET /health HTTP/1.1\r\n\r\n", 400, ""},
		{"J3/foreign host", "GET /v1/models HTTP/1.1\r\nHost: evil.example:80\r\n" + key + "\r\n", 403, "host_not_allowed"},
		{"J3/foreign host, public", "GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "host_not_allowed"},
		{"J3/loopback hosts", "GET /health HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 200, ""},
		{"J3/loopback hosts", "GET /health HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n", 200, ""},
		{"J3/loopback hosts", "GET /health HTTP/1.1\r\nHost: LOCALHOST.:1\r\n\r\n", 200, ""},
		{"J3/like loopback", "GET /health HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 403, "host_not_allowed"},

		{"J4/dots", get("GET", "/v1/../health", key), 404, "route_not_found"},
		{"J4/dots without key", get("GET", "/health/../v1/models", ""), 401, "invalid_api_key"},
		{"J4/slashes", get("GET", "//v1/models", key), 404, "route_not_found"},
		{"J4/escaped dots", get("GET", "/v1/%2e%2e/health", key), 404, "route_not_found"},
		{"J4/slash at the end", get("GET", "/v1/models/", key), 404, "route_not_found"},
		{"J4/model above", get("GET", "/v1/models/../x", key), 404, "model_not_found"},
		{"J4/escaped model", get("GET", "/v1/models/%6d", key), 200, ""},
		{"J4/long", get("GET", "/"+strings.Repeat("x", 20<<10), key), 404, "route_not_found"},
		{"J4/too long", get("GET", "/"+strings.Repeat("x", 100<<10), key), 431, ""},
		{"J4/get", get("GET", "/v1/chat/completions", key), 405, "method_not_allowed"},
		{"J4/trace", get("TRACE", "/v1/models", key), 405, "method_not_allowed"},
		{"J4/options", get("OPTIONS", "/v1/models", key+"Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n"), 405, "method_not_allowed"},
		{"J4/options without key", get("OPTIONS", "/v1/models", "Origin: http://x\r\nAccess-Control-Request-Method: POST\r\n"), 401, "invalid_api_key"},
		{"J4/unknown without key", get("GET", "/secret", ""), 401, "invalid_api_key"},

		{"J5/none", get("GET", "/v1/models", ""), 401, "invalid_api_key"},
		{"J5/metrics", get("GET", "/metrics", ""), 401, "invalid_api_key"},
		{"J5/version", get("GET", "/version", ""), 401, "invalid_api_key"},
		{"J5/scheme alone", get("GET", "/v1/models", "Authorization: Bearer\r\n"), 401, "invalid_api_key"},
		{"J5/empty key", get("GET", "/v1/models", "Authorization: Bearer \r\n"), 401, "invalid_api_key"},
		{"J5/no scheme", get("GET", "/v1/models", "Authorization: right\r\n"), 401, "invalid_api_key"},
		{"J5/wrong", get("GET", "/v1/models", "Authorization: bearer x\r\n"), 401, "invalid_api_key"},
		{"J5/prefix", get("GET", "/v1/models", "Authorization: Bearer righ\r\n"), 401, "invalid_api_key"},
		{"J5/wrong tail", get("GET", "/v1/models", "Authorization: Bearer right!\r\n"), 401, "invalid_api_key"},
		{"J5/two keys in one", get("GET", "/v1/models", "Authorization: Bearer rightother\r\n"), 401, "invalid_api_key"},
		{"J5/NUL", get("GET", "/v1/models", "Authorization: Bearer right\x00\r\n"), 400, ""},
		{"J5/huge", get("GET", "/v1/models", "Authorization: Bearer "+strings.Repeat("r", 1<<20)+"\r\n"), 431, ""},
		{"J5/right", get("GET", "/v1/models", "Authorization: bearer right\r\n"), 200, ""},
		{"J5/second", get("GET", "/v1/models", "X-Api-Key: other\r\n"), 200, ""},
		{"J5/head", get("HEAD", "/v1/models", ""), 401, ""},
		{"J5/public", get("GET", "/health", ""), 200, ""},
		{"J5/public", get("GET", "/ready", ""), 200, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, header, body := talk(t, url, row.raw)
			switch {
			case row.code != "":
				wantError(t, status, []byte(body), row.status, row.code, "")
			case status != row.status:
				t.Errorf("got %d %.200s, want %d", status, body, row.status)
			}
			if status == 401 && header.Get("WWW-Authenticate") != "Bearer" || status == 405 && header.Get("Allow") == "" {
				t.Errorf("%d with the headers %v", status, header)
			}
		})
	}
}

// TestOrigin: pages of other origins may not call, unless the operator allows one.
func TestOrigin(t *testing.T) {
	o := options(t, &scripted{script: says("ok")})
	closed := newServer(t, o)
	o.CORS = "https://app.example"
	one := newServer(t, o)
	o.CORS = "*"
	open := newServer(t, o)
	for _, c := range []struct {
		name    string
		server  http.Handler
		origin  string
		status  int
		allowed string
	}{
		{"closed", closed, "https://app.example", 403, ""},
		{"one", one, "https://app.example", 200, "https://app.example"},
		{"one, another", one, "https://evil.example", 403, ""},
		{"open", open, "https://evil.example", 200, "*"},
		{"no page", closed, "", 200, ""},
	} {
		header := []string{"Content-Type", "application/json"}
		if c.origin != "" {
			header = append(header, "Origin", c.origin, "Sec-Fetch-Site", "cross-site")
		}
		w := post(c.server, chatPath, chatWith(""), header...)
		if w.Code != c.status || w.Header().Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%s: got %d, allowed %q, want %d, %q", c.name, w.Code, w.Header().Get("Access-Control-Allow-Origin"), c.status, c.allowed)
		}
	}
	o.CORS, o.APIKeys = "https://app.example", []string{"k"}
	w := handle(newServer(t, o), http.MethodOptions, chatPath, "", "Origin", "https://app.example",
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,x-stainless-os")
	if w.Code != 204 || w.Header().Get("Access-Control-Allow-Headers") != "authorization,x-stainless-os" {
		t.Errorf("preflight: %d %v", w.Code, w.Header())
	}
}

// TestLog is row J20: what a client writes into names and paths stays inside one line, quoted and cut.
func TestLog(t *testing.T) {
	var lines lockedBuffer
	o := options(t, &scripted{script: says("ok")})
	o.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	s := newServer(t, o)
	post(s, chatPath, `{"model":"m\r\nlevel=ERROR msg=forged","messages":[{"role":"user","content":"secret words"}]}`)
	post(s, chatPath, chatWith(`"user":"a\nb","stop":"zzz"`), "X-Request-Id", "my-id.1")
	post(s, chatPath, chatWith(""), "X-Request-Id", strings.Repeat("x", 129))
	handle(s, http.MethodGet, "/a%0d%0ab%1b[31m", "")
	handle(s, http.MethodGet, "/health", "")
	text := lines.String()
	if n := strings.Count(text, "\n"); n != 4 {
		t.Errorf("got %d lines, want 4 (probes are not logged):\n%s", n, text)
	}
	for _, bad := range []string{"\r", "\x1b", "secret", "\nlevel", "Bearer"} {
		if strings.Contains(text, bad) {
			t.Errorf("the log holds %q:\n%s", bad, text)
		}
	}
	for _, good := range []string{"id=my-id.1 ", "status=200", "prompt_tokens=", "cached_tokens=2", "completion_tokens=2", "finish=stop", "code=model_not_found"} {
		if !strings.Contains(text, good) {
			t.Errorf("the log lacks %q:\n%s", good, text)
		}
	}
}

// A lockedBuffer may be written by handlers and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestRequestID: a client's id comes back where it is a plain word, and answers always carry one.
func TestRequestID(t *testing.T) {
	s := newServer(t, options(t, &scripted{script: says("ok")}))
	for given, kept := range map[string]bool{"abc-1_2.3:4": true, "": false, "a b": false, "a\"b": false, strings.Repeat("x", 129): false} {
		got := handle(s, http.MethodGet, "/version", "", "X-Request-Id", given).Header().Get("X-Request-Id")
		if (got == given) != kept || got == "" {
			t.Errorf("id %q came back as %q", given, got)
		}
	}
}

// TestStatusRoutes: what the probes and the listings say, through the life of a server.
func TestStatusRoutes(t *testing.T) {
	e := &scripted{script: says("ok")}
	s := newServer(t, options(t, e))
	want := func(path string, status int, body string) {
		t.Helper()
		if w := handle(s, http.MethodGet, path, ""); w.Code != status || !strings.Contains(w.Body.String(), body) || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: got %d %s, want %d with %s", path, w.Code, w.Body, status, body)
		}
	}
	model := `{"id":"m","object":"model","created":1700000000,"owned_by":"eckart","root":"m","parent":null,"max_model_len":2048}`
	want("/v1/models", 200, `{"object":"list","data":[`+model+`]}`)
	want("/v1/models/m", 200, model)
	if w := handle(s, http.MethodGet, "/v1/models/m", ""); strings.Contains(w.Body.String(), "compression") {
		t.Errorf("a model that was not compressed is %s", w.Body)
	}
	want("/v1/models/other", 404, "model_not_found")
	want("/version", 200, `{"version":"1.2.3"}`)
	want("/health", 200, `{"status":"ok"}`)
	want("/ready", 200, `{"status":"ready"}`)

	s.Drain()
	want("/health", 200, `{"status":"draining"}`)
	want("/ready", 503, "shutting_down")
	want("/v1/models", 200, model)
	w := post(s, chatPath, chatWith(""))
	wantError(t, w.Code, w.Body.Bytes(), 503, "shutting_down", "shutting down")
	if w.Header().Get("Retry-After") != "1" {
		t.Errorf("503 without Retry-After: %v", w.Header())
	}

	e.fault = fmt.Errorf("device: out of order")
	want("/health", 503, "engine_failed")
	want("/ready", 503, "engine_failed")
}

// TestCompressionReport: what was done to a model is told of the model, and not in the list.
func TestCompressionReport(t *testing.T) {
	o := options(t, &scripted{script: says("ok")})
	held := 0.03
	o.Compression = &compress.Report{
		Model: "m", Policy: "ratio 0.6", Modules: []compress.ModuleReport{{Name: "a", Kind: "int4/32:near", Form: "round", Reached: 0.01, HeldOut: &held}, {Name: "b"}},
		Verified: &compress.Verification{Tokens: 4000, KLMean: 0.2},
	}
	s := newServer(t, o)
	var got struct {
		ID          string          `json:"id"`
		Compression compress.Report `json:"compression"`
	}
	w := handle(s, http.MethodGet, "/v1/models/m", "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.ID != "m" || !reflect.DeepEqual(got.Compression, *o.Compression) {
		t.Errorf("error %v, model %s, want the report %+v", err, w.Body, *o.Compression)
	}
	if w := handle(s, http.MethodGet, "/v1/models", ""); !json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), "compression") {
		t.Errorf("list %s", w.Body)
	}
	o.Compression.Verified.KLMax = math.Inf(1)
	if _, err := openai.New(o); err == nil || !strings.Contains(err.Error(), "report of compression") {
		t.Errorf("a report that JSON does not hold: error %v", err)
	}
}

// TestEngineErrors: each error of the engine has its status, streaming or not, and ours are not told to clients.
func TestEngineErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("submit: %w", runtime.ErrQueueFull), 429, "queue_full"},
		{fmt.Errorf("submit: %w", runtime.ErrClosed), 503, "shutting_down"},
		{fmt.Errorf("submit: %w", &runtime.ContextError{Prompt: 9, Context: 8}), 400, "context_length_exceeded"},
		{fmt.Errorf("%w: top_q", runtime.ErrInvalid), 400, "invalid_value"},
		{fmt.Errorf("sync: secret device fault"), 500, "internal_error"},
	} {
		for _, fields := range []string{"", `"stream":true`, `"stream":true,"n":3`, `"n":3`} {
			e := &scripted{script: says("ok"), fail: func(runtime.Request) error { return c.err }}
			w := post(newServer(t, options(t, e)), chatPath, chatWith(fields))
			wantError(t, w.Code, w.Body.Bytes(), c.status, c.code, "")
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the answer tells the fault: %s", w.Body)
			}
			if retry := w.Header().Get("Retry-After"); (retry != "") != (c.status == 429 || c.status == 503) {
				t.Errorf("%d with Retry-After %q", c.status, retry)
			}
		}
	}
}

// TestPanic: a panic on the way to or inside the engine is a 500 or an event, and the server goes on.
func TestPanic(t *testing.T) {
	boom := true
	e := &scripted{script: func(r runtime.Request) []runtime.Token {
		if boom {
			panic("boom")
		}
		return says("ok")(r)
	}}
	s := newServer(t, options(t, e))
	for _, fields := range []string{"", `"n":2`, `"stream":true`, `"stream":true,"n":2`} {
		w := post(s, chatPath, chatWith(fields))
		wantError(t, w.Code, w.Body.Bytes(), 500, "internal_error", "")
		if strings.Contains(w.Body.String(), "boom") {
			t.Errorf("the answer tells the panic: %s", w.Body)
		}
	}
	boom = false
	if w := post(s, chatPath, chatWith("")); w.Code != 200 {
		t.Errorf("after a panic: %d %s", w.Code, w.Body)
	}
}

// TestMetrics: the page holds what vLLM's dashboards ask for, and a client cannot make labels.
func TestMetrics(t *testing.T) {
	e := &scripted{script: says("a", "b")}
	s := newServer(t, options(t, e))
	post(s, chatPath, chatWith(""))
	handle(s, "BREW", "/x/"+strings.Repeat("y", 100), "")
	text := handle(s, http.MethodGet, "/metrics", "").Body.String()
	for _, line := range []string{
		`eckart_num_requests_running{model_name="m"} 0`,
		`eckart_kv_cache_usage_perc{model_name="m"} 0.25`,
		`eckart_request_success_total{finished_reason="stop",model_name="m"} 1`,
		`eckart_time_to_first_token_seconds_count{model_name="m"} 1`,
		`eckart_inter_token_latency_seconds_count{model_name="m"} 2`,
		`eckart_inter_token_latency_seconds_bucket{model_name="m",le="0.0075"}`,
		`eckart_e2e_request_latency_seconds_count{model_name="m"} 1`,
		`eckart_http_requests_total{method="POST",model_name="m",path="/v1/chat/completions",status="200"} 1`,
		`eckart_http_requests_total{method="other",model_name="m",path="other",status="404"} 1`,
		`eckart_request_generation_tokens_sum{model_name="m"} 3`,
		"eckart_prefix_cache_hits_total", "go_goroutines",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	if strings.Contains(text, "yyy") {
		t.Error("a path of a client is a label")
	}
}
