package compress

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"eckart/kernels"
	"eckart/model"
)

// Survey runs the model of w on windows, each a sequence of its own of at most w.Window() tokens, and returns the
// statistics of all sites. progress, unless it is nil, hears how many passes of a window through a block are done and how
// many there are. Source and Digest are left to the caller. A number that is not finite ends the survey with an error that
// names the module.
func Survey(ctx context.Context, w *model.Walker, windows [][]int32, progress func(done, total int)) (*Statistics, error) {
	s := &Statistics{Tokens: tokens(windows), Sites: map[string]*Moments{}}
	err := SurveyBlocks(ctx, w, windows, progress, func(b BlockStatistics) error {
		s.add(b)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func tokens(windows [][]int32) int {
	n := 0
	for _, ids := range windows {
		n += len(ids)
	}
	return n
}

// SurveyBlocks is Survey that hands use the statistics of each block, in order, as soon as they are complete. Where use
// does not keep them, memory never holds those of two blocks.
func SurveyBlocks(ctx context.Context, w *model.Walker, windows [][]int32, progress func(done, total int), use func(BlockStatistics) error) error {
	return SurveySampled(ctx, w, windows, Sampling{Share: 1}, progress, use)
}

// SurveySampled is SurveyBlocks with Grams of some of the tokens.
func SurveySampled(ctx context.Context, w *model.Walker, windows [][]int32, o Sampling, progress func(done, total int), use func(BlockStatistics) error) (err error) {
	if !(o.Share > 0 && o.Share <= 1) {
		return fmt.Errorf("survey: a share of %g of the tokens, want one above 0 and at most 1", o.Share)
	}
	s := survey{Walker: w, sampling: o, tokens: tokens(windows), progress: progress, total: len(windows) * w.Layers()}
	for i, ids := range windows {
		if len(ids) < 1 || len(ids) > w.Window() {
			return fmt.Errorf("survey: window %d has %d tokens, want from 1 to %d", i, len(ids), w.Window())
		}
		s.longest = max(s.longest, len(ids))
	}
	if len(windows) == 0 {
		return errors.New("survey: there are no tokens")
	}
	if err := s.begin(ctx, windows); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for i := range w.Layers() {
		b, err := s.block(ctx, i)
		if err != nil {
			return err
		}
		if err := use(b); err != nil {
			return err
		}
	}
	return nil
}

// A survey is one under way.
type survey struct {
	*model.Walker
	sampling Sampling
	tokens   int         // of all windows
	longest  int         // tokens of a window
	hidden   [][]float32 // per window: (tokens, dim)
	before   []float32   // a state before the block that it passes
	rows     []float32   // of a site, for one window
	products *multiplier // made anew where a block has wider sites

	progress    func(done, total int)
	done, total int // passes of a window through a block
}

// begin embeds the windows.
func (s *survey) begin(ctx context.Context, windows [][]int32) error {
	dim := s.Config().Dim
	s.hidden = make([][]float32, len(windows))
	s.before = make([]float32, s.longest*dim)
	for i, ids := range windows {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		s.hidden[i] = make([]float32, len(ids)*dim)
		if err := s.Embed(s.hidden[i], ids); err != nil {
			return fmt.Errorf("survey: window %d: %w", i, err)
		}
	}
	return nil
}

func (s *survey) close() error {
	err := s.products.close()
	s.products = nil
	return err
}

// block runs all windows through block i.
func (s *survey) block(ctx context.Context, i int) (out BlockStatistics, err error) {
	out = BlockStatistics{Layer: i, Sites: map[string]*Moments{}}
	b, err := s.Block(i, s.Source())
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	sites, err := s.collectors(b.Sites())
	if err != nil {
		return out, err
	}
	count := 0
	for n, hidden := range s.hidden {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		before := s.before[:copy(s.before, hidden)]
		err := b.Forward(hidden, func(name string, x kernels.Mat) error {
			rows := s.rows[:x.Rows*x.Cols]
			if err := s.Read(rows, x); err != nil {
				return err
			}
			return sites[name].add(s.products, rows)
		})
		if err != nil {
			return out, fmt.Errorf("window %d: %w", n, err)
		}
		if slices.ContainsFunc(hidden, notFinite) {
			return out, fmt.Errorf("survey: the output of model.layers.%d is not finite in window %d", i, n)
		}
		out.Influence += change(before, hidden, s.Config().Dim)
		count += len(hidden) / s.Config().Dim
		s.done++
		if s.progress != nil {
			s.progress(s.done, s.total)
		}
	}
	out.Influence /= float64(count)
	for _, site := range b.Sites() {
		if out.Sites[site.Name], err = sites[site.Name].finish(s.products); err != nil {
			return out, err
		}
	}
	return out, nil
}

// A collector makes the moments of a site out of its rows.
type collector interface {
	add(m *multiplier, x []float32) error   // x (rows, in), of one window
	finish(m *multiplier) (*Moments, error) // of all that was added
}

// collectors returns those of a block's sites, and makes room for the widest.
func (s *survey) collectors(sites []model.Site) (map[string]collector, error) {
	widest, batch := 0, batchOf(s.longest, len(s.hidden))
	all := map[string]collector{}
	for _, site := range sites {
		if s.sampling.Share < 1 {
			all[site.Name] = newSampler(site.Name, site.In, batch, s.tokens, s.sampling)
		} else {
			all[site.Name] = newAccumulator(site.Name, site.In, batch)
		}
		widest = max(widest, site.In)
	}
	if s.products != nil && widest <= s.products.widest {
		return all, nil
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	var err error
	s.products, err = newMultiplier(s.Device(), s.Stream(), widest, batch)
	s.rows = make([]float32, s.longest*widest)
	return all, err
}
