package launch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cuda"
	"eckart/kernels/cuda/shim"
	"eckart/runtime"
)

// Results of the driver.
const (
	outOfMemory    = 2
	illegalAddress = 700
)

// openShim has --device cuda run on the shim, as new, for the rest of the test, and returns it.
func openShim(t *testing.T) *shim.Library {
	t.Helper()
	useShim(t)
	l, err := shim.Open(shim.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	l.Reset()
	t.Cleanup(l.Reset)
	return l
}

// onCUDA are options for the demo model on a GPU.
func onCUDA() Options {
	return Options{
		Sizing: Sizing{Slots: 2, StepTokens: 16, Context: 256, CacheType: kernels.F16}, Threads: 1, Device: DeviceChoice{kind: "cuda"},
	}
}

// nothingLeft holds that everything has been given back to the driver.
func nothingLeft(t *testing.T, l *shim.Library) {
	t.Helper()
	for _, what := range []string{"memory", "pinned", "streams", "events", "modules", "graphs", "programs", "contexts"} {
		if n := l.Live(what); n != 0 {
			t.Errorf("%d %s are left", n, what)
		}
	}
}

// TestNoMemory has each allocation of a start fail in turn, among them those of weights, cache, workspace and of the memory
// that copies go through, and then some copies of weights: the start ends with one line that says so, and nothing is left.
func TestNoMemory(t *testing.T) {
	l := openShim(t)
	m, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for entry, calls := range map[string]int{"cuMemAlloc_v2": 5, "cuMemHostAlloc": 2, "cuMemcpyHtoDAsync_v2": 3} {
		if testing.Short() && entry != "cuMemAlloc_v2" {
			continue
		}
		for after := range calls {
			l.Reset()
			l.Fail(entry, after, outOfMemory)
			i, err := Start(t.Context(), m, onCUDA())
			if err == nil {
				t.Errorf("call %d of %s has not failed the start", after, entry)
				err = i.Close()
			}
			if s := fmt.Sprint(err); !strings.Contains(s, "out of memory") || strings.Contains(s, "\n") {
				t.Errorf("call %d of %s: %q", after, entry, s)
			}
			nothingLeft(t, l)
		}
	}
}

// A thief is a device of which others take memory just before the arena of a number is made.
type thief struct {
	kernels.Device
	l         *shim.Library
	at, arena int
}

func (t *thief) NewArena(bytes int64) (kernels.Arena, error) {
	if t.arena++; t.arena == t.at {
		free, total := t.Memory()
		t.l.Set("memory", total-free+10<<20)
	}
	return t.Device.NewArena(bytes)
}

// TestMemoryTaken has others take memory between the plan and the allocation of the cache, or of the workspace: the error says
// what is missing and how much --memory could be.
func TestMemoryTaken(t *testing.T) {
	l := openShim(t)
	m, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	o := onCUDA()
	o.Slots, o.StepTokens, o.Context = 16, 2048, 2048
	for at := 2; at <= 3; at++ {
		l.Reset()
		d, _, err := openDevice(o)
		if err != nil {
			t.Fatal(err)
		}
		i := &Instance{Model: m, Device: &thief{Device: d, l: l, at: at}}
		free, _ := d.Memory()
		if i.Plan, err = m.Plan(o.Sizing, free); err != nil {
			t.Fatal(err)
		}
		if i.Stream, err = d.NewStream(); err != nil {
			t.Fatal(err)
		}
		if err := i.load(nil); err == nil {
			t.Errorf("arena %d was made of memory that is not there", at)
		} else {
			t.Log(err)
			says := []string{"others have taken memory while it was loaded: ", "are missing; free memory", "out of memory"}
			if at == 3 { // with the memory of the cache there is room for a smaller model
				says = append(says, "--memory ")
			}
			for _, want := range says {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %q, want one line with %q", err, want)
				}
			}
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
		nothingLeft(t, l)
	}
}

// TestLostGPU loses the device while requests run: they and those that come later get an error, the engine ends with it and is
// not healthy, and everything can be closed.
func TestLostGPU(t *testing.T) {
	l := openShim(t)
	m, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	i, err := Start(t.Context(), m, onCUDA())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- i.Run(t.Context()) }()
	generate := func(lose bool) (tokens int, err error) {
		for _, err := range i.Engine.Generate(context.Background(), runtime.Request{Prompt: []int32{1, 2, 3}, MaxTokens: 200, IgnoreEOS: true}) {
			if err != nil {
				return tokens, err
			}
			if tokens++; lose && tokens == 2 {
				l.Fail("cuEventQuery", 0, illegalAddress)
			}
		}
		return tokens, nil
	}
	var all sync.WaitGroup
	for n := range 2 {
		all.Go(func() {
			if tokens, err := generate(n == 0); !errors.Is(err, cuda.ErrLost) || !errors.Is(err, runtime.ErrFault) {
				t.Errorf("request %d: %d tokens, error %v", n, tokens, err)
			}
		})
	}
	if err := <-ended; !errors.Is(err, cuda.ErrLost) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the engine ended with %v", err)
	}
	all.Wait()
	if err := i.Engine.Healthy(); !errors.Is(err, cuda.ErrLost) {
		t.Errorf("health: %v", err)
	}
	if _, err := generate(false); !errors.Is(err, runtime.ErrFault) {
		t.Errorf("a request after the fault: %v", err)
	}
	if err := i.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
