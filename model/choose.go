package model

import "eckart/kernels"

// A stream that picks tokens itself (kernels.Chooser) spares a step the way of its logits to the host; and one that can be
// waited for in part (kernels.Marker) takes the next step before the host has seen what this one chose.

// chooser is what a batch has for that, beside inputs.how: what was picked, and which steps are under way.
type chooser struct {
	kernels.Chooser                // nil where the stream picks nothing
	marker          kernels.Marker // nil where it cannot be waited for in part
	picks           int            // samples that are picked on the device
	follows         bool           // an id stands for what the step before has chosen
	chosen          kernels.Mat    // (samples, 1)
	ids             [2][]int32     // chosen, on the host: steps take turns
	turn            int
	under           [2]underway // steps that were started and not finished
	count           int
}

// underway is a step that was started.
type underway struct {
	logits kernels.Mat
	ids    []int32
}

// newChooser allocates what it takes to choose up to n tokens.
func newChooser(a kernels.Arena, n int) (c chooser, err error) {
	c.ids = [2][]int32{make([]int32, n), make([]int32, n)}
	c.chosen, err = a.Alloc(n, 1, kernels.I32)
	return c, err
}

// on tells the chooser which stream it works on.
func (c *chooser) on(s kernels.Stream) {
	c.Chooser, _ = s.(kernels.Chooser)
	c.marker, _ = s.(kernels.Marker)
}

// Picks reports whether the stream of the batch picks tokens.
func (b *Batch) Picks() bool { return b.choose.Chooser != nil }

// Ahead reports whether a step may be started before the one before it has been finished, by sequences whose tokens that
// one picks.
func (b *Batch) Ahead() bool { return b.choose.Chooser != nil && b.choose.marker != nil }

// Pick has the token of the i-th sample of the batch picked on the device. It takes a batch that picks.
func (b *Batch) Pick(i int, c kernels.Choice) {
	c.Put(b.how.host[i*kernels.ChoiceWords:])
	b.choose.picks++
}

// Start brings the batch to the device and asks for its step, which Finish waits for. Then the batch may be filled again;
// but a second step is started before Finish only where Ahead says so.
func (d *Decoder) Start(b *Batch) {
	c := &b.choose
	if c.count > 0 {
		if c.count > 1 || !b.Ahead() {
			panic("BUG: a step too many is under way")
		}
		c.marker.Mark()
	}
	u := &c.under[c.count]
	c.count++
	samples := len(b.samples.host)
	if p := b.program(); p != nil {
		b.pad(p.rows)
		b.upload()
		p.run.Run()
		u.logits = p.logits.Slice(0, samples)
	} else {
		b.upload()
		u.logits = d.step(b, c.follows, c.picks > 0)
	}
	u.ids = nil
	if c.picks > 0 {
		u.ids = c.ids[c.turn][:samples]
		c.turn = 1 - c.turn
		b.pass.Download(kernels.Int32Bytes(u.ids), c.chosen.Slice(0, samples))
	}
}

// Finish waits for the oldest step that was started. It returns the logits (samples, vocab) of the rows that asked for
// them, in the order they were added, valid until the next Start; and, if tokens were picked on the device, what was
// picked for each sample, -1 for none, valid until the next Start but one.
func (d *Decoder) Finish(b *Batch) (logits kernels.Mat, picked []int32, err error) {
	c := &b.choose
	u := c.under[0]
	c.under[0] = c.under[1]
	c.count--
	if c.count > 0 {
		err = c.marker.Await()
	} else {
		err = b.pass.Sync()
	}
	return u.logits, u.ids, err
}

// step asks for the verbs of a step and, with follow and choose, for those that bring in the tokens that the step before
// has picked, and pick tokens.
func (d *Decoder) step(b *Batch, follow, choose bool) kernels.Mat {
	c := &b.choose
	if follow {
		c.Follow(b.ids.mat, c.chosen)
	}
	logits := d.forward(b)
	if choose {
		c.Choose(c.chosen.Slice(0, logits.Rows), logits, b.how.mat)
	}
	return logits
}
