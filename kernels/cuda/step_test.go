//go:build linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"maps"
	"runtime"
	"testing"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/model"
	"eckart/model/modeltest"
)

// generating is a small model whose sequences generate, a token each in a step, as a server has them do it.
type generating struct {
	decoder *model.Decoder
	batch   *model.Batch
	tables  [][]int32
	at      int // position of the next token
	id      [1]int32
}

// generate loads the model onto the stream, for n sequences of up to 8192 tokens, of which the cache has room for 64.
func generate(t testing.TB, s *stream, n int) *generating {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	arena := func(bytes int64) kernels.Arena {
		a, err := s.device.NewArena(bytes)
		must(err)
		t.Cleanup(func() { must(a.Close()) })
		return a
	}
	const blockTokens, blocks = 16, 4
	src := modeltest.OpenSource(t, "../../model/testdata/llama")
	l := model.Limits{Rows: 64, Seqs: n, Samples: n, Blocks: 8192 / blockTokens, BlockTokens: blockTokens}
	f, err := model.Measure(src, l)
	must(err)
	g := &generating{}
	g.decoder, err = model.Load(src, arena(f.Weights), s, nil)
	must(err)
	cache, err := kvcache.New(arena(kvcache.Bytes(f.Specs, kernels.F16, blockTokens, n*blocks)), f.Specs, kernels.F16, blockTokens, n*blocks)
	must(err)
	g.batch, err = g.decoder.NewBatch(arena(f.Workspace), s, cache.Layer, l)
	must(err)
	t.Cleanup(func() { must(g.batch.Close()) })
	for i := range n {
		table := make([]int32, blocks)
		for j := range table {
			table[j] = int32(blocks*i + j)
		}
		g.tables = append(g.tables, table)
	}
	return g
}

// prompt runs a step of so many tokens of each sequence, whose last ones are followed by what the device picks.
func (g *generating) prompt(tokens int) {
	g.batch.Reset()
	for i, table := range g.tables {
		g.batch.Add(make([]int32, tokens), 0, table, []int{tokens - 1})
		g.batch.Pick(i, kernels.Choice{})
	}
	g.decoder.Start(g.batch)
	g.at = tokens
}

// only is the sample of a single token.
var only = []int{0}

// start starts a step, whose tokens are those that the step before it picks.
func (g *generating) start() {
	g.batch.Reset()
	for i, table := range g.tables {
		g.id[0] = int32(-1 - i)
		g.batch.Add(g.id[:], g.at, table, only)
		g.batch.Pick(i, kernels.Choice{})
	}
	g.decoder.Start(g.batch)
}

// finish waits for the oldest step that is under way.
func (g *generating) finish(t testing.TB) {
	t.Helper()
	if _, _, err := g.decoder.Finish(g.batch); err != nil {
		t.Fatal(err)
	}
}

// TestStepCalls holds what a step asks of the driver: one copy there, one program, one copy back, and one event.
func TestStepCalls(t *testing.T) {
	calls := map[string]int{}
	count := func(name string) func(args ...uintptr) uintptr {
		call := original(t, name)
		return func(args ...uintptr) uintptr { calls[name]++; return call(args...) }
	}
	up, down := count("cuMemcpyHtoDAsync_v2"), count("cuMemcpyDtoHAsync_v2")
	kernel, graph, event := count("cuLaunchKernel"), count("cuGraphLaunch"), count("cuEventRecord")
	s := fakes{
		"cuMemcpyHtoDAsync_v2": func(to, from, n, stream uintptr) uintptr { return up(to, from, n, stream) },
		"cuMemcpyDtoHAsync_v2": func(to, from, n, stream uintptr) uintptr { return down(to, from, n, stream) },
		"cuLaunchKernel": func(f, x, y, z, bx, by, bz, shared, stream, params, extra uintptr) uintptr {
			return kernel(f, x, y, z, bx, by, bz, shared, stream, params, extra)
		},
		"cuGraphLaunch": func(g, stream uintptr) uintptr { return graph(g, stream) },
		"cuEventRecord": func(e, stream uintptr) uintptr { return event(e, stream) },
	}.stream(t, Options{})
	g := generate(t, s, 3)
	clear(calls)
	g.prompt(5)
	if n := calls["cuMemcpyHtoDAsync_v2"]; n != 1 {
		t.Errorf("a prompt takes %d copies to the device, want 1", n)
	}
	for step := range 4 {
		clear(calls)
		g.start()
		g.finish(t)
		want := map[string]int{"cuMemcpyHtoDAsync_v2": 1, "cuGraphLaunch": 1, "cuMemcpyDtoHAsync_v2": 1, "cuEventRecord": 1}
		if !maps.Equal(calls, want) {
			t.Errorf("step %d asks for %v, want %v", step, calls, want)
		}
		g.at++
	}
	g.finish(t)
}

// BenchmarkStep measures what Go adds to a step that generates: from the tokens to the calls of the driver, which do
// nothing here, and back to the ids.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := fakes{}.stream(b, Options{})
			g := generate(b, s, n)
			d := s.driver
			for _, e := range []*entry{&d.memcpyHtoDAsync, &d.memcpyDtoHAsync, &d.graphLaunch, &d.eventRecord, &d.eventQuery} {
				nothing(b, e)
			}
			runtime.LockOSThread() // as the engine does
			defer runtime.UnlockOSThread()
			g.at = 40
			g.start()
			b.ReportAllocs()
			for b.Loop() {
				g.start()
				g.finish(b)
			}
			g.finish(b)
		})
	}
}
