package openai

import (
	"maps"
	"slices"
	"strings"

	"eckart/model"
	"eckart/runtime"
)

// Caps on the lists and strings of a request, each far above use and small enough that a request at every cap at once
// stays cheap (the orders of magnitude are vLLM's).
const (
	maxMessages   = 4096
	maxPrompts    = 1000 // sequences of one request: prompts times n
	maxStops      = 16
	maxStopBytes  = 1024
	maxStopIDs    = 128
	maxBias       = 1024
	maxTools      = 256
	maxTop        = 20 // top_logprobs of a chat
	maxLegacyTop  = 5  // logprobs of a completion
	maxSaltBytes  = 256
	maxModelBytes = 256
)

// Defaults are an operator's choices (flags) for what a request leaves open; nil means no choice. They stand above the
// model's generation_config.json and below the request.
type Defaults struct {
	Temperature       *float32
	TopP              *float32
	TopK              *int
	MinP              *float32
	RepetitionPenalty *float32
	MaxTokens         *int // of a chat or completion that names none
}

// defaultCompletionTokens is max_tokens of /v1/completions when nobody chose, as with OpenAI.
const defaultCompletionTokens = 16

// A request is a decoded and validated body of /v1/chat/completions, /v1/completions or /apply-template.
type request struct {
	limits
	chat bool

	model  string
	n      int
	stream bool
	usage  bool // stream_options.include_usage

	sampling    runtime.Sampling
	maxTokens   int // 0: not named
	minTokens   int
	stop        []string
	stopIDs     []int32
	includeStop bool
	ignoreEOS   bool
	keepSpecial bool
	addSpecial  *bool
	salt        string
	logprobs    int // alternatives per token, -1 for none at all

	// chat
	messages      value
	tools         value
	kwargs        value
	effort        string
	addPrompt     *bool
	continueFinal bool

	// completions
	prompt value
	echo   bool

	// what finish needs to compare
	given         map[string]value
	wantLogprobs  bool
	topLogprobs   int
	bestOf        int
	completionMax int // max_completion_tokens
}

// limits are the server's numbers that a request is validated against.
type limits struct {
	vocab      int
	maxChoices int
	allowTools bool // /apply-template renders tools; generation does not parse calls
}

// decode reads a body by the table of its endpoint. base is the sampling of a request that chooses nothing.
func decode(body []byte, chat bool, base runtime.Sampling, l limits) (*request, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	top := value{text: trimBlank(body)}
	if top.kind() != '{' {
		return nil, badBody("the body must be a JSON object, got %s", clip(string(top.text)))
	}
	table := completionFields
	if chat {
		table = chatFields
	}
	q := &request{limits: l, chat: chat, n: 1, sampling: base, logprobs: -1, topLogprobs: -1, given: map[string]value{}}
	for name, v := range top.members() {
		f, known := table[name]
		if !known {
			f, known = commonFields[name]
		}
		switch {
		case !known:
			return nil, invalid(clip(printable(name)), "unknown_parameter", "unknown field %q", clip(printable(name)))
		case v.isNull() || f.ignored != "":
			continue
		case f.refused != "":
			return nil, unsupported(name, f.refused)
		}
		if err := f.set(q, v); err != nil {
			return nil, err
		}
		q.given[name] = v
	}
	return q, q.finish()
}

func trimBlank(text []byte) []byte {
	at := blank(text, 0)
	return text[at:skip(text, at)]
}

// finish checks the fields against one another.
func (q *request) finish() error {
	if q.completionMax > 0 {
		if q.maxTokens > 0 && q.maxTokens != q.completionMax {
			return invalid("max_completion_tokens", "invalid_value", "max_completion_tokens is %d and max_tokens, its older name, is %d: send one",
				q.completionMax, q.maxTokens)
		}
		q.maxTokens = q.completionMax
	}
	if q.maxTokens > 0 && q.minTokens > q.maxTokens {
		return invalid("min_tokens", "invalid_value", "min_tokens is %d, more than max_tokens, which is %d", q.minTokens, q.maxTokens)
	}
	if _, ok := q.given["stream_options"]; ok && !q.stream {
		return invalid("stream_options", "invalid_value", "stream_options needs stream to be true")
	}
	if q.topLogprobs >= 0 && !q.wantLogprobs {
		return invalid("top_logprobs", "invalid_value", "top_logprobs needs logprobs to be true")
	}
	if q.wantLogprobs {
		q.logprobs = max(0, q.topLogprobs)
	}
	if _, ok := q.given["best_of"]; ok && q.bestOf != q.n {
		if q.bestOf < q.n {
			return invalid("best_of", "invalid_value", "best_of is %d, less than n, which is %d", q.bestOf, q.n)
		}
		return unsupported("best_of", "best_of above n is not supported: ask for n choices and pick one")
	}
	if q.echo && q.logprobs >= 0 {
		return unsupported("echo", "echo with logprobs is not supported: log-probabilities of prompt tokens are not computed")
	}
	if q.continueFinal && q.addPrompt != nil && *q.addPrompt {
		return invalid("continue_final_message", "invalid_value", "continue_final_message and add_generation_prompt exclude each other")
	}
	need := "prompt"
	if q.chat {
		need = "messages"
	}
	if _, ok := q.given[need]; !ok {
		return invalid(need, "missing_required_parameter", "%s is missing", need)
	}
	return nil
}

// baseSampling is what a request that chooses nothing samples with: flags over generation_config.json over the engine.
func baseSampling(g model.Generation, d Defaults) runtime.Sampling {
	s := runtime.DefaultSampling()
	or := func(to *float32, from *float32) {
		if from != nil {
			*to = *from
		}
	}
	or(&s.Temperature, g.Temperature)
	or(&s.TopP, g.TopP)
	or(&s.MinP, g.MinP)
	or(&s.RepetitionPenalty, g.RepetitionPenalty)
	if g.TopK != nil {
		s.TopK = max(0, *g.TopK)
	}
	if g.DoSample != nil && !*g.DoSample {
		s.Temperature = 0
	}
	or(&s.Temperature, d.Temperature)
	or(&s.TopP, d.TopP)
	or(&s.MinP, d.MinP)
	or(&s.RepetitionPenalty, d.RepetitionPenalty)
	if d.TopK != nil {
		s.TopK = max(0, *d.TopK)
	}
	return s
}

// sequences makes the engine's requests: one per prompt and choice, prompts outermost, so that the wire's index is the
// position. Choice i of a seeded request is seeded with seed + i: equal seeds would make equal choices.
func (q *request) sequences(id string, prompts [][]int32, maxTokens []int) []sequence {
	all := make([]sequence, 0, len(prompts)*q.n)
	for p, prompt := range prompts {
		for i := range q.n {
			r := runtime.Request{
				ID: id, Prompt: prompt, Sampling: q.sampling,
				MaxTokens: maxTokens[p], MinTokens: q.minTokens, Stop: q.stop, IncludeStop: q.includeStop,
				StopIDs: q.stopIDs, IgnoreEOS: q.ignoreEOS, Logprobs: q.logprobs, KeepSpecial: q.keepSpecial, Salt: q.salt,
			}
			if q.sampling.Seed != nil {
				seed := *q.sampling.Seed + uint64(i)
				r.Sampling.Seed = &seed
			}
			all = append(all, sequence{prompt: p, lead: i == 0, Request: r})
		}
	}
	return all
}

// room checks a prompt of so many tokens against the context and returns how many tokens may follow it. chosen is what
// the request asks for, least its min_tokens, usual what is given to one that asks for nothing (0: whatever fits).
func (s *Server) room(param string, prompt, chosen, least, usual int) (int, error) {
	left := s.o.Context - prompt
	if left < 1 || max(chosen, least) > left {
		overflow := &runtime.ContextError{Prompt: prompt, MaxTokens: max(chosen, least), Context: s.o.Context}
		return 0, invalid(param, "context_length_exceeded", "%s", overflowMessage(overflow))
	}
	switch {
	case chosen > 0:
		return chosen, nil
	case usual > 0:
		return min(max(usual, least), left), nil
	}
	return left, nil
}

// unsupported refuses a feature that does not exist here.
func unsupported(param, sentence string) error {
	return invalid(param, "unsupported_parameter", "%s", sentence)
}

// fieldNames lists every field that an endpoint knows, sorted: the documentation is tested against it.
func fieldNames() []string {
	all := map[string]bool{}
	for _, table := range []map[string]field{commonFields, chatFields, completionFields} {
		for name := range table {
			all[name] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), strings.Compare)
}
