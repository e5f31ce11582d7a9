package shim

import "testing"

// Passes over banks, and sectors, of accesses whose lanes lie so many words apart.
func TestTraffic(t *testing.T) {
	const filled = 128 // accesses that write 16 KB by words, of a pass each
	for _, c := range []struct {
		k, wide          uint32
		accesses, passes int64
		asked, sectors   int64
	}{
		{k: 0, accesses: 1, passes: 1, asked: 4, sectors: 1}, // one word for all
		{k: 1, accesses: 1, passes: 1, asked: 128, sectors: 4},
		{k: 2, accesses: 1, passes: 2, asked: 128, sectors: 8},
		{k: 8, accesses: 1, passes: 8, asked: 128, sectors: 32},
		{k: 32, accesses: 1, passes: 32, asked: 128, sectors: 32},
		{k: 33, accesses: 1, passes: 1, asked: 128, sectors: 32},
		{k: 1, wide: 1, accesses: 2, passes: 2, asked: 128, sectors: 4},
		{k: 2, wide: 1, accesses: 2, passes: 4, asked: 128, sectors: 8},
		{k: 16, wide: 1, accesses: 2, passes: 32, asked: 128, sectors: 32},
		{k: 1, wide: 2, accesses: 4, passes: 4, asked: 128, sectors: 4},
		{k: 2, wide: 2, accesses: 4, passes: 8, asked: 128, sectors: 8},
		{k: 8, wide: 2, accesses: 4, passes: 32, asked: 128, sectors: 32},
	} {
		d := open(t)
		d.Set("traffic", 1)
		type arguments struct {
			y, x    uintptr
			k, wide uint32
		}
		right(d, "strided", 1, 32, 16384, arguments{d.get("cuMemAlloc_v2", 33*33*4), upload(d, floats(64)), c.k, c.wide})
		for _, got := range d.Counts() {
			if got.Kernel != "strided" {
				continue
			}
			// The one place that half of the lanes read is 4 bytes of a sector.
			want := Count{Shared: filled + c.accesses, Passes: filled + c.passes, Asked: c.asked + 4, Sectors: c.sectors + 1}
			if got.Shared != want.Shared || got.Passes != want.Passes || got.Asked != want.Asked || got.Sectors != want.Sectors {
				t.Errorf("%d words apart, wide %d: %+v, want %+v", c.k, c.wide, got, want)
			}
		}
	}
}
