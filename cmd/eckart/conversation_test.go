package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// A fakeServer answers each chat with the next of its answers and keeps what it was asked.
type fakeServer struct {
	t       *testing.T
	answers []func(w http.ResponseWriter)
	asked   [][]message
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Messages []message
		Seed     uint64
		Stream   bool
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || !body.Stream || body.Seed != 9 {
		s.t.Errorf("body %+v, error %v, want a stream with seed 9", body, err)
	}
	if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer key" {
		s.t.Errorf("%s with %q", r.URL.Path, r.Header.Get("Authorization"))
	}
	s.asked = append(s.asked, body.Messages)
	s.answers[len(s.asked)-1](w)
}

// reply streams pieces of text, then how many there were.
func reply(pieces ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for _, p := range pieces {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", p)
		}
		fmt.Fprintf(w, ": a comment\n\ndata: {\"choices\":[],\"usage\":{\"completion_tokens\":%d}}\n\ndata: [DONE]\n\n", len(pieces))
	}
}

func refuse(w http.ResponseWriter) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprint(w, `{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":"x"}}`)
}

func cut(w http.ResponseWriter) {
	fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n")
}

func failLate(w http.ResponseWriter) {
	cut(w)
	fmt.Fprint(w, "data: {\"error\":{\"message\":\"the device failed\"}}\n\n")
}

// TestConversation holds what is sent, what is shown, and what ends a conversation.
func TestConversation(t *testing.T) {
	sys, one, two := message{"system", "be brief"}, message{"user", "one"}, message{"user", "two"}
	for _, c := range []struct {
		name     string
		terminal bool
		in       string
		answers  []func(http.ResponseWriter)
		asked    [][]message
		out      string
		err      string
	}{
		{
			name: "history", in: "one\n\n  two  \n", answers: []func(http.ResponseWriter){reply("1", "!"), reply("2")},
			asked: [][]message{{sys, one}, {sys, one, {"assistant", "1!"}, two}}, out: "1!\n2\n",
		},
		{
			name: "reset", in: "one\n/reset\ntwo\n/exit\nthree\n", answers: []func(http.ResponseWriter){reply("1"), reply("2")},
			asked: [][]message{{sys, one}, {sys, two}}, out: "1\n2\n",
		},
		{
			name: "refused, and someone can mend it", terminal: true, in: "one\ntwo\n", answers: []func(http.ResponseWriter){refuse, reply("2")},
			asked: [][]message{{sys, one}, {sys, two}}, out: "2\n",
		},
		{
			name: "refused, with nobody there", in: "one\ntwo\n", answers: []func(http.ResponseWriter){refuse},
			asked: [][]message{{sys, one}}, err: "too long",
		},
		{
			name: "cut off", in: "one\n", answers: []func(http.ResponseWriter){cut},
			asked: [][]message{{sys, one}}, out: "half\n", err: "in the middle",
		},
		{
			name: "failed in the middle", in: "one\n", answers: []func(http.ResponseWriter){failLate},
			asked: [][]message{{sys, one}}, out: "half\n", err: "the device failed",
		},
		{name: "no input", in: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := &fakeServer{t: t, answers: c.answers}
			server := httptest.NewServer(fake)
			defer server.Close()
			var out, remarks bytes.Buffer
			seed := uint64(9)
			talk := &conversation{
				client: client{url: server.URL, key: "key", model: "m", seed: &seed}, system: sys.Content,
				terminal: c.terminal, out: &out, remarks: &remarks,
			}
			err := talk.run(t.Context(), strings.NewReader(c.in))
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if out.String() != c.out {
				t.Errorf("shows %q, want %q", out.String(), c.out)
			}
			if !slices.EqualFunc(fake.asked, c.asked, slices.Equal) {
				t.Errorf("sends %v, want %v", fake.asked, c.asked)
			}
			if c.terminal != strings.Contains(remarks.String(), "> ") {
				t.Errorf("remarks %q", remarks.String())
			}
		})
	}
}
