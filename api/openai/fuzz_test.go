package openai_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"eckart/api/openai"
)

func newServerError(o openai.Options) (*openai.Server, error) { return openai.New(o) }

// FuzzChatBody: no body makes the server panic, answer with a 5xx, or answer with something that is not JSON or a stream.
func FuzzChatBody(f *testing.F) {
	for _, seed := range []string{
		chatWith(""), chatWith(`"stream":true,"n":2,"logprobs":true,"top_logprobs":2,"stream_options":{"include_usage":true}`),
		chatWith(`"stop":["a","\u00e9"],"logit_bias":{"1":-100},"stop_token_ids":[1],"seed":-1,"temperature":0.5,"top_p":1e-9`),
		messages(`[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]},{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"1","content":"<|im_end|>"}]`),
		chatWith(`"chat_template_kwargs":{"a":[1,{"b":null}]},"reasoning_effort":"low","response_format":{"type":"text"},"tools":[],"user":"x"`),
		`{"model":"m","messages":[{"role":"user","content":"\ud800\ufdd0"}],"max_tokens":1e400}`, `{"a":1,"a":2}`, `[[[[`, "{\"\xff\":1}", ``,
	} {
		f.Add([]byte(seed))
	}
	o := options(f, &scripted{script: says("He", "llo")})
	o.MaxChoices = 4
	s := newServer(f, o)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{chatPath, "/apply-template", completionPath, "/tokenize"} {
			w := post(s, path, string(body))
			switch {
			case w.Code >= 500 || w.Code < 200:
				t.Fatalf("%s %q: %d %s", path, body, w.Code, w.Body)
			case w.Code == http.StatusOK && strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream"):
				if _, done := events(t, w.Body.String()); !done {
					t.Fatalf("%s %q: a stream without an end: %s", path, body, w.Body)
				}
			case !json.Valid(w.Body.Bytes()):
				t.Fatalf("%s %q: %d with a body that is not JSON: %s", path, body, w.Code, w.Body)
			case w.Code != http.StatusOK:
				wantError(t, w.Code, w.Body.Bytes(), w.Code, codeOf(w.Body.Bytes()), "")
			}
		}
	})
}

func codeOf(body []byte) string {
	var e wireError
	_ = json.Unmarshal(body, &e)
	return e.Error.Code
}
