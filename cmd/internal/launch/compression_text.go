package launch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"eckart"
	"eckart/model/compress"
	"eckart/model/tokenizer"
)

// texts reads, or has the model write, what is learned from and compared on.
func (c *compression) texts(ctx context.Context, window int) error {
	f := c.flags
	learn := f.Windows
	if learn == 0 {
		learn = defaultWindows
	}
	if f.Calibration == compress.FromNone {
		learn = 0
	}
	verify := (verifyTokens + window - 2) / (window - 1)
	var err error
	switch f.Verify {
	case "":
	case compress.FromNone:
		verify = 0
	default: // a text of its own
		if c.verify, err = c.read("verify", f.Verify, window, verify); err != nil {
			return err
		}
		verify = 0
	}
	if learn+verify == 0 {
		return nil
	}
	var all [][]int32
	switch f.Calibration {
	case "", compress.FromSelf, compress.FromNone: // without calibration too, there must be some text to compare on
		all, err = c.write(ctx, window, learn+verify)
	default:
		c.source = compress.FromFile
		all, err = c.read("calibration", f.Calibration, window, learn+verify)
	}
	if err != nil {
		return err
	}
	if learn > 0 && len(all) <= verify {
		return fmt.Errorf("read --calibration: %s fills %d windows of %d tokens, and %d of them are kept to compare on; give more text, or --verify FILE", f.Calibration, len(all), window, verify)
	}
	c.learn = all[:len(all)-verify]
	if verify > 0 {
		c.verify = all[len(all)-verify:]
	}
	return nil
}

// read returns up to n windows of a text file.
func (c *compression) read(flag, file string, window, n int) ([][]int32, error) {
	text, err := ReadText(flag, file, os.Stdin)
	if err != nil {
		return nil, err
	}
	all, tokens, err := c.windows(text, window)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("read --%s: %s has %d tokens, which do not fill a window of %d", flag, file, tokens, window)
	}
	return all[:min(n, len(all))], err
}

// windows cuts a text into whole windows.
func (c *compression) windows(text string, window int) (all [][]int32, tokens int, err error) {
	t, err := c.model.Tokenizer()
	if err != nil {
		return nil, 0, err
	}
	ids := t.Encode(text, tokenizer.EncodeOptions{})
	for at := 0; at+window <= len(ids); at += window {
		all = append(all, ids[at:at+window])
	}
	return all, len(ids), nil
}

// writingSeed is that of the text that models write for their calibration: the same model writes the same.
const writingSeed = 1

// write returns n windows that the model writes, or wrote for an earlier run. A model is too large to write where it does not
// fit into free memory as a whole, uncompressed, with a context of a window for every sequence that it writes at once: then
// the windows are of the project's own text.
func (c *compression) write(ctx context.Context, window, n int) ([][]int32, error) {
	defer c.took("write")()
	c.source = compress.FromSelf
	o := *c.options
	o.Compress, o.Progress = nil, nil
	o.Sizing = writingSize(o.CacheType, window, n)
	var large *FitError
	if _, err := c.model.Plan(o.Sizing, c.free); errors.As(err, &large) {
		c.source = compress.FromProject
		return c.projectText(window, n)
	}
	template := ""
	if o.Template != "" {
		text, err := ReadText("chat-template", o.Template, os.Stdin)
		if err != nil {
			return nil, err
		}
		template = text
	}
	key := compress.Key(c.digest, nil, compress.KindText, window, writingSeed, o.CacheType, c.options.Activations, c.model.tables(), template)
	var windows [][]int32
	if ok, err := c.store.Recall(compress.KindText, key, &windows); err != nil || ok && len(windows) >= n {
		return windows[:min(n, len(windows))], err // a window does not depend on how many there are
	}
	windows, err := WriteWindows(ctx, c.model, o, window, n, writingSeed, func(done, total int) { c.progress("writing a text to learn from", done, total) })
	if err == nil {
		c.keep(compress.KindText, key, windows)
	}
	return windows, err
}

// tables says how the embedding and the head are rounded before all else.
func (m *Model) tables() string {
	if m.rounded == nil {
		return ""
	}
	return roundingName(m.how.Tables)
}

// projectText returns n windows of the documentation and source of this project, mixed, so that those to compare on are of the
// kinds that are learned from. For a model they are a text like any other.
func (c *compression) projectText(window, n int) ([][]int32, error) {
	text, err := eckart.Text()
	if err != nil {
		return nil, err
	}
	all, tokens, err := c.windows(text, window)
	if err != nil {
		return nil, err
	}
	if len(all) < n {
		return nil, fmt.Errorf("the model does not fit into memory to write a text to learn from, and the project's own has %d tokens, too few for %d windows of %d: give --calibration FILE", tokens, n, window)
	}
	rand.New(rand.NewPCG(writingSeed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n], nil
}

// took returns a function that adds the time since took to that of a stage.
func (c *compression) took(stage string) func() {
	start := time.Now()
	return func() { c.seconds[stage] += time.Since(start).Seconds() }
}
