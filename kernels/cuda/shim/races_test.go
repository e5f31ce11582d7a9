package shim

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestBetween has blocks order what they do by atomics, or fail to, in any order of blocks.
func TestBetween(t *testing.T) {
	for _, c := range []struct {
		kernel  string
		blocks  int
		threads int
		k       uint32
		raced   bool
	}{
		{"between", 2, 32, 0, false},
		{"between", 2, 32, 1, true},
		{"between", 2, 32, 2, true},
		{"between", 2, 32, 3, true},
		{"between", 2, 32, 4, false},
		{"between", 3, 32, 5, false},
		{"between", 3, 32, 6, true},
		{"between", 2, 32, 7, true},
		{"warps", 1, 64, 0, true},
	} {
		raced := 0
		for seed := range 16 {
			d := open(t)
			d.Set("seed", int64(seed))
			d.Set("races", 1)
			x := upload(d, floats(1000))
			var code int
			if c.kernel == "warps" {
				code = launch(d, c.kernel, c.blocks, c.threads, 0, rows{d.get("cuMemAlloc_v2", 4000), x, 1000, 0})
			} else {
				f := upload(d, make([]uint32, 8))
				code = launch(d, c.kernel, c.blocks, c.threads, 0, struct {
					x, f, g uintptr
					k       uint32
				}{x, f, f + 16, c.k})
			}
			if code == 700 && strings.Contains(d.Message(), ": race: ") {
				raced++
			} else if code != 0 {
				t.Fatalf("%s %d, seed %d: returns %d: %s", c.kernel, c.k, seed, code, d.Message())
			}
		}
		// A race by way of a value (6) is one only where the blocks run in an order that shows it.
		if c.raced && raced < 16 && (c.k != 6 || raced == 0) || !c.raced && raced > 0 {
			t.Errorf("%s %d: a race is found in %d runs of 16", c.kernel, c.k, raced)
		}
	}
	d := open(t)
	d.Set("races", 1)
	if code := launch(d, "odd", 1, 32, 0, rows{0, upload(d, floats(10)), 0, 0}); code != 716 {
		t.Errorf("a misaligned access that is watched returns %d: %s", code, d.Message())
	}
}

// Accesses to global memory that nothing orders end a launch where races are watched, whatever came first; those that are in
// order do not.
func TestRaces(t *testing.T) {
	source, err := os.ReadFile("testdata/check.cu")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(source), "\n")
	for _, c := range []struct {
		kernel string
		blocks int
		k      uint32
		raced  bool
	}{
		{"global_race", 1, 0, true},
		{"global_race", 1, 1, false},
		{"global_race", 1, 2, false}, // within a warp
		{"global_race", 2, 1, true},  // with another block
		{"global_read", 1, 0, true},
		{"global_read", 1, 1, false},
		{"halves", 1, 0, false}, // two threads on a word, and not on a byte of it
		{"halves", 1, 1, true},
		{"blocks_race", 2, 0, true},
		{"blocks_race", 2, 1, false},
		{"share", 5, 0, false},
		{"share", 5, 1, true},
		{"share", 5, 2, true},
		{"share", 5, 4, true},
		{"share", 5, 8, true},
	} {
		t.Run(fmt.Sprint(c.kernel, c.blocks, c.k), func(t *testing.T) {
			for seed := range 8 {
				d := open(t)
				d.Set("seed", int64(seed))
				d.Set("races", 1)
				x, y := upload(d, floats(1000)), d.get("cuMemAlloc_v2", 4000)
				for range 2 { // what an earlier launch did is in order
					var code int
					if c.kernel == "share" {
						code = launch(d, c.kernel, c.blocks, 64, 16, struct{ y, part, count uintptr }{y | uintptr(c.k), x, upload(d, make([]uint32, 1))})
					} else {
						code = launch(d, c.kernel, c.blocks, 64, 0, rows{y, x, 1000, c.k})
					}
					text := d.Message()
					if !c.raced && code != 0 {
						t.Fatalf("seed %d: returns %d: %s", seed, code, text)
					}
					if !c.raced {
						continue
					}
					_, place, _ := strings.Cut(text, "check.cu:")
					line := 0
					fmt.Sscanf(place, "%d:", &line)
					if code != 700 || !strings.Contains(text, ": race: ") || line == 0 || !strings.HasSuffix(lines[line-1], "// "+c.kernel) && !strings.HasPrefix(c.kernel, "global_") {
						t.Fatalf("seed %d: returns %d (%s), want a race in the line of %s", seed, code, text, c.kernel)
					}
					break
				}
			}
		})
	}
}
