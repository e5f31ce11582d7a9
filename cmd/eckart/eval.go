package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/internal/divergence"
	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/model/tokenizer"
)

// evalCommand is `eckart eval`.
type evalCommand struct {
	launch.ModelFlags
	launch.CompressFlags
	Text    string `required:"" placeholder:"FILE" help:"Text to score, in UTF-8; - reads standard input."`
	Against string `placeholder:"MODEL" help:"Compare with this model too: how far the predictions lie apart at each token. It is loaded as it is; the flags that say how numbers are kept are for the other one. demo is the one that is built in."`
	Window  int    `default:"512" placeholder:"N" help:"Tokens of a window. Windows do not overlap, the first token of each is not scored, and a last one that is shorter is left out. Default: 512."`
	Windows int    `placeholder:"N" help:"Score only the first N windows. Default: all."`
	Threads int    `placeholder:"N" help:"Processor threads. Default: the cores that this process may use."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Help says more than the line in the list of commands.
func (evalCommand) Help() string {
	return `Prints the perplexity of the model on the text: exp of the mean negative log-probability of the tokens. No special token is added, and none is read out of the text.

With --against, both models score the text, in turns, and both are in memory. KL is the divergence KL(against || model) of what they predict for a token, in nats; top-1 is the share of tokens for which both find the same one most likely. ` + "`eckart eval MODEL --quantize int4 --against MODEL --text FILE` shows what rounding costs."
}

// An evaluation is what `eckart eval --json` prints.
type evaluation struct {
	Model         string  `json:"model"`
	Perplexity    float64 `json:"perplexity"`
	StandardError float64 `json:"standard_error"` // of the perplexity
	Tokens        int     `json:"tokens"`         // scored
	Windows       int     `json:"windows"`
	Window        int     `json:"window"` // tokens
	CacheType     string  `json:"cache_type"`
	Device        string  `json:"device"`
	Seconds       float64 `json:"seconds"`           // without loading
	TokensPerSec  float64 `json:"tokens_per_second"` // of the text
	*Comparison           // nil without --against
}

// A Comparison is what --against adds.
type Comparison struct {
	Against           string  `json:"against"`
	AgainstPerplexity float64 `json:"against_perplexity"`
	AgainstError      float64 `json:"against_standard_error"`
	// KL(against || model) in nats, over the tokens scored
	KLMean float64 `json:"kl_mean"`
	KLP50  float64 `json:"kl_p50"`
	KLP90  float64 `json:"kl_p90"`
	KLP99  float64 `json:"kl_p99"`
	KLMax  float64 `json:"kl_max"`
	Top1   float64 `json:"top1"` // share of tokens for which both find the same one most likely
}

// Run scores the text.
func (c *evalCommand) Run(ctx context.Context, env command.Env) error {
	o, err := c.options(env)
	if err != nil {
		return err
	}
	m, err := c.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	var against *launch.Model
	if c.Against != "" {
		if against, err = c.openAgainst(m); err != nil {
			return err
		}
		defer against.Close()
		o.Sizing = compareSizing(c.Window, m.Config.Vocab, o.CacheType)
	}
	if most := m.Config.MaxPositions; c.Window > most {
		return &command.UsageError{Err: fmt.Errorf("--window %d is more than the %d positions that the model was trained for", c.Window, most)}
	}
	text, err := launch.ReadText("text", c.Text, env.Stdin)
	if err != nil {
		return err
	}
	// What is wrong with the text should not wait for the weights.
	ids, err := c.encode(text, m, against)
	if err != nil {
		return err
	}
	i, err := start(ctx, m, o)
	if err != nil {
		return err
	}
	var e evaluation
	if against == nil {
		e, err = c.evaluate(ctx, env.Stderr, i, ids)
	} else {
		e, err = c.compare(ctx, env.Stderr, i, against, o, ids)
	}
	if err := errors.Join(err, i.Close()); err != nil {
		return err
	}
	if c.JSON {
		return command.WriteJSON(env.Stdout, e)
	}
	return e.print(env.Stdout)
}

// start brings a model up for scoring.
func start(ctx context.Context, m *launch.Model, o launch.Options) (*launch.Instance, error) {
	i, err := launch.Start(ctx, m, o)
	var fit *launch.FitError
	if errors.As(err, &fit) {
		fit.Advice = nil // of it, nothing is a flag here
	}
	return i, err
}

// openAgainst opens the model of --against, which must predict the tokens that m does.
func (c *evalCommand) openAgainst(m *launch.Model) (*launch.Model, error) {
	path := c.Against
	if path == demoModel {
		path = ""
	}
	against, err := launch.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open --against: %w", err)
	}
	switch a, b := against.Config, m.Config; {
	case a.Vocab != b.Vocab:
		err = fmt.Errorf("--against %s has a vocabulary of %d tokens and the model one of %d: only models that share one can be compared",
			c.Against, a.Vocab, b.Vocab)
	case c.Window > a.MaxPositions:
		err = &command.UsageError{Err: fmt.Errorf("--window %d is more than the %d positions that --against %s was trained for", c.Window, a.MaxPositions, c.Against)}
	default:
		return against, nil
	}
	return nil, errors.Join(err, against.Close())
}

// options checks the flags.
func (c *evalCommand) options(env command.Env) (launch.Options, error) {
	o, err := c.ModelOptions()
	if err == nil {
		err = c.Apply(&o, &c.ModelFlags)
	}
	if err != nil {
		return o, err
	}
	if c.Window < 2 {
		return o, &command.UsageError{Err: fmt.Errorf("--window must be at least 2, got %d", c.Window)}
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"window", c.Window}, {"windows", c.Windows}, {"threads", c.Threads}} {
		if err := launch.CheckCount(n.flag, n.value); err != nil {
			return o, err
		}
	}
	o.Sizing, o.Threads, o.Progress = scoreSizing(c.Window, o.CacheType), c.Threads, launch.Terminal(env.Stderr)
	return o, nil
}

// encode returns the ids of the windows of text to score. Both models must have the same ones.
func (c *evalCommand) encode(text string, m, against *launch.Model) ([]int32, error) {
	t, err := m.Tokenizer()
	if err != nil {
		return nil, err
	}
	ids := t.Encode(text, tokenizer.EncodeOptions{})
	if against != nil {
		if t, err = against.Tokenizer(); err != nil {
			return nil, fmt.Errorf("open --against: %w", err)
		}
		if other := t.Encode(text, tokenizer.EncodeOptions{}); !slices.Equal(ids, other) {
			at := 0
			for at < min(len(ids), len(other)) && ids[at] == other[at] {
				at++
			}
			return nil, fmt.Errorf("the tokenizer of --against %s makes other tokens of --text, from token %d on: only models that share one can be compared",
				c.Against, at+1)
		}
	}
	n := len(ids) / c.Window
	if c.Windows > 0 {
		n = min(n, c.Windows)
	}
	if n == 0 {
		return nil, fmt.Errorf("score --text: it has %d tokens, which do not fill one --window of %d", len(ids), c.Window)
	}
	return ids[:n*c.Window], nil
}

// evaluate scores windows with the model that i is.
func (c *evalCommand) evaluate(ctx context.Context, stderr io.Writer, i *launch.Instance, ids []int32) (evaluation, error) {
	var sum divergence.Score
	seconds, err := c.measure(ctx, stderr, ids, func(ctx context.Context, bar *scoreBar) error {
		var err error
		sum, err = newScorer(i, c.Window).score(ctx, ids, func(done int, sum divergence.Score) {
			bar.update(done, fmt.Sprintf("perplexity %.4f", sum.Perplexity()))
		})
		return err
	})
	return c.evaluation(i, sum, seconds), err
}

// compare scores windows with the model that i is and with against, which it brings up beside it.
func (c *evalCommand) compare(ctx context.Context, stderr io.Writer, i *launch.Instance, against *launch.Model, o launch.Options, ids []int32) (evaluation, error) {
	o.Sizing.CacheType, o.Activations = kernels.F16, cpu.ActivationsAuto
	o.Compress = nil // what is compared with stays as it is
	j, err := start(ctx, against, o)
	if err != nil {
		return evaluation{}, fmt.Errorf("load --against beside the model: %w", err)
	}
	var meter *divergence.Meter
	seconds, err := c.measure(ctx, stderr, ids, func(ctx context.Context, bar *scoreBar) error {
		var err error
		meter, err = newComparer(newScorer(i, c.Window), newScorer(j, c.Window)).compare(ctx, ids, func(done int, m *divergence.Meter) {
			reference, model := m.Scores()
			bar.update(done, fmt.Sprintf("perplexity %.4f against %.4f, KL %.5f", model.Perplexity(), reference.Perplexity(), m.Mean()))
		})
		return err
	})
	if err := errors.Join(err, j.Close()); err != nil {
		return evaluation{}, err
	}
	r := meter.Result()
	e := c.evaluation(i, r.Model, seconds)
	e.Comparison = &Comparison{
		Against: against.Name, AgainstPerplexity: r.Reference.Perplexity(), AgainstError: r.Reference.StandardError(),
		KLMean: r.KLMean, KLP50: r.KLP50, KLP90: r.KLP90, KLP99: r.KLP99, KLMax: r.KLMax, Top1: r.Top1,
	}
	return e, nil
}

// measure has run score ids until a signal, with a bar on a terminal, and returns the seconds that it took.
func (c *evalCommand) measure(ctx context.Context, stderr io.Writer, ids []int32, run func(context.Context, *scoreBar) error) (float64, error) {
	// A signal before this ends the process, as nothing is there yet that would be lost.
	ctx, stop := command.UntilSignal(ctx)
	defer stop()
	bar := scoreBar{w: launch.Terminal(stderr), total: len(ids) / c.Window, start: time.Now()}
	err := run(ctx, &bar)
	bar.clear()
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted after %d of %d windows", bar.done, bar.total)
	}
	return time.Since(bar.start).Seconds(), err
}

// evaluation returns what there is to say of the model that i is.
func (c *evalCommand) evaluation(i *launch.Instance, sum divergence.Score, seconds float64) evaluation {
	n := sum.Tokens / (c.Window - 1)
	return evaluation{
		Model: i.Model.Name, Perplexity: sum.Perplexity(), StandardError: sum.StandardError(),
		Tokens: sum.Tokens, Windows: n, Window: c.Window, CacheType: i.Plan.CacheType.String(), Device: i.Device.Name(),
		Seconds: seconds, TokensPerSec: float64(n*c.Window) / seconds,
	}
}

// print writes the evaluation for people.
func (e *evaluation) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "perplexity %.4f +/- %.4f over %d tokens (%d windows of %d), in %.1f s, %.0f tokens a second\n",
		e.Perplexity, e.StandardError, e.Tokens, e.Windows, e.Window, e.Seconds, e.TokensPerSec)
	k := e.Comparison
	if err != nil || k == nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "against %s: KL(against || model) in nats, and how often both find the same token most likely\n\n", k.Against); err != nil {
		return err
	}
	figure := func(v float64) string { return fmt.Sprintf("%.5f", v) }
	return command.Table{
		{"", "perplexity", "KL mean", "KL 50 %", "KL 90 %", "KL 99 %", "KL max", "top-1"},
		{
			"model", fmt.Sprintf("%.4f", e.Perplexity), figure(k.KLMean), figure(k.KLP50), figure(k.KLP90), figure(k.KLP99), figure(k.KLMax),
			fmt.Sprintf("%.2f %%", 100*k.Top1),
		},
		{"against", fmt.Sprintf("%.4f", k.AgainstPerplexity)},
	}.Text(w)
}

// A scoreBar is one line of a terminal that shows how far scoring has come.
type scoreBar struct {
	w           io.Writer // nil for no line
	done, total int       // windows
	start       time.Time
}

// update draws the line for done windows and what came of them.
func (b *scoreBar) update(done int, status string) {
	b.done = done
	if b.w != nil {
		fmt.Fprintf(b.w, "\r%s\x1b[K", scoreLine(done, b.total, status, time.Since(b.start)))
	}
}

// scoreLine returns the line for done of total windows after so long.
func scoreLine(done, total int, status string, took time.Duration) string {
	left := (took / time.Duration(done) * time.Duration(total-done)).Round(time.Second)
	return fmt.Sprintf("[%d of %d] %s, %v left", done, total, status, left)
}

func (b *scoreBar) clear() {
	if b.w != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
