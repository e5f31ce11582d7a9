package launch

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"eckart/kernels"
	"eckart/model/tokenizer"
	"eckart/model/tokenizer/chat"
	"eckart/model/tokenizer/jinja"
	"eckart/runtime"
)

// WriteWindows has the model of m write n windows of the given number of tokens, at temperature 1, for a calibration that
// needs no text of others (Williams et al. 2024, "Self-calibration for language model quantization and pruning"). Windows
// are filled by texts one behind another, each begun anew, the last one cut off. In every second window, if the model has
// a chat template, they are chats of which it writes both sides: the user's, after the template's opening of a user's turn
// (Xu et al. 2024, "Magpie"). Equal seeds give equal windows. progress, unless it is nil, hears how many are written.
//
// The whole model is brought up for it, and closed again; one that does not fit is a *FitError.
func WriteWindows(ctx context.Context, m *Model, o Options, window, n int, seed uint64, progress func(done, total int)) (_ [][]int32, err error) {
	o.Sizing = writingSize(o.CacheType, window, n)
	i, err := Start(ctx, m, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	a := newAuthor(i)
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()

	windows := make([][]int32, n)
	var next atomic.Int64
	var told sync.Mutex
	done := 0
	var all sync.WaitGroup
	for range i.Plan.Slots {
		all.Go(func() {
			for {
				w := int(next.Add(1)) - 1
				if w >= n {
					return
				}
				ids, err := a.window(ctx, window, rand.NewPCG(seed, uint64(w)), w%2 == 1)
				if err != nil {
					cancel(err)
					return
				}
				windows[w] = ids
				told.Lock()
				done++
				if progress != nil {
					progress(done, n)
				}
				told.Unlock()
			}
		})
	}
	all.Wait()
	failed := context.Cause(ctx)
	cancel(nil)
	if fault := <-ended; !errors.Is(fault, context.Canceled) && failed == nil {
		failed = fault
	}
	return windows, failed
}

// writingSize returns what writing n windows at once takes.
func writingSize(cache kernels.DType, window, n int) Sizing {
	return Sizing{Context: window, Slots: min(n, defaultSlots), CacheType: cache}
}

// An author has a model write.
type author struct {
	engine *runtime.Engine
	ends   []int32 // of a text or a turn
	start  []int32 // of a text
	// What is before and after the first message of a chat, up to the reply; nil where there is no template for it.
	opening, turn []int32
}

func newAuthor(i *Instance) *author {
	a := &author{engine: i.Engine, ends: i.Model.EOS()}
	switch c := i.Model.Config; {
	case c.BOS >= 0:
		a.start = []int32{c.BOS}
	case len(a.ends) > 0:
		a.start = a.ends[:1] // what separates texts where nothing begins them
	default:
		a.start = []int32{0}
	}
	if i.Template == nil {
		return a
	}
	// The template is given a message that no template contains, to see what it puts around messages.
	const message = "\ufdd0"
	user := jinja.NewMap()
	user.Set("role", jinja.String("user"))
	user.Set("content", jinja.String(message))
	text, err := i.Template.Render(chat.Input{Messages: jinja.List(user), AddGenerationPrompt: true, Fit: true})
	if err != nil {
		return a // it asks for more than a message: texts without turns will do
	}
	if before, after, ok := strings.Cut(text, message); ok && !strings.Contains(after, message) {
		o := tokenizer.EncodeOptions{ParseSpecial: true}
		a.opening, a.turn = i.Tokenizer.Encode(before, o), i.Tokenizer.Encode(after, o)
	}
	return a
}

// window returns a window of n tokens, of texts or of chats.
func (a *author) window(ctx context.Context, n int, random *rand.PCG, chats bool) ([]int32, error) {
	var ids []int32
	for len(ids) < n {
		var text []int32
		var err error
		if chats && len(a.opening) > 0 {
			text, err = a.chat(ctx, n-len(ids), random)
		} else {
			text, err = a.continued(ctx, a.start, n-len(ids), random)
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, text...)
	}
	return ids, nil
}

// chat returns at most n tokens of a message and its reply.
func (a *author) chat(ctx context.Context, n int, random *rand.PCG) ([]int32, error) {
	// A message takes a quarter of a chat at most, as requests are shorter than replies.
	text, err := a.continued(ctx, a.opening, min(n, len(a.opening)+max(1, n/4)), random)
	if err != nil {
		return nil, err
	}
	if last := len(text) - 1; last >= len(a.opening) && slices.Contains(a.ends, text[last]) {
		text = text[:last] // the turn brings it
	}
	return a.continued(ctx, append(text, a.turn...), n, random)
}

// continued returns prompt and what the model makes of it up to the end of the text: at most n tokens in all.
func (a *author) continued(ctx context.Context, prompt []int32, n int, random *rand.PCG) ([]int32, error) {
	if len(prompt) >= n {
		return prompt[:n:n], nil
	}
	ids := append(make([]int32, 0, n), prompt...)
	seed := random.Uint64()
	sampling := runtime.DefaultSampling()
	sampling.Seed = &seed
	for t, err := range a.engine.Generate(ctx, runtime.Request{Prompt: prompt, Sampling: sampling, MaxTokens: n - len(prompt), Logprobs: -1}) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, t.ID)
	}
	return ids, nil
}
