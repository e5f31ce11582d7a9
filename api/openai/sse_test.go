package openai_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"eckart/runtime"
)

var randomID = regexp.MustCompile(`(chatcmpl|cmpl)-[a-z2-7]{24}`)

// TestStreamGolden holds streams byte for byte against testdata/stream.txt, but for their random id. UPDATE=1 writes it.
func TestStreamGolden(t *testing.T) {
	var got strings.Builder
	for _, c := range []struct {
		name, path, body string
		script           func(runtime.Request) []runtime.Token
		midway           error
	}{
		{"chat", chatPath, chatWith(`"stream":true`), says("He", "llo", " \"w\"\n"), nil},
		{"chat with usage", chatPath, chatWith(`"stream":true,"stream_options":{"include_usage":true}`), says("Hi"), nil},
		{"chat with log-probabilities", chatPath, chatWith(`"stream":true,"logprobs":true,"top_logprobs":2`), says("a", "b"), nil},
		{"chat without text", chatPath, chatWith(`"stream":true`), says(), nil},
		{"chat ended by a stop string", chatPath, chatWith(`"stream":true,"stop":"END"`), func(runtime.Request) []runtime.Token {
			return []runtime.Token{{ID: 'a', Text: "a", StopID: -1}, {ID: 'E', StopID: -1}, {ID: 'N', StopID: -1}, {ID: 'D', StopID: -1, Finish: runtime.FinishStop, StopString: "END"}}
		}, nil},
		{"chat ended by length inside a character", chatPath, chatWith(`"stream":true`), func(runtime.Request) []runtime.Token {
			return []runtime.Token{{ID: 0xe2, StopID: -1}, {ID: 0x82, Text: "\uFFFD", StopID: -1, Finish: runtime.FinishLength}}
		}, nil},
		{"chat broken midway", chatPath, chatWith(`"stream":true`), func(r runtime.Request) []runtime.Token { return says("a")(r)[:1] }, runtime.ErrClosed},
		{"completion", completionPath, completionWith(`"stream":true`), says("He", "llo"), nil},
		{"completion with echo and usage", completionPath, completionWith(`"stream":true,"echo":true,"stream_options":{"include_usage":true}`), says("!"), nil},
		{"completion with log-probabilities", completionPath, completionWith(`"stream":true,"logprobs":1`), says("é", "x"), nil},
		{"completion ended by a stop id", completionPath, completionWith(`"stream":true,"stop_token_ids":[258]`), func(runtime.Request) []runtime.Token {
			return []runtime.Token{{ID: 'a', Text: "a", StopID: -1}, {ID: endID, StopID: endID, Finish: runtime.FinishStop}}
		}, nil},
	} {
		e := &scripted{script: c.script, midway: c.midway}
		w := post(newServer(t, options(t, e)), c.path, c.body)
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream; charset=utf-8" || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", c.name, w.Code, w.Header())
		}
		ids := map[string]bool{}
		for _, id := range randomID.FindAllString(w.Body.String(), -1) {
			ids[id] = true
		}
		if len(ids) != 1 {
			t.Errorf("%s: the chunks have the ids %v, want one", c.name, ids)
		}
		got.WriteString("# " + c.name + "\n" + randomID.ReplaceAllString(w.Body.String(), "$1-ID"))
	}
	const file = "testdata/stream.txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, b := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("line %d differs:\ngot  %s\nwant %s", i+1, strings.Join(a[min(i, len(a)):min(i+1, len(a))], ""), strings.Join(b[min(i, len(b)):min(i+1, len(b))], ""))
		}
	}
}

// A chunk is what tests read of one.
type chunk struct {
	ID      string `json:"id"`
	Choices []struct {
		Index int `json:"index"`
		Delta struct {
			Role    string  `json:"role"`
			Content *string `json:"content"`
		} `json:"delta"`
		Text   string  `json:"text"`
		Finish *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
		Details    struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error *struct {
		Code string `json:"code"`
	} `json:"error"`
}

// events splits a stream and checks its frame.
func events(t *testing.T, body string) (all []chunk, done bool) {
	t.Helper()
	for event := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		switch {
		case done:
			t.Errorf("an event after [DONE]: %q", event)
		case strings.HasPrefix(event, ":"):
		case !ok || strings.Contains(data, "\n"):
			t.Errorf("not an event: %q", event)
		case data == "[DONE]":
			done = true
		default:
			var c chunk
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Errorf("%v: %s", err, data)
			}
			all = append(all, c)
		}
	}
	return all, done
}

// TestStreamChoices is row J17: n choices in one stream, told apart by index, each with its role first and one end.
func TestStreamChoices(t *testing.T) {
	const n = 4
	e := &scripted{script: says("a", "b", "c")}
	w := post(newServer(t, options(t, e)), chatPath, chatWith(`"stream":true,"n":4,"seed":10,"stream_options":{"include_usage":true}`))
	all, done := events(t, w.Body.String())
	if !done {
		t.Error("no [DONE]")
	}
	var text [n]string
	var began, ended [n]int
	for i, c := range all {
		if len(c.Choices) == 0 {
			if i != len(all)-1 || c.Usage == nil || c.Usage.Completion != 4*n || c.Usage.Prompt+c.Usage.Completion != c.Usage.Total || c.Usage.Details.Cached != 2 {
				t.Errorf("chunk %d of %d is the usage %+v", i, len(all), c.Usage)
			}
			continue
		}
		k := c.Choices[0]
		if k.Delta.Role != "" {
			began[k.Index]++
			if text[k.Index] != "" {
				t.Errorf("choice %d: the role comes after text", k.Index)
			}
		}
		if k.Delta.Content != nil {
			text[k.Index] += *k.Delta.Content
		}
		if k.Finish != nil {
			ended[k.Index]++
			if *k.Finish != "stop" || k.Delta.Content != nil {
				t.Errorf("choice %d ends with %q and text", k.Index, *k.Finish)
			}
		}
	}
	for i := range n {
		if text[i] != "abc" || began[i] != 1 || ended[i] != 1 {
			t.Errorf("choice %d is %q, with %d roles and %d ends", i, text[i], began[i], ended[i])
		}
	}
	seeds := map[uint64]bool{}
	for i := range n {
		seeds[*e.request(t, i).Sampling.Seed] = true
	}
	if len(seeds) != n || !seeds[10] || !seeds[13] {
		t.Errorf("the choices have the seeds %v, want 10 to 13", seeds)
	}
}

// TestKeepAlive: while nothing comes, comments do, and the stream has begun.
func TestKeepAlive(t *testing.T) {
	e := &scripted{script: says("late"), gate: make(chan struct{})}
	o := options(t, e)
	o.PingInterval = 5 * time.Millisecond
	_, url := serve(t, o)
	res, err := http.Post(url+chatPath, "application/json", strings.NewReader(chatWith(`"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	var got string
	for strings.Count(got, ": ping\n\n") < 3 { // the header was sent, although there is no token
		n, err := res.Body.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(buf[:n])
	}
	close(e.gate)
	got += readAll(t, res.Body)
	all, done := events(t, got)
	if len(all) != 3 || !done || *all[1].Choices[0].Delta.Content != "late" {
		t.Errorf("got %q", got)
	}
	if role, ping := strings.Index(got, `"role"`), strings.Index(got, ": ping"); role > ping {
		t.Errorf("the role does not come first: %q", got)
	}
}
