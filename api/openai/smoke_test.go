package openai_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"eckart/api/openai"
	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/kvcache"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/tokenizer"
	"eckart/runtime"
)

// tiny runs an engine over a real checkpoint of two layers and returns the options of a server for it. Its 320 tokens
// are one character each; it has no template.
func tiny(t testing.TB) (openai.Options, *runtime.Engine) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const context_, slots, rows, blockTokens, blocks = 256, 8, 64, 8, 128
	dev, err := cpu.Open(cpu.Options{Threads: 1})
	check(err)
	t.Cleanup(func() { check(dev.Close()) })
	c, err := checkpoint.Open("../../model/testdata/llama")
	check(err)
	defer c.Close()
	src, err := model.NewSource(c)
	check(err)
	l := model.Limits{Rows: rows, Seqs: slots, Samples: slots, Blocks: context_ / blockTokens, BlockTokens: blockTokens}
	fp, err := model.Measure(src, l)
	check(err)
	stream, err := dev.NewStream()
	check(err)
	arena := func(bytes int64) kernels.Arena {
		a, err := dev.NewArena(bytes)
		check(err)
		t.Cleanup(func() { check(a.Close()) })
		return a
	}
	d, err := model.Load(src, arena(fp.Weights), stream, nil)
	check(err)
	cache, err := kvcache.New(arena(kvcache.Bytes(fp.Specs, kernels.F16, blockTokens, blocks)), fp.Specs, kernels.F16, blockTokens, blocks)
	check(err)
	b, err := d.NewBatch(arena(fp.Workspace), stream, cache.Layer, l)
	check(err)
	text, err := os.ReadFile("testdata/tokenizer.json")
	check(err)
	tok, err := tokenizer.New(text)
	check(err)
	e, err := runtime.New(runtime.Options{
		Stream: stream, Decoder: d, Batch: b, Cache: cache, Tokenizer: tok,
		Context: context_, Slots: slots, StepTokens: rows, Queue: 16,
	})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return openai.Options{Engine: e, Tokenizer: tok, Model: "tiny", Context: e.Context(), Vocab: d.Config().Vocab}, e
}

// text of the tiny model's alphabet, from its token at.
func letters(at, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteRune(rune(0x4e00 + (at+i)%300))
	}
	return b.String()
}

// TestSmoke goes the whole way over loopback: a stream equals the answer in one piece, greedy and seeded, alone and
// beside others; clients that leave midway and a client of one piece that leaves give every block back.
func TestSmoke(t *testing.T) {
	o, e := tiny(t)
	_, url := serve(t, o)
	ask := func(ctx context.Context, fields string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+completionPath, strings.NewReader(`{"model":"tiny",`+fields+`}`))
		if err != nil {
			return nil, err
		}
		return http.DefaultClient.Do(r)
	}
	whole := func(fields string) string {
		res, err := ask(t.Context(), fields)
		if err != nil {
			t.Error(err)
			return ""
		}
		var answer struct {
			Choices []struct{ Text string }
		}
		if err := json.Unmarshal([]byte(readAll(t, res.Body)), &answer); err != nil || len(answer.Choices) == 0 {
			t.Errorf("%s: %d %v", fields, res.StatusCode, err)
			return ""
		}
		return answer.Choices[0].Text
	}
	streamed := func(fields string) string {
		res, err := ask(t.Context(), fields+`,"stream":true`)
		if err != nil {
			t.Error(err)
			return ""
		}
		all, done := events(t, readAll(t, res.Body))
		if !done {
			t.Errorf("%s: no [DONE]", fields)
		}
		text := ""
		for _, c := range all {
			text += c.Choices[0].Text
		}
		return text
	}
	idle := func() bool { s := e.Stats(); return s.Running == 0 && s.Waiting == 0 && s.BlocksUsed == 0 }

	request := func(i int) string {
		return fmt.Sprintf(`"prompt":%q,"max_tokens":24,"temperature":%d,"seed":%d`, letters(3*i, 20+i), i%2, i)
	}
	const clients = 12
	var alone [clients]string
	for i := range clients {
		if alone[i] = whole(request(i)); len([]rune(alone[i])) != 24 {
			t.Errorf("request %d gave %q, want 24 characters", i, alone[i])
		}
	}
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			if got := streamed(request(i)); got != alone[i] {
				t.Errorf("request %d beside others: %q, alone %q", i, got, alone[i])
			}
		})
	}
	// Two that leave: a stream after three events, an answer in one piece while it is generated.
	wait.Go(func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		res, err := ask(ctx, fmt.Sprintf(`"prompt":%q,"max_tokens":200,"stream":true`, letters(100, 30)))
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for range 6 {
			lines.Scan()
		}
	})
	wait.Go(func() {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			before := e.Stats().GeneratedTokens
			eventually(t, "it generates", func() bool { return e.Stats().GeneratedTokens > before+20 })
			cancel()
		}()
		res, err := ask(ctx, fmt.Sprintf(`"prompt":%q,"max_tokens":200`, letters(200, 30)))
		if err == nil {
			res.Body.Close() // it was faster than the one who left
		}
	})
	wait.Wait()
	eventually(t, "every block is back", idle)

	// A choice per seed from one computed prompt.
	res, err := ask(t.Context(), fmt.Sprintf(`"prompt":%q,"max_tokens":8,"n":3,"seed":5,"logprobs":2`, letters(50, 40)))
	if err != nil {
		t.Fatal(err)
	}
	m := object(t, res.StatusCode, []byte(readAll(t, res.Body)))
	if dig(t, m, "choices", 0, "text") == dig(t, m, "choices", 1, "text") || dig(t, m, "usage", "prompt_tokens") != 40. {
		t.Errorf("three choices: %v", m)
	}
	again := whole(fmt.Sprintf(`"prompt":%q,"max_tokens":8,"seed":6`, letters(50, 40)))
	if dig(t, m, "choices", 1, "text") != again {
		t.Errorf("choice 1 of seed 5 is %v, seed 6 gives %q", dig(t, m, "choices", 1, "text"), again)
	}
	eventually(t, "every block is back", idle)

	res, err = ask(t.Context(), fmt.Sprintf(`"prompt":%q,"max_tokens":300`, letters(0, 10)))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, res.StatusCode, []byte(readAll(t, res.Body)), 400, "context_length_exceeded", "holds 256 tokens: the prompt has 10 and max_tokens asks for 300 more")
}
