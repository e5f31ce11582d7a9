package openai_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eckart/runtime"
)

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("it never came to: %s", what)
}

// TestQueueFull is row C2: one request too many is told when to come back, and does not disturb the others.
func TestQueueFull(t *testing.T) {
	const room = 4
	var inside atomic.Int64
	e := &scripted{script: says("a"), gate: make(chan struct{}), fail: func(runtime.Request) error {
		if inside.Add(1) > room {
			return runtime.ErrQueueFull
		}
		return nil
	}}
	_, url := serve(t, options(t, e))
	var answers sync.WaitGroup
	for range room {
		answers.Go(func() {
			res, err := http.Post(url+chatPath, "application/json", strings.NewReader(chatWith("")))
			if err != nil {
				t.Error(err)
				return
			}
			if body := readAll(t, res.Body); res.StatusCode != 200 || !strings.Contains(body, `"content":"a"`) {
				t.Errorf("got %d %s", res.StatusCode, body)
			}
		})
	}
	eventually(t, "all are inside", func() bool { return inside.Load() == room })
	res, err := http.Post(url+chatPath, "application/json", strings.NewReader(chatWith(`"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, res.StatusCode, []byte(readAll(t, res.Body)), 429, "queue_full", "try again")
	if res.Header.Get("Retry-After") != "1" {
		t.Errorf("429 with the headers %v", res.Header)
	}
	close(e.gate)
	answers.Wait()
}

// TestClientLeaves is row C3: whoever leaves, before the first token or midway, streaming or not, with one choice or
// several, ends what it had running in the engine.
func TestClientLeaves(t *testing.T) {
	for _, fields := range []string{"", `"n":3`, `"stream":true`, `"stream":true,"n":3`} {
		for _, tokens := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s after %d", fields, tokens), func(t *testing.T) {
				e := &scripted{script: says("a", "b", "c", "d", "e", "f", "g", "h"), gate: make(chan struct{})}
				_, url := serve(t, options(t, e))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+chatPath, strings.NewReader(chatWith(fields)))
				if err != nil {
					t.Fatal(err)
				}
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					if res, err := http.DefaultClient.Do(r); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				}()
				for range tokens {
					e.gate <- struct{}{}
				}
				eventually(t, "the engine works", func() bool { return e.active.Load() > 0 })
				cancel()
				<-gone
				eventually(t, "the engine is idle", func() bool { return e.active.Load() == 0 })
			})
		}
	}
}

// TestSlowReader is row C4: a client that stops reading is dropped when its buffers are full and the time to write is
// over; another one keeps its pace.
func TestSlowReader(t *testing.T) {
	const chunks = 16 // of a MiB: more than the sockets of both ends hold
	large := strings.Repeat("x", 1<<20)
	e := &scripted{script: func(r runtime.Request) []runtime.Token {
		pieces := make([]string, chunks)
		for i := range pieces {
			pieces[i] = large
		}
		return says(pieces...)(r)
	}}
	o := options(t, e)
	o.WriteTimeout = time.Second
	_, url := serve(t, o)
	slow, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_ = slow.(*net.TCPConn).SetReadBuffer(4096)
	body := chatWith(`"stream":true`)
	fmt.Fprintf(slow, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(body), body)
	if _, err := bufio.NewReader(slow).ReadString('\n'); err != nil { // it begins
		t.Fatal(err)
	}
	eventually(t, "the slow client is dropped", func() bool { return e.active.Load() == 0 })

	res, err := http.Post(url+chatPath, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if text := readAll(t, res.Body); !strings.HasSuffix(text, "data: [DONE]\n\n") || len(text) < chunks<<20 {
		t.Errorf("another client got %d bytes", len(text))
	}
}

// TestDrain is the server's part of row C5: what runs goes on to its end, what comes is refused.
func TestDrain(t *testing.T) {
	const streams = 10
	e := &scripted{script: says("a", "b"), gate: make(chan struct{})}
	s, url := serve(t, options(t, e))
	var wait sync.WaitGroup
	for range streams {
		wait.Go(func() {
			res, err := http.Post(url+chatPath, "application/json", strings.NewReader(chatWith(`"stream":true`)))
			if err != nil {
				t.Error(err)
				return
			}
			if text := readAll(t, res.Body); !strings.HasSuffix(text, "data: [DONE]\n\n") || !strings.Contains(text, `"content":"b"`) {
				t.Errorf("a stream ended with %q", text)
			}
		})
	}
	eventually(t, "all streams run", func() bool { return e.active.Load() == streams })
	s.Drain()
	w := post(s, completionPath, completionWith(""))
	wantError(t, w.Code, w.Body.Bytes(), 503, "shutting_down", "")
	close(e.gate)
	wait.Wait()
}

// TestParallel: a request of many prompts has no more than its share in the engine, its choices wait for the prompt to
// be computed, and the answer has them in order.
func TestParallel(t *testing.T) {
	e := &scripted{script: func(r runtime.Request) []runtime.Token {
		return says(string(rune(r.Prompt[0])))(r)
	}}
	o := options(t, e)
	o.Parallel = 3
	w := post(newServer(t, o), completionPath, `{"model":"m","n":2,"prompt":[[65],[66],[67],[68],[69],[70]],"seed":1}`)
	if w.Code != 200 || e.most.Load() > 3 {
		t.Fatalf("%d with %d sequences at once: %s", w.Code, e.most.Load(), w.Body)
	}
	var texts []string
	for _, part := range strings.Split(w.Body.String(), `"text":"`)[1:] {
		texts = append(texts, part[:1])
	}
	if got := strings.Join(texts, ""); got != "AABBCCDDEEFF" {
		t.Errorf("the choices are %s", got)
	}
	if !strings.Contains(w.Body.String(), `"usage":{"prompt_tokens":6,"completion_tokens":24,"total_tokens":30,"prompt_tokens_details":{"cached_tokens":12}}`) {
		t.Errorf("usage: %s", w.Body)
	}

	// The second choice does not begin before the first token of the first.
	held := &scripted{script: says("a"), gate: make(chan struct{})}
	_, url := serve(t, options(t, held))
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err := http.Post(url+completionPath, "application/json", strings.NewReader(completionWith(`"n":3`)))
		if err != nil {
			t.Error(err)
			return
		}
		readAll(t, res.Body)
	}()
	eventually(t, "the first runs", func() bool { return held.active.Load() == 1 })
	held.gate <- struct{}{}
	eventually(t, "the others run", func() bool { return held.active.Load() == 3 })
	close(held.gate)
	<-done
}

// TestScrapes is row C9: metrics are read while requests run, without waiting for them.
func TestScrapes(t *testing.T) {
	e := &scripted{script: says("a", "b", "c"), gate: make(chan struct{})}
	_, url := serve(t, options(t, e))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			res, err := http.Post(url+chatPath, "application/json", strings.NewReader(chatWith(`"stream":true`)))
			if err != nil {
				t.Error(err)
				return
			}
			readAll(t, res.Body)
		})
	}
	eventually(t, "all streams run", func() bool { return e.active.Load() == 8 })
	for range 20 {
		res, err := http.Get(url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if text := readAll(t, res.Body); !strings.Contains(text, `eckart_num_requests_running{model_name="m"} 8`) {
			t.Errorf("the running requests are not shown: %.300s", text)
		}
	}
	close(e.gate)
	wait.Wait()
}

// TestLongAnswer: the time to send a body is no limit on the time of its answer.
func TestLongAnswer(t *testing.T) {
	e := &scripted{script: says("a", "b"), gate: make(chan struct{})}
	o := options(t, e)
	o.BodyTimeout = 50 * time.Millisecond
	_, url := serve(t, o)
	time.AfterFunc(4*o.BodyTimeout, func() { close(e.gate) })
	res, err := http.Post(url+chatPath, "application/json", strings.NewReader(chatWith("")))
	if err != nil {
		t.Fatal(err)
	}
	if text := readAll(t, res.Body); res.StatusCode != 200 || !strings.Contains(text, `"content":"ab"`) {
		t.Errorf("got %d %s", res.StatusCode, text)
	}
}
