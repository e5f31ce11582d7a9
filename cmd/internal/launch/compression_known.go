package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"eckart/kernels/cpu"
	"eckart/model/compress"
)

// StatisticsStore returns where statistics of calibrations, and what else compressing a model finds out, are kept: in the
// user's cache directory.
func StatisticsStore() (compress.Store, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return compress.Store{}, fmt.Errorf("find the cache directory: %w", err)
	}
	return compress.Store{Dir: filepath.Join(dir, "eckart", "statistics"), Limit: compress.DefaultLimit}, nil
}

// keep keeps a note for the next start. One that cannot be kept is no reason to lose what was worked for: the next start
// works for it again.
func (c *compression) keep(kind, key string, v any) { _ = c.store.Keep(kind, key, v) }

// samplingSeed is that of the choice of tokens for --calibration-sampling: the same text gives the same statistics.
const samplingSeed = 1

// survey brings the statistics: those that are kept, or by running the model. They go to disk block by block, and come back
// site by site: memory never holds those of a whole model.
func (c *compression) survey(ctx context.Context) error {
	if len(c.learn) == 0 {
		return nil
	}
	defer c.took("calibrate")()
	sampling, settings := c.sampling()
	key := c.key(c.learn, settings...)
	var err error
	if c.known, err = c.store.Open(key); err == nil {
		c.cached = true
		return nil
	}
	var damaged *compress.DamagedError
	if !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
		return err
	}
	w, err := c.store.Create(key, c.source)
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
	c.known, err = c.store.Open(key)
	return err
}

// sampling returns of how many tokens products are computed, and what a key has to say of it.
func (c *compression) sampling() (compress.Sampling, []any) {
	if share := c.flags.Sampling; share > 0 && share < 1 {
		s := compress.Sampling{Share: share, Seed: samplingSeed}
		return s, []any{s}
	}
	return compress.Sampling{Share: 1}, nil
}

// key returns the name under which is kept what follows from the model, some windows, and settings.
func (c *compression) key(windows [][]int32, settings ...any) string {
	if a := c.options.Activations; a != cpu.ActivationsAuto {
		settings = append(settings, a)
	}
	return compress.Key(c.digest, windows, settings...)
}

// inputs returns what is known of the inputs of sites, nil for nothing.
func (c *compression) inputs() compress.Inputs {
	if c.known == nil {
		return nil
	}
	return c.known
}

// planner predicts what every choice would cost, or recalls what was predicted for an earlier plan.
func (c *compression) planner(ctx context.Context) (*compress.Planner, error) {
	space, err := c.space()
	if err != nil {
		return nil, err
	}
	var sensitivities map[string]float64
	if space.Only == nil && len(c.learn) > 0 {
		if sensitivities, err = c.sensitivities(ctx); err != nil {
			return nil, err
		}
	}
	defer c.took("plan")()
	_, settings := c.sampling()
	key := c.key(c.learn, append(settings, compress.KindPredictions)...)
	if c.importance == nil { // what its file says is in no key
		space.Known = compress.Predictions{}
		if _, err := c.store.Recall(compress.KindPredictions, key, &space.Known); err != nil {
			return nil, err
		}
	}
	kept := space.Known.Count()
	keep := func() {
		if n := space.Known.Count(); n > kept {
			c.keep(compress.KindPredictions, key, space.Known)
			kept = n
		}
	}
	// An interrupt costs a matrix, and the end of the process a block: planning takes minutes, and to keep what was predicted
	// takes milliseconds.
	defer keep()
	return compress.NewPlanner(ctx, c.walker, c.inputs(), sensitivities, space, func(done, total int) {
		keep()
		c.progress("planning", done, total)
	})
}

const (
	// probeTokens is the number of tokens on which sensitivities are measured, in probeWindows windows; 1024 and 128 gave plans
	// of the same divergence.
	probeTokens, probeWindows = 256, 2
	// probeProducts bounds the work, down to half as many tokens: every token passes half of the blocks once for each matrix. A
	// model of a billion parameters is left 128 tokens, some minutes on two cores.
	probeProducts = 7e12
	// driftProducts bounds the tokens on which drift is corrected, which pass the blocks of both models. A model of a billion
	// parameters is left 3,000.
	driftProducts = 3e12
)

// probes returns the windows on which sensitivities are measured: the beginnings of the first ones where the model is large.
func (c *compression) probes() ([][]int32, error) {
	sum, err := compress.Matrices(c.walker)
	if err != nil {
		return nil, err
	}
	each := float64(sum.Elements) * float64(sum.Matrices) / 2
	tokens := int(min(probeTokens, max(probeTokens/2, probeProducts/each)))
	var all [][]int32
	for _, ids := range c.learn[:min(probeWindows, len(c.learn))] {
		all = append(all, ids[:min(len(ids), tokens/probeWindows)])
	}
	return all, nil
}

// drifting returns the windows on which drift is corrected.
func (c *compression) drifting() ([][]int32, error) {
	sum, err := compress.Matrices(c.walker)
	if err != nil || len(c.learn) == 0 || c.flags.NoDrift {
		return nil, err
	}
	most := int(driftProducts / float64(sum.Elements) / float64(len(c.learn[0])))
	return c.learn[:min(len(c.learn), max(2, most))], nil // a strength is chosen on every second window
}

// sensitivities measures what errors of each matrix cost, or recalls it.
func (c *compression) sensitivities(ctx context.Context) (map[string]float64, error) {
	defer c.took("sensitivities")()
	probes, err := c.probes()
	if err != nil {
		return nil, err
	}
	// Errors are weighed by the statistics, which all windows give.
	_, settings := c.sampling()
	key := c.key(c.learn, append(settings, compress.KindSensitivities, len(probes), len(probes[0]))...)
	var known map[string]float64
	if ok, err := c.store.Recall(compress.KindSensitivities, key, &known); ok || err != nil {
		return known, err
	}
	known, err = compress.Sensitivities(ctx, c.walker, c.inputs(), probes, func(done, total int) { c.progress("measuring sensitivities", done, total) })
	if err == nil {
		c.keep(compress.KindSensitivities, key, known)
	}
	return known, err
}

// measureCosts measures the kernels, once, or recalls what an earlier run measured on this device.
func (c *compression) measureCosts() error {
	if c.costs != nil {
		return nil
	}
	defer c.took("kernels")()
	key := compress.Key(c.device.Name(), nil, compress.KindCosts)
	costs := new(compress.Costs)
	ok, err := c.store.Recall(compress.KindCosts, key, costs)
	if err != nil {
		return err
	}
	if !ok {
		c.progress("measuring the kernels", 0, 1)
		if *costs, err = compress.MeasureCosts(c.device); err != nil {
			return err
		}
		c.keep(compress.KindCosts, key, costs)
	}
	c.costs = costs
	return nil
}
