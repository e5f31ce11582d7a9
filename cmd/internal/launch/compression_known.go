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

// survey brings the statistics: those that are kept, or by running the model. They go to disk block by block, and come back
// site by site: memory never holds those of a whole model.
func (c *compression) survey(ctx context.Context) error {
	if len(c.learn) == 0 {
		return nil
	}
	defer c.took("calibrate")()
	key := c.key(c.learn)
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
	err = compress.SurveyBlocks(ctx, c.walker, c.learn, func(done, total int) { c.progress("calibrating", done, total) }, w.Add)
	if err == nil {
		err = w.Commit(len(c.learn) * c.walker.Window())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	c.known, err = c.store.Open(key)
	return err
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
	key := c.key(c.learn, compress.KindPredictions)
	if c.importance == nil { // what its file says is in no key
		space.Known = compress.Predictions{}
		if _, err := c.store.Recall(compress.KindPredictions, key, &space.Known); err != nil {
			return nil, err
		}
	}
	before := space.Known.Count()
	p, err := compress.NewPlanner(ctx, c.walker, c.inputs(), sensitivities, space, func(done, total int) { c.progress("planning", done, total) })
	if err == nil && space.Known.Count() > before {
		c.keep(compress.KindPredictions, key, space.Known)
	}
	return p, err
}

// probeTokens is the number of tokens on which sensitivities are measured.
const probeTokens = 1024

// sensitivities measures what errors of each matrix cost, or recalls it.
func (c *compression) sensitivities(ctx context.Context) (map[string]float64, error) {
	defer c.took("sensitivities")()
	n, tokens := 0, 0
	for n < len(c.learn) && tokens < probeTokens {
		tokens += len(c.learn[n])
		n++
	}
	key := c.key(c.learn, compress.KindSensitivities, n) // errors are weighed by the statistics, which all windows give
	var known map[string]float64
	if ok, err := c.store.Recall(compress.KindSensitivities, key, &known); ok || err != nil {
		return known, err
	}
	known, err := compress.Sensitivities(ctx, c.walker, c.inputs(), c.learn[:n], func(done, total int) { c.progress("measuring sensitivities", done, total) })
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
