package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"eckart/kernels"
	"eckart/model"
)

// generating is sequences that generate, a token each in a step, as runtime.Engine has them do it on a device that picks
// tokens: those of a step are what the step before it has picked, and the host need not have seen them.
type generating struct {
	decoder *model.Decoder
	batch   *model.Batch
	tables  [][]int32
	at      int // position of the next token
	id      [1]int32
}

// only is the sample of a single token.
var only = []int{0}

// run takes so many steps and returns the time that they took. With ahead each is started before the one before it is
// finished, else after that.
func (g *generating) run(ctx context.Context, steps int, ahead bool) (time.Duration, error) {
	var err error
	start := time.Now()
	underway := 0
	for i := 0; i < steps && err == nil; i++ {
		g.start()
		if underway++; ahead && underway == 1 {
			continue
		}
		err = g.finish()
		underway--
	}
	if underway > 0 {
		err = errors.Join(err, g.finish())
	}
	return time.Since(start), errors.Join(err, ctx.Err())
}

// start starts a step.
func (g *generating) start() {
	g.batch.Reset()
	for i, table := range g.tables {
		g.id[0] = int32(-1 - i)
		g.batch.Add(g.id[:], g.at, table, only)
		g.batch.Pick(i, kernels.Choice{})
	}
	g.decoder.Start(g.batch)
	g.at++
}

// finish waits for the oldest step that is under way.
func (g *generating) finish() error {
	_, picked, err := g.decoder.Finish(g.batch)
	if i := slices.Index(picked, -1); err == nil && i >= 0 {
		return fmt.Errorf("sequence %d has logits that no token can be picked from", i)
	}
	return err
}
