package launch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"strings"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/report"
	"eckart/kernels"
	"eckart/model"
	"eckart/model/compress"
)

// calibrationWindow is the most tokens of a window that is learned from or compared on.
const calibrationWindow = 512

// Defaults of the calibration. verifyTokens are scored at least, in the fewest windows (the first token of each is not scored).
const (
	defaultWindows = 32
	verifyTokens   = 4000
)

// A compression is what the flags ask for, under way between the opening of a model and its loading. compression_text.go
// brings its texts, compression_known.go what is known of the model, compression_goal.go the plan.
type compression struct {
	flags   *CompressFlags
	model   *Model
	device  kernels.Device
	options *Options
	asked   Sizing // before anything was chosen of what it leaves open
	walker  *model.Walker
	store   compress.Store
	bar     *stageBar
	seconds map[string]float64 // that stages took

	met    bool // the model meets what is asked for as it is
	rounds int  // plans that were carried out for --kl

	learn, verify [][]int32 // windows of tokens
	source        string    // of the windows to learn from
	digest        string    // of the checkpoint
	known         *compress.Reader
	importance    *compress.Importance // nil without --importance
	cached        bool                 // what is known was on disk
	free          int64                // bytes of memory before anything was brought up; 0 for unknown
	costs         *compress.Costs      // of the device; nil until they are measured
}

// newCompression makes ready what compressing m takes. Close closes it.
func newCompression(ctx context.Context, f *CompressFlags, m *Model, d kernels.Device, o *Options) (*compression, error) {
	c := &compression{flags: f, model: m, device: d, options: o, asked: o.Sizing, seconds: map[string]float64{}, bar: newStageBar(o.Progress)}
	window := min(calibrationWindow, m.Config.MaxPositions)
	c.free, _ = d.Memory()
	var err error
	if c.store, err = StatisticsStore(); err != nil {
		return nil, err
	}
	if c.walker, err = model.NewWalker(m.stored, d, window); err != nil {
		return nil, err
	}
	if c.digest, err = m.Checkpoint.Digest(); err == nil {
		err = c.weigh()
	}
	if err == nil {
		c.met, err = c.meets()
	}
	if err == nil && !c.met {
		err = c.texts(ctx, window)
	}
	if err == nil && !c.met {
		err = c.survey(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *compression) close() error {
	c.bar.finish()
	err := c.walker.Close()
	if c.known != nil {
		err = errors.Join(err, c.known.Close())
	}
	if c.importance != nil {
		err = errors.Join(err, c.importance.Close())
	}
	return err
}

// weigh opens the file of --importance, and holds it against the model before anything that takes long.
func (c *compression) weigh() (err error) {
	if c.flags.Importance == "" {
		return nil
	}
	if c.importance, err = compress.OpenImportance(c.flags.Importance); err == nil {
		err = c.importance.Check(c.walker)
	}
	if err != nil {
		return fmt.Errorf("--importance: %w", err)
	}
	return nil
}

// progress tells what is being done.
func (c *compression) progress(stage string, done, total int) {
	c.bar.update(stage, done, total)
	if c.options.Stage != nil {
		c.options.Stage(stage)
	}
}

// compressionGC is how far memory may grow, in percent, before what is not used any more is collected. Matrices are few, large
// and without pointers: to collect often costs next to nothing, and the default would double what they take.
const compressionGC = 20

// with hands use a compression of m that the flags ask for, while it is under way.
func (f *CompressFlags) with(ctx context.Context, m *Model, d kernels.Device, o *Options, use func(*compression) error) (err error) {
	collected := debug.SetGCPercent(compressionGC)
	defer func() {
		debug.SetGCPercent(collected)
		debug.FreeOSMemory() // else as much garbage again would be made before the next collection
	}()
	c, err := newCompression(ctx, f, m, d, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return use(c)
}

// compress replaces the source of m by what the flags make of it.
func (f *CompressFlags) compress(ctx context.Context, m *Model, d kernels.Device, o *Options) error {
	return f.with(ctx, m, d, o, func(c *compression) error {
		r, err := c.meet(ctx)
		if err != nil {
			return err
		}
		if err := c.gate(r); err != nil {
			return err
		}
		if err := c.complete(r); err != nil {
			return err
		}
		m.Source, m.Report, m.Compression = r.Source, r.Report, r.Plan
		if f.Report != "" {
			return writeReport(f.Report, r.Report)
		}
		return nil
	})
}

// complete fills in what of the report the walk does not know.
func (c *compression) complete(result *compress.Result) error {
	r := result.Report
	r.Model, r.Policy = c.model.Name, c.flags.words()
	switch {
	case c.met:
		r.Policy += ", which the model meets as it is"
	case c.rounds > 1:
		r.Policy += fmt.Sprintf(", met by the best of %d plans", c.rounds)
	}
	r.Calibration.Source = compress.FromNone
	if c.known != nil {
		s := c.known.Statistics()
		r.Calibration.Source, r.Calibration.Tokens, r.Calibration.Cached = s.Source, s.Tokens, c.cached
	}
	r.Before.Bytes = c.model.Checkpoint.Bytes()
	r.After.Bytes = r.Before.Bytes - r.Before.LinearBytes + r.After.LinearBytes
	for _, t := range c.model.RoundedTables() {
		stored, err := c.model.stored.Weight(t + ".weight")
		if err != nil {
			return err
		}
		rounded, err := c.model.Source.Weight(t + ".weight")
		if err != nil {
			return err
		}
		r.After.Bytes += compress.FootprintOf(rounded).Bytes() - compress.FootprintOf(stored).Bytes()
	}
	if err := c.measureCosts(); err != nil {
		return err
	}
	before, after, err := result.Plan.Seconds(c.walker, *c.costs)
	if err != nil {
		return err
	}
	for _, t := range []struct {
		src     model.Source
		seconds float64
		totals  *compress.Totals
	}{{c.model.stored, before, &r.Before}, {c.model.Source, after, &r.After}} {
		head, err := t.src.Weight(model.Tables(c.model.Config)[0] + ".weight")
		if err != nil {
			return err
		}
		t.totals.TokensPerSecond = 1 / (t.seconds + c.costs.Seconds(compress.FootprintOf(head)))
	}
	maps.Copy(r.Seconds, c.seconds)
	return nil
}

// run carries out a plan.
func (c *compression) run(ctx context.Context, p *compress.Plan) (*compress.Result, error) {
	o := compress.Options{Importance: c.importance, Verify: c.verify, Tables: c.model.Source, Progress: c.progress}
	var err error
	if o.Drift, err = c.drifting(); err != nil {
		return nil, err
	}
	r, err := compress.Run(ctx, c.walker, p, c.inputs(), o)
	if err != nil {
		return nil, err
	}
	for stage, seconds := range r.Report.Seconds { // of all rounds of --kl
		c.seconds[stage] += seconds
	}
	return r, nil
}

// gate refuses a result that is too far from the model.
func (c *compression) gate(r *compress.Result) error {
	gate := c.flags.Gate
	if gate == 0 {
		gate = defaultGate
	}
	if v := r.Report.Verified; v != nil && v.KLMean > gate {
		return fmt.Errorf("compress: the result diverges from the model by %.3f nats on average, more than the %g that --gate allows (perplexity %.2f, before %.2f; the most likely token agrees %.0f %% of the time)",
			v.KLMean, gate, v.PerplexityAfter, v.PerplexityBefore, 100*v.Top1)
	}
	return nil
}

// Compress compresses m as o.Compress says, for somebody who does not run it: its source is the compressed one then.
func Compress(ctx context.Context, m *Model, o Options) error {
	return WithDevice(o, func(d kernels.Device) error { return o.Compress.compress(ctx, m, d, &o) })
}

// PlanOnly returns the plan by which Compress would go.
func PlanOnly(ctx context.Context, m *Model, o Options) (p *compress.Plan, err error) {
	err = WithDevice(o, func(d kernels.Device) error {
		return o.Compress.with(ctx, m, d, &o, func(c *compression) (err error) {
			p, err = c.plan(ctx)
			return err
		})
	})
	return p, err
}

// writeReport writes a report to file: a page, or JSON.
func writeReport(file string, r *compress.Report) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write --report: %w", err)
	}
	if strings.HasSuffix(file, ".html") {
		err = report.HTML(f, r)
	} else {
		err = command.WriteJSON(f, r)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write --report: %w", err)
	}
	return nil
}
