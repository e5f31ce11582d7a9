package shim

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// floats returns 0, 1, 2...
func floats(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(i)
	}
	return s
}

// The kernels that do right do it in any order of threads, with one or two threads of the host.
func TestRight(t *testing.T) {
	for seed := range 20 {
		d := open(t)
		d.Set("seed", int64(seed))
		d.Set("threads", int64(1+seed%2))
		x, y := upload(d, floats(1000)), d.get("cuMemAlloc_v2", 4000)
		right(d, "reverse", 4, 256, 1024, rows{y, x, 1000, 0})
		for i, v := range download[float32](d, y, 1000) {
			if w := float32(i/256*256 + 255 - i%256); v != w && w < 1000 || w >= 1000 && v != 0 {
				t.Fatalf("seed %d: reverse: element %d is %v, want %v", seed, i, v, w)
			}
		}
		right(d, "warp_order", 3, 64, 256, rows{y, x, 64, 10})
		right(d, "copies", 2, 32, 1024, rows{y, x, 64, 0})
		for i, v := range download[float32](d, y, 64) {
			if w := float32(i/32*128 + i%32 ^ 1); v != w {
				t.Fatalf("seed %d: copies: element %d is %v, want %v", seed, i, v, w)
			}
		}
		right(d, "zeros", 1, 32, 512, rows{y, x, 128, 5})
		for i, v := range download[float32](d, y, 128) {
			if i < 20 && v != float32(i) || i >= 20 && v != 0 {
				t.Fatalf("seed %d: zeros: element %d is %v", seed, i, v)
			}
		}
	}
}

// Each thing that a kernel must not do ends it, with a text that names the line.
func TestWrong(t *testing.T) {
	source, err := os.ReadFile("testdata/check.cu")
	if err != nil {
		t.Fatal(err)
	}
	line := func(mark string) string {
		for i, l := range strings.Split(string(source), "\n") {
			if strings.HasSuffix(l, "// "+mark) {
				return fmt.Sprintf("check.cu:%d: ", i+1)
			}
		}
		t.Fatalf("check.cu has no line marked %q", mark)
		return ""
	}
	const illegal, timeout, misaligned, failed = 700, 702, 716, 719
	for _, c := range []struct {
		kernel          string
		threads, shared int
		k               uint32
		code            int
		mark, text      string
	}{
		{"race", 64, 256, 0, illegal, "", "of shared memory: "},
		{"warp_race", 32, 128, 2, illegal, "", "of shared memory: "},
		{"same_word", 32, 128, 0, illegal, "same_word", "race: written, while thread"},
		{"bytes", 64, 192, 0, illegal, "bytes: two threads", "race: written, while thread"},
		{"uninitialised", 32, 128, 0, illegal, "uninitialised", "thread 31 (warp 0, lane 31)"},
		{"beyond_shared", 32, 128, 0, illegal, "beyond_shared", "writes 4 bytes at offset 128 of shared memory, of which the launch asked for 128"},
		{"misaligned_shared", 32, 512, 0, misaligned, "misaligned_shared", "not a multiple"},
		{"beyond", 32, 0, 0, illegal, "beyond", "of an allocation of 4000"},
		{"before", 32, 0, 0, illegal, "before", "before an allocation of 4000"},
		{"misaligned", 32, 0, 0, misaligned, "misaligned", "reads 16 bytes"},
		{"around", 32, 0, 0, illegal, "", "goes around ld and st"},
		{"deep", 32, 0, 100, failed, "", "stack"},
		{"divergent", 32, 0, 0, failed, "", "while lane"},
		{"missing", 32, 0, 0, failed, "missing", "waits in a shuffle for lane 7, which waits in block_sync"},
		{"left", 32, 0, 0, failed, "left", "waits in warp_sum for lane 7, which has returned"},
		{"partial", 64, 0, 0, failed, "partial", "32 of 64 threads"},
		{"split_barrier", 64, 0, 0, failed, "", "while other threads are in the one"},
		{"copies", 32, 1024, 1, illegal, "copies: read", "waited for its cp.async"},
		{"copies", 32, 1024, 2, illegal, "copies: read", ""},
	} {
		t.Run(fmt.Sprint(c.kernel, c.k), func(t *testing.T) {
			for seed := range 8 {
				d := open(t)
				d.Set("seed", int64(seed))
				x, y := upload(d, floats(1000)), d.get("cuMemAlloc_v2", 4000)
				code := launch(d, c.kernel, 2, c.threads, c.shared, rows{y, x, 1000, c.k})
				text := d.Message()
				if code != c.code || !strings.Contains(text, c.text) || !strings.HasPrefix(text, "kernel "+c.kernel+", block (") {
					t.Fatalf("seed %d: returns %d (%s), want %d (%s)", seed, code, text, c.code, c.text)
				}
				if c.mark != "" && !strings.Contains(text, line(c.mark)) {
					t.Fatalf("seed %d: does not name %s: %s", seed, line(c.mark), text)
				}
				// The fault stays.
				if code := d.result("cuStreamSynchronize", d.stream); code != c.code {
					t.Fatalf("the next call returns %d, want %d", code, c.code)
				}
			}
		})
	}
}
