package load

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fakeServer answers completions with a script and keeps what it was asked.
type fakeServer struct {
	t      *testing.T
	answer func(w http.ResponseWriter, words int)
	asked  []map[string]any
	mu     sync.Mutex
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer key" {
		s.t.Errorf("%s with %q", r.URL.Path, r.Header.Get("Authorization"))
	}
	if r.URL.Path == "/v1/models" {
		io.WriteString(w, `{"data": [{"id": "first"}, {"id": "second"}]}`)
		return
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		s.t.Error(err)
	}
	text, _ := body["prompt"].(string)
	if r.URL.Path == "/v1/chat/completions" {
		text, _ = body["messages"].([]any)[0].(map[string]any)["content"].(string)
	}
	body["text"] = text
	s.mu.Lock()
	s.asked = append(s.asked, body)
	s.mu.Unlock()
	s.answer(w, len(strings.Fields(text)))
}

// reply streams outputs, then a usage of 3 tokens for a word and 5 around them, and as many for the answer as given; 0
// for no usage.
func reply(outputs, tokens int) func(http.ResponseWriter, int) {
	return func(w http.ResponseWriter, words int) {
		io.WriteString(w, ": a comment\n\n")
		for range outputs {
			io.WriteString(w, "data: {\"choices\":[{\"text\":\"x\",\"finish_reason\":null}]}\n\n")
		}
		if tokens > 0 {
			fmt.Fprintf(w, "data:{\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d}}\n\n", 5+3*words, tokens)
		}
		io.WriteString(w, "data: [DONE]\n\n")
	}
}

func serve(t *testing.T, answer func(http.ResponseWriter, int), chat bool) (*fakeServer, Client) {
	t.Helper()
	fake := &fakeServer{t: t, answer: answer}
	s := httptest.NewServer(fake)
	t.Cleanup(s.Close)
	c, err := NewClient(s.URL+"/v1/", "key", chat, time.Minute)
	if err == nil {
		err = c.FindModel(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return fake, c
}

// TestRun puts loads of both sorts on a server and counts requests and tokens. Every prompt is another one, and has
// about the tokens asked for.
func TestRun(t *testing.T) {
	for _, chat := range []bool{false, true} {
		fake, c := serve(t, reply(3, 7), chat)
		results, err := Run(t.Context(), Options{
			Client: c, Levels: []Level{{Clients: 1}, {Clients: 5}, {Rate: 1e5}}, Input: 100, Output: 9, Requests: 12, Seed: 1, IgnoreEOS: true,
		})
		if err != nil || len(results) != 3 {
			t.Fatalf("%d results, error %v", len(results), err)
		}
		for _, r := range results {
			if r.Done != 12 || r.Failed != 0 || r.Output != 12*7 || r.Input != 12*101 || r.Uncounted != 0 || r.MostAtOnce < 1 || r.MostAtOnce > 12 {
				t.Errorf("%v: %+v", r.Level, r)
			}
		}
		if results[0].MostAtOnce != 1 || results[1].MostAtOnce > 5 {
			t.Errorf("at once %d and %d", results[0].MostAtOnce, results[1].MostAtOnce)
		}
		if len(fake.asked) != 2+3*12 {
			t.Fatalf("%d requests", len(fake.asked))
		}
		seen := map[string]bool{}
		for i, q := range fake.asked {
			text := q["text"].(string)
			if seen[text] {
				t.Errorf("prompt %q comes twice", text)
			}
			seen[text] = true
			if q["model"] != "first" || q["stream"] != true || q["stream_options"].(map[string]any)["include_usage"] != true || q["temperature"] != 0.0 {
				t.Errorf("request %v", q)
			}
			if i >= 2 && (q["max_tokens"] != 9.0 || q["ignore_eos"] != true) {
				t.Errorf("request %v", q)
			}
		}
	}
}

// TestDefaultRequests: a level has 4 requests for each client, and at least 16.
func TestDefaultRequests(t *testing.T) {
	_, c := serve(t, reply(1, 1), false)
	results, err := Run(t.Context(), Options{Client: c, Levels: []Level{{Clients: 2}, {Clients: 6}}, Input: 4, Output: 1})
	if err != nil || len(results) != 2 || results[0].Done != 16 || results[1].Done != 24 {
		t.Errorf("results %+v, error %v", results, err)
	}
}

// TestFailures: what a server gets wrong is counted by its message, and what it gets right still measured.
func TestFailures(t *testing.T) {
	n := 0
	fake, c := serve(t, nil, false)
	fake.answer = func(w http.ResponseWriter, words int) {
		n++ // one client: never two at once
		switch {
		case n <= 2 || n%2 == 0:
			reply(2, 0)(w, words)
		case n%3 == 0:
			w.WriteHeader(http.StatusTooManyRequests)
			io.WriteString(w, `{"error": {"message": "the queue is full"}}`)
		default:
			w.WriteHeader(http.StatusBadGateway)
		}
	}
	results, err := Run(t.Context(), Options{Client: c, Levels: []Level{{Clients: 1}}, Input: 10, Output: 2, Requests: 12})
	if err != nil {
		t.Fatal(err)
	}
	// Requests 3 to 14: 3 and 9 are refused, 5, 7, 11 and 13 fail.
	r := results[0]
	want := []Failure{{"the server answers 502 Bad Gateway", 4}, {"the server answers 429 Too Many Requests: the queue is full", 2}}
	if r.Done != 6 || r.Failed != 6 || len(r.Failures) != 2 || r.Failures[0] != want[0] || r.Failures[1] != want[1] {
		t.Errorf("%+v, want failures %v", r, want)
	}
	if r.Uncounted != 6 || r.Output != 6*2 || r.Input != 6*10 {
		t.Errorf("without usage: %+v", r)
	}
}

// TestRead holds which streams count as an answer.
func TestRead(t *testing.T) {
	const out = "data: {\"choices\":[{\"text\":\"\"}]}\n\n"
	for _, c := range []struct {
		name, stream string
		outputs      int
		err          string
	}{
		{"usual", out + out + "data: [DONE]\n\n", 2, ""},
		{"end by its reason", out + "data: {\"choices\":[{\"finish_reason\":\"length\"}],\"usage\":{\"completion_tokens\":2}}\n\n", 2, ""},
		{"cut off", out, 1, "ended in the middle"},
		{"empty", "", 0, "ended in the middle"},
		{"no output", "data: [DONE]\n\n", 0, "had no output"},
		{"error", out + "data: {\"error\":{\"message\":\"the device failed\"}}\n\n", 1, "the device failed"},
		{"no JSON", "data: {\n\n", 0, "read event"},
	} {
		var r Record
		err := r.read(strings.NewReader(c.stream))
		if len(r.Outputs) != c.outputs || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %d outputs, error %v, want %d, %q", c.name, len(r.Outputs), err, c.outputs, c.err)
		}
	}
}

// TestRefusals: nothing is measured when the first request fails, or is interrupted.
func TestRefusals(t *testing.T) {
	fake, c := serve(t, func(w http.ResponseWriter, _ int) {
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error": {"message": "which key?"}}`)
	}, false)
	o := Options{Client: c, Levels: []Level{{Clients: 1}}, Input: 10, Output: 2, Requests: 3}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "try a request: the server answers 401 Unauthorized: which key?") {
		t.Errorf("error %v", err)
	}

	ctx, stop := context.WithCancel(t.Context())
	n := 0
	fake.answer = func(w http.ResponseWriter, words int) {
		reply(1, 1)(w, words)
		if n++; n == 4 {
			stop()
		}
	}
	if results, err := Run(ctx, o); err == nil || err.Error() != "interrupted" || len(results) != 0 {
		t.Errorf("results %+v, error %v", results, err)
	}

	for _, address := range []string{"", "localhost:8080", "ftp://x", "http://", "http://%zz"} {
		if _, err := NewClient(address, "", false, 0); err == nil {
			t.Errorf("%q is taken for a server", address)
		}
	}
}

// at returns a moment so many milliseconds after a fixed one.
func at(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }

// TestSummarize holds the definitions of the times, on requests whose times are given.
func TestSummarize(t *testing.T) {
	r := Summarize(Level{Clients: 2}, 2*time.Second, []Record{
		{Start: at(0), Outputs: []time.Time{at(100), at(120), at(160)}, Input: 10, Output: 5}, // an output holds several tokens
		{Start: at(50), Outputs: []time.Time{at(350)}, Input: 20, Output: 1},                  // one token has no TPOT
		{Start: at(160), Outputs: []time.Time{at(360), at(370)}, Input: 30},                   // no usage
		{Start: at(10), Outputs: []time.Time{at(11)}, Input: 1000, Output: 1000, Err: errors.New("broken off")},
	})
	for _, f := range []struct {
		name      string
		got, want float64
	}{
		{"mean TTFT", r.TTFT.Mean, 200},
		{"median TTFT", r.TTFT.Median, 200},
		{"deviation of TTFT", r.TTFT.Deviation, math.Sqrt(20000. / 3)},
		{"p90 of TTFT", r.TTFT.P90, 280},
		{"p99 of TTFT", r.TTFT.P99, 298},
		{"mean TPOT", r.TPOT.Mean, (15. + 10) / 2},
		{"mean ITL", r.ITL.Mean, (20. + 40 + 10) / 3},
		{"median ITL", r.ITL.Median, 20},
		{"mean E2EL", r.E2EL.Mean, (160. + 300 + 210) / 3},
		{"requests a second", r.RequestRate, 1.5},
		{"output tokens a second", r.OutputRate, 4},
		{"tokens a second", r.TotalRate, 34},
	} {
		if math.Abs(f.got-f.want) > 1e-9 {
			t.Errorf("%s is %g, want %g", f.name, f.got, f.want)
		}
	}
	// The third begins when the first ends.
	if r.Done != 3 || r.Failed != 1 || r.Input != 60 || r.Output != 8 || r.Uncounted != 1 || r.MostAtOnce != 2 {
		t.Errorf("%+v", r)
	}
	if none := Summarize(Level{Clients: 1}, time.Second, nil); none.TTFT != (Spread{}) || none.Done != 0 {
		t.Errorf("of nothing: %+v", none)
	}
}

// TestArrivals: as many as asked for, in order, the last one when the rate says, and as irregular as a Poisson process.
func TestArrivals(t *testing.T) {
	const n, rate = 10000, 50.0
	times := arrivals(rand.New(rand.NewPCG(1, 2)), n, rate)
	var squares float64
	for i, d := range times {
		gap := d.Seconds()
		if i > 0 {
			gap -= times[i-1].Seconds()
		}
		if gap < 0 {
			t.Fatalf("arrival %d is %v after the one before", i, gap)
		}
		squares += gap * gap * rate * rate / n
	}
	if len(times) != n || math.Abs(times[n-1].Seconds()-n/rate) > 1e-6 {
		t.Errorf("%d arrivals, the last after %v", len(times), times[n-1])
	}
	if math.Abs(squares-2) > 0.15 { // of an exponential distribution of mean 1
		t.Errorf("the mean square of the gaps is %g, want 2", squares)
	}
}

func TestFormats(t *testing.T) {
	r := Summarize(Level{Rate: 2.5}, time.Second, []Record{
		{Start: at(0), Outputs: []time.Time{at(100), at(120)}, Input: 10, Output: 3}, {Err: errors.New("no \"answer\"")},
	})
	write := func(format string) string {
		var b bytes.Buffer
		if err := Write(&b, format, []Result{r}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want := `times in milliseconds: median / 90 % / 99 %

load   done  failed  at once  requests/s  output t/s  total t/s                   TTFT                TPOT                 ITL                   E2EL
2.5/s     1       1        1        1.00         3.0       13.0  100.0 / 100.0 / 100.0  10.0 / 10.0 / 10.0  20.0 / 20.0 / 20.0  120.0 / 120.0 / 120.0
`
	if got := write("table"); got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
	if got := write("markdown"); !strings.Contains(got, "| 2.5/s | 1 | 1 | 1 | 1.00 | 3.0 | 13.0 | 100.0 / 100.0 / 100.0 |") {
		t.Errorf("markdown:\n%s", got)
	}
	var fields []map[string]any
	if err := json.Unmarshal([]byte(write("json")), &fields); err != nil || len(fields) != 1 {
		t.Fatalf("json: %d results, error %v", len(fields), err)
	}
	for key, want := range map[string]float64{
		"completed": 1, "failed": 1, "request_rate": 2.5, "total_input_tokens": 10, "total_output_tokens": 3, "output_throughput": 3,
		"total_token_throughput": 13, "mean_ttft_ms": 100, "median_tpot_ms": 10, "p99_itl_ms": 20, "p90_e2el_ms": 120, "std_ttft_ms": 0,
	} {
		if fields[0][key] != want {
			t.Errorf("json: %s is %v, want %g", key, fields[0][key], want)
		}
	}
	if got := fmt.Sprint(fields[0]["errors"]); got != `[map[count:1 message:no "answer"]]` {
		t.Errorf("json: errors %s", got)
	}
	rows, err := csv.NewReader(strings.NewReader(write("csv"))).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("csv: %d rows, error %v", len(rows), err)
	}
	for i, key := range rows[0] {
		if _, ok := fields[0][key]; !ok || rows[1][i] == "" {
			t.Errorf("csv: %s is %q, json has it: %v", key, rows[1][i], ok)
		}
	}
}

// TestSpawnRefusal: a server that does not come up says why.
func TestSpawnRefusal(t *testing.T) {
	if _, err := Spawn(t.Context(), "sh", "-c", "echo no such model >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "no such model") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v", err)
	}
	if _, err := Spawn(t.Context(), "/no/such/program"); err == nil {
		t.Error("a program that is not there was started")
	}
}
