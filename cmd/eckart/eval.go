package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/model/tokenizer"
)

// evalCommand is `eckart eval`.
type evalCommand struct {
	launch.ModelFlags
	Text    string `required:"" placeholder:"FILE" help:"Text to score, in UTF-8; - reads standard input."`
	Window  int    `default:"512" placeholder:"N" help:"Tokens of a window. Windows do not overlap, the first token of each is not scored, and a last one that is shorter is left out. Default: 512."`
	Windows int    `placeholder:"N" help:"Score only the first N windows. Default: all."`
	Threads int    `placeholder:"N" help:"Processor threads. Default: the cores that this process may use."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Help says more than the line in the list of commands.
func (evalCommand) Help() string {
	return "Prints the perplexity of the model on the text: exp of the mean negative log-probability of the tokens. No special token is added, and none is read out of the text."
}

// maxText bounds --text: its tokens are held in memory.
const maxText = 256 << 20

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
	Seconds       float64 `json:"seconds"` // without loading
	TokensPerSec  float64 `json:"tokens_per_second"`
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
	if most := m.Config.MaxPositions; c.Window > most {
		return &command.UsageError{Err: fmt.Errorf("--window %d is more than the %d positions that the model was trained for", c.Window, most)}
	}
	text, err := readText(c.Text, env.Stdin)
	if err != nil {
		return err
	}
	i, err := launch.Start(m, o)
	var fit *launch.FitError
	if errors.As(err, &fit) {
		fit.Advice = nil // of it, nothing is a flag here
	}
	if err != nil {
		return err
	}
	// A signal before this ends the process, as nothing is there yet that would be lost.
	ctx, stop := command.UntilSignal(ctx)
	defer stop()
	e, err := c.evaluate(ctx, env.Stderr, i, text)
	if err := errors.Join(err, i.Close()); err != nil {
		return err
	}
	if c.JSON {
		return command.WriteJSON(env.Stdout, e)
	}
	_, err = fmt.Fprintf(env.Stdout, "perplexity %.4f +/- %.4f over %d tokens (%d windows of %d), in %.1f s, %.0f tokens a second\n",
		e.Perplexity, e.StandardError, e.Tokens, e.Windows, e.Window, e.Seconds, e.TokensPerSec)
	return err
}

// options checks the flags.
func (c *evalCommand) options(env command.Env) (launch.Options, error) {
	o, err := c.ModelOptions()
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

// readText reads the file called name, or standard input. Bytes that are not UTF-8 are refused: replaced, they would be
// scored as text that nobody wrote.
func readText(name string, stdin io.Reader) (string, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read --text: %w", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxText+1))
	if err != nil {
		return "", fmt.Errorf("read --text: %w", err)
	}
	if len(text) > maxText {
		return "", fmt.Errorf("read --text: %s has more than the %v that can be scored", name, launch.Bytes(maxText))
	}
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n == 1 {
			return "", fmt.Errorf("read --text: %s is not UTF-8: byte %d is 0x%02x", name, at, text[at])
		}
		at += n
	}
	return string(text), nil
}

// evaluate scores text with the model that i is.
func (c *evalCommand) evaluate(ctx context.Context, stderr io.Writer, i *launch.Instance, text string) (evaluation, error) {
	ids := i.Tokenizer.Encode(text, tokenizer.EncodeOptions{})
	windows := len(ids) / c.Window
	if c.Windows > 0 {
		windows = min(windows, c.Windows)
	}
	if windows == 0 {
		return evaluation{}, fmt.Errorf("score --text: it has %d tokens, which do not fill one --window of %d", len(ids), c.Window)
	}
	start := time.Now()
	bar := scoreBar{w: launch.Terminal(stderr), total: windows, start: start}
	sum, err := newScorer(i, c.Window).score(ctx, ids[:windows*c.Window], bar.update)
	bar.clear()
	seconds := time.Since(start).Seconds()
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted after %d of %d windows", sum.tokens/(c.Window-1), windows)
	}
	if err != nil {
		return evaluation{}, err
	}
	return evaluation{
		Model: i.Model.Name, Perplexity: sum.perplexity(), StandardError: sum.standardError(),
		Tokens: sum.tokens, Windows: windows, Window: c.Window, CacheType: i.Plan.CacheType.String(), Device: i.Device.Name(),
		Seconds: seconds, TokensPerSec: float64(windows*c.Window) / seconds,
	}, nil
}

// A scoreBar is one line of a terminal that shows how far scoring has come.
type scoreBar struct {
	w     io.Writer // nil for no line
	total int       // windows
	start time.Time
}

func (b *scoreBar) update(done int, sum score) {
	if b.w != nil {
		fmt.Fprintf(b.w, "\r%s\x1b[K", scoreLine(done, b.total, sum, time.Since(b.start)))
	}
}

// scoreLine returns the line for done of total windows after so long.
func scoreLine(done, total int, sum score, took time.Duration) string {
	left := (took / time.Duration(done) * time.Duration(total-done)).Round(time.Second)
	return fmt.Sprintf("[%d of %d] perplexity %.4f, %v left", done, total, sum.perplexity(), left)
}

func (b *scoreBar) clear() {
	if b.w != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
