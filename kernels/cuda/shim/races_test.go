package shim

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

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
