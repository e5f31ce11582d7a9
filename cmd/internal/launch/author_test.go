package launch

import (
	"context"
	"errors"
	"slices"
	"testing"

	"eckart/kernels"
)

// TestWriteWindows: the same seed gives the same windows in any company, every second one of chats.
func TestWriteWindows(t *testing.T) {
	m, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	o := Options{Sizing: Sizing{CacheType: kernels.F16}, Threads: 2}
	const window = 96
	var told []int
	write := func(n int, seed uint64) [][]int32 {
		t.Helper()
		told = nil
		windows, err := WriteWindows(t.Context(), m, o, window, n, seed, func(done, total int) { told = append(told, done, total) })
		if err != nil {
			t.Fatal(err)
		}
		return windows
	}
	four := write(4, 1)
	if want := []int{1, 4, 2, 4, 3, 4, 4, 4}; !slices.Equal(told, want) {
		t.Errorf("progress %v, want %v", told, want)
	}
	two, other := write(2, 1), write(2, 2)
	tok, err := m.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	opening, _ := tok.ID("<|im_start|>")
	for w, ids := range four {
		if len(ids) != window {
			t.Errorf("window %d has %d tokens, want %d", w, len(ids), window)
		}
		first := m.Config.BOS
		if w%2 == 1 {
			first = opening
			if n := slices.Index(ids[1:], opening); n < 0 || n > window/4+4 {
				t.Errorf("window %d: the reply begins at token %d, want one after at most %d of a message: %q", w, n, window/4, tok.Decode(ids, false))
			}
		}
		if ids[0] != first {
			t.Errorf("window %d begins with token %d, want %d", w, ids[0], first)
		}
		if w < 2 && (!slices.Equal(ids, two[w]) || slices.Equal(ids, other[w])) {
			t.Errorf("window %d: %v, with the same seed among 2 %v, with another %v", w, ids, two[w], other[w])
		}
	}
	if slices.Equal(four[0], four[2]) {
		t.Error("two windows are the same")
	}

	ctx, cancel := context.WithCancel(t.Context())
	_, err = WriteWindows(ctx, m, o, window, 50, 1, func(done, _ int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after an interrupt: %v", err)
	}
}
