package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"time"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/report"
	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/model"
	"eckart/model/compress"
	"eckart/model/tokenizer"
)

// calibrationWindow is the most tokens of a window that is learned from or compared on.
const calibrationWindow = 512

// Defaults of the calibration. verifyTokens are scored at least (the first of each window is not).
const (
	defaultWindows = 32
	verifyTokens   = 4096
)

// A compression is what the flags ask for, under way between the opening of a model and its loading.
type compression struct {
	flags   *CompressFlags
	model   *Model
	device  kernels.Device
	options *Options
	walker  *model.Walker
	bar     *stageBar
	seconds map[string]float64 // that stages took

	learn, verify [][]int32 // windows of tokens
	source        string    // of the windows to learn from
	digest        string    // of the checkpoint
	known         *compress.Reader
	importance    *compress.Importance // nil without --importance
	cached        bool                 // what is known was on disk
	costs         *compress.Costs      // of the device; nil until they are measured
}

// newCompression makes ready what compressing m takes. Close closes it.
func newCompression(ctx context.Context, f *CompressFlags, m *Model, d kernels.Device, o *Options) (*compression, error) {
	c := &compression{flags: f, model: m, device: d, options: o, seconds: map[string]float64{}, bar: newStageBar(o.Progress)}
	window := min(calibrationWindow, m.Config.MaxPositions)
	var err error
	if c.walker, err = model.NewWalker(m.stored, d, window); err != nil {
		return nil, err
	}
	if c.digest, err = m.Checkpoint.Digest(); err == nil {
		err = c.weigh()
	}
	if err == nil {
		err = c.texts(ctx, window)
	}
	if err == nil {
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

// compress replaces the source of m by what the flags make of it.
func (f *CompressFlags) compress(ctx context.Context, m *Model, d kernels.Device, o *Options) (err error) {
	c, err := newCompression(ctx, f, m, d, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	r, err := c.meet(ctx)
	if err != nil {
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
}

// complete fills in what of the report the walk does not know.
func (c *compression) complete(result *compress.Result) error {
	r := result.Report
	r.Model, r.Policy = c.model.Name, c.flags.words()
	r.Calibration = compress.CalibrationReport{Source: compress.FromNone}
	if c.known != nil {
		s := c.known.Statistics()
		r.Calibration = compress.CalibrationReport{Source: s.Source, Tokens: s.Tokens, Cached: c.cached}
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
	for stage, seconds := range c.seconds {
		r.Seconds[stage] = seconds
	}
	return nil
}

// measureCosts measures the kernels, once.
func (c *compression) measureCosts() error {
	if c.costs != nil {
		return nil
	}
	c.progress("measuring the kernels", 0, 1)
	costs, err := compress.MeasureCosts(c.device)
	if err == nil {
		c.costs = &costs
	}
	return err
}

// Compress compresses m as o.Compress says, for somebody who does not run it: its source is the compressed one then.
func Compress(ctx context.Context, m *Model, o Options) error {
	return withDevice(o, func(d kernels.Device) error { return o.Compress.compress(ctx, m, d, &o) })
}

// PlanOnly returns the plan by which Compress would go.
func PlanOnly(ctx context.Context, m *Model, o Options) (p *compress.Plan, err error) {
	err = withDevice(o, func(d kernels.Device) (err error) {
		c, err := newCompression(ctx, o.Compress, m, d, &o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		p, err = c.plan(ctx)
		return err
	})
	return p, err
}

// withDevice opens a device for use.
func withDevice(o Options, use func(kernels.Device) error) error {
	threads := o.Threads
	if threads == 0 {
		threads = cpu.DefaultThreads()
	}
	d, err := cpu.Open(cpu.Options{Threads: threads, Activations: o.Activations})
	if err != nil {
		return err
	}
	return errors.Join(use(d), d.Close())
}

// texts reads or has the model write what is learned from and compared on.
func (c *compression) texts(ctx context.Context, window int) error {
	f := c.flags
	learn := f.Windows
	if learn == 0 {
		learn = defaultWindows
	}
	verify := (verifyTokens + window - 2) / (window - 1)
	if f.Verify == "none" {
		verify = 0
	}
	apart := f.Verify != "" && f.Verify != "none" // a text of its own
	if apart {
		var err error
		if c.verify, err = c.read("verify", f.Verify, window, verify); err != nil {
			return err
		}
		verify = 0
	}
	if f.Calibration == compress.FromNone {
		learn = 0
		if verify > 0 { // there must be some text to compare on
			var err error
			c.verify, err = c.write(ctx, window, verify)
			return err
		}
		return nil
	}
	var all [][]int32
	var err error
	if f.Calibration == "" || f.Calibration == compress.FromSelf {
		c.source = compress.FromSelf
		all, err = c.write(ctx, window, learn+verify)
	} else {
		c.source = compress.FromFile
		all, err = c.read("calibration", f.Calibration, window, learn+verify)
	}
	if err != nil {
		return err
	}
	if len(all) <= verify {
		return fmt.Errorf("read --calibration: %s fills %d windows of %d tokens, and %d of them are kept to compare on; give more text, or --verify FILE", f.Calibration, len(all), window, verify)
	}
	c.learn = all[:len(all)-verify]
	if verify > 0 {
		c.verify = all[len(all)-verify:]
	}
	return nil
}

// meet plans and compresses until the goal is met.
func (c *compression) meet(ctx context.Context) (*compress.Result, error) {
	if c.flags.KL != 0 {
		return c.bisect(ctx)
	}
	p, err := c.plan(ctx)
	if err != nil {
		return nil, err
	}
	return c.run(ctx, p)
}

// plan makes the plan, or reads that of --plan.
func (c *compression) plan(ctx context.Context) (*compress.Plan, error) {
	if f := c.flags.Plan; f != "" {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read --plan: %w", err)
		}
		p, err := compress.ParsePlan(text)
		if err == nil {
			err = p.Check(c.walker, c.digest)
		}
		if err != nil {
			return nil, fmt.Errorf("--plan %s: %w", f, err)
		}
		return p, nil
	}
	planner, err := c.planner(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	return c.choose(planner, policy)
}

// choose has planner choose, and says what the plan is for.
func (c *compression) choose(planner *compress.Planner, policy compress.Policy) (*compress.Plan, error) {
	p, err := planner.Plan(policy)
	if err != nil {
		return nil, err
	}
	p.Model = c.digest
	if c.known != nil {
		p.Calibration = c.known.Statistics().Digest
	}
	return p, nil
}

// samplingSeed is that of the choice of tokens for --calibration-sampling: the same text gives the same statistics.
const samplingSeed = 1

// survey brings the statistics: those that are kept, or by running the model. They go to disk block by block, and come back
// site by site: memory never holds those of a whole model.
func (c *compression) survey(ctx context.Context) error {
	if len(c.learn) == 0 {
		return nil
	}
	start := time.Now()
	defer func() { c.seconds["calibrate"] = time.Since(start).Seconds() }()
	sampling := compress.Sampling{Share: 1, Seed: samplingSeed}
	var settings []any
	if share := c.flags.Sampling; share > 0 && share < 1 {
		sampling.Share = share
		settings = append(settings, sampling)
	}
	key := compress.Key(c.digest, c.learn, settings...)
	store, err := StatisticsStore()
	if err != nil {
		return err
	}
	if c.known, err = store.Open(key); err == nil {
		c.cached = true
		return nil
	}
	var damaged *compress.DamagedError
	if !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
		return err
	}
	w, err := store.Create(key, c.source)
	if err != nil {
		return err
	}
	err = compress.SurveySampled(ctx, c.walker, c.learn, sampling, func(done, total int) { c.progress("calibrating", done, total) }, w.Add)
	if err == nil {
		err = w.Commit(len(c.learn) * c.walker.Window())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	c.known, err = store.Open(key)
	return err
}

// inputs returns what is known of the inputs of sites, nil for nothing.
func (c *compression) inputs() compress.Inputs {
	if c.known == nil {
		return nil
	}
	return c.known
}

// planner predicts what every choice would cost.
func (c *compression) planner(ctx context.Context) (*compress.Planner, error) {
	space, err := c.space()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	defer func() { c.seconds["plan"] = time.Since(start).Seconds() }()
	var sensitivities map[string]float64
	if space.Only == nil && len(c.learn) > 0 {
		sensitivities, err = compress.Sensitivities(ctx, c.walker, c.inputs(), c.probes(), func(done, total int) { c.progress("measuring sensitivities", done, total) })
		if err != nil {
			return nil, err
		}
	}
	return compress.NewPlanner(ctx, c.walker, c.inputs(), sensitivities, space, func(done, total int) { c.progress("planning", done, total) })
}

// probeTokens is the number of tokens on which sensitivities are measured.
const probeTokens = 1024

// probes returns the windows on which sensitivities are measured.
func (c *compression) probes() [][]int32 {
	n, tokens := 0, 0
	for n < len(c.learn) && tokens < probeTokens {
		tokens += len(c.learn[n])
		n++
	}
	return c.learn[:n]
}

// space returns what the planner chooses from.
func (c *compression) space() (compress.Space, error) {
	if c.flags.Method == "" {
		return compress.Space{Importance: c.importance}, nil
	}
	only, err := compress.ParseChoice(c.flags.Method, c.known != nil)
	return compress.Space{Only: &only, Ratio: c.flags.Ratio, Importance: c.importance}, err
}

// maxMatrixError is the most of itself that a matrix may lose where there is another choice: beyond it, errors no longer
// add up as the plan assumes.
const maxMatrixError = 0.25

// policy returns what the plan is made for.
func (c *compression) policy() (compress.Policy, error) {
	f := c.flags
	p := compress.Policy{Words: f.words(), MaxError: maxMatrixError}
	sum, err := compress.Matrices(c.walker)
	if err != nil {
		return p, err
	}
	switch {
	case f.Ratio != 0:
		p.Bytes = int64(f.Ratio * float64(sum.Bytes))
	case f.Bits != 0:
		p.Bytes = int64(f.Bits / 8 * float64(sum.Elements))
	case f.Memory != 0:
		rest, err := c.model.besides(&c.options.Sizing, int64(f.Memory), sum.Bytes)
		if err != nil {
			return p, err
		}
		p.Bytes = int64(f.Memory) - rest
	case f.Latency != 0:
		if err := c.measureCosts(); err != nil {
			return p, err
		}
		p.Costs = *c.costs
		head, err := c.model.Source.Weight(model.Tables(c.model.Config)[0] + ".weight")
		if err != nil {
			return p, err
		}
		p.Seconds = f.Latency.Seconds() - p.Costs.Seconds(compress.FootprintOf(head))
	case f.KL != 0:
		p.Loss = f.KL
	}
	return p, nil
}

// run carries out a plan and holds the result against the gate.
func (c *compression) run(ctx context.Context, p *compress.Plan) (*compress.Result, error) {
	o := compress.Options{Importance: c.importance, Verify: c.verify, Tables: c.model.Source, Progress: c.progress}
	if !c.flags.NoDrift {
		o.Drift = c.learn
	}
	r, err := compress.Run(ctx, c.walker, p, c.inputs(), o)
	if err != nil {
		return nil, err
	}
	gate := c.flags.Gate
	if gate == 0 {
		gate = defaultGate
	}
	if v := r.Report.Verified; v != nil && v.KLMean > gate {
		return nil, fmt.Errorf("compress: the result diverges from the model by %.3f nats on average, more than the %g that --gate allows (perplexity %.2f, before %.2f; the most likely token agrees %.0f %% of the time)",
			v.KLMean, gate, v.PerplexityAfter, v.PerplexityBefore, 100*v.Top1)
	}
	return r, nil
}

// klRounds bounds how often a plan is tried for --kl.
const klRounds = 5

// bisect looks for the smallest model that stays under --kl: what plans predict is off by a factor that differs from model
// to model, and hardly from plan to plan.
func (c *compression) bisect(ctx context.Context) (*compress.Result, error) {
	planner, err := c.planner(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	goal := c.flags.KL
	low, high := 0.0, math.Inf(1) // predicted losses: what was under the goal, and what was above it
	var best *compress.Result
	for round := range klRounds {
		p, err := c.choose(planner, policy)
		if err != nil {
			return nil, err
		}
		r, err := c.run(ctx, p)
		if err != nil {
			return nil, err
		}
		reached := r.Report.Verified.KLMean
		c.progress(fmt.Sprintf("compressed to a divergence of %.4f", reached), round+1, klRounds)
		if reached <= goal {
			low = policy.Loss
			if best == nil || r.Report.After.LinearBytes < best.Report.After.LinearBytes {
				best = r
			}
			if reached > 0.9*goal {
				break
			}
		} else {
			high = policy.Loss
		}
		next := policy.Loss * goal / max(reached, goal/16)
		if next <= low || next >= high {
			next = (low + min(high, 4*max(low, goal))) / 2
		}
		policy.Loss = next
	}
	if best == nil {
		return nil, fmt.Errorf("compress: no plan stayed under --kl %g", goal)
	}
	return best, nil
}

// read returns up to n windows of a text file.
func (c *compression) read(flag, file string, window, n int) ([][]int32, error) {
	text, err := ReadText(flag, file, os.Stdin)
	if err != nil {
		return nil, err
	}
	t, err := c.model.Tokenizer()
	if err != nil {
		return nil, err
	}
	ids := t.Encode(text, tokenizer.EncodeOptions{})
	var all [][]int32
	for len(all) < n && len(ids) >= window {
		all, ids = append(all, ids[:window]), ids[window:]
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read --%s: %s has %d tokens, which do not fill a window of %d", flag, file, len(ids), window)
	}
	return all, nil
}

// writingSeed is that of the text that models write for their calibration: the same model writes the same.
const writingSeed = 1

// write has the model write n windows of text.
func (c *compression) write(ctx context.Context, window, n int) ([][]int32, error) {
	o := *c.options
	o.Compress, o.Progress = nil, nil
	start := time.Now()
	defer func() { c.seconds["write"] = time.Since(start).Seconds() }()
	windows, err := WriteWindows(ctx, c.model, o, window, n, writingSeed, func(done, total int) { c.progress("writing a text to learn from", done, total) })
	var fit *FitError
	if errors.As(err, &fit) {
		return nil, fmt.Errorf("write a text to learn from: the model does not fit into memory uncompressed; --calibration FILE gives it one: %w", err)
	}
	return windows, err
}

// besides returns the bytes that the model takes for anything but the matrices of its blocks, which are stored in so many
// bytes, to be served within memory. A context and a cache that s leaves open are chosen: as much of the context as a
// quarter of memory holds for one sequence.
func (m *Model) besides(s *Sizing, memory, matrices int64) (int64, error) {
	if s.Slots == 0 {
		s.Slots = defaultSlots
	}
	if s.StepTokens == 0 {
		s.StepTokens = max(defaultStepTokens, s.Slots)
	}
	measure := func(l model.Limits) (model.Footprint, error) { return model.Measure(m.Source, l) }
	quarter := memory / 4
	if s.CacheMemory > 0 {
		quarter = s.CacheMemory
	} else {
		s.CacheMemory = quarter
	}
	open := s.Context == 0
	if open {
		s.Context = min(m.Config.MaxPositions, maxDefaultContext)
	}
	for {
		p, err := size(measure, *s, 0)
		if err != nil {
			return 0, err
		}
		if p.Cache <= quarter || !open || s.Context <= minContext {
			return p.Need() - matrices, nil
		}
		s.Context = max(minContext, min(s.Context-blockTokens, int(float64(s.Context)*float64(quarter)/float64(p.Cache))))
	}
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
