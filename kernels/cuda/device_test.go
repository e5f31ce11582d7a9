//go:build linux && (amd64 || arm64)

package cuda

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cuda/shim"
)

func TestName(t *testing.T) {
	d := fakes{}.open(t, Options{})
	if !regexp.MustCompile(`^cuda:0: .+ \(sm_\d+, driver 1\d\.\d\), \d+ SMs$`).MatchString(d.Name()) {
		t.Errorf("Name: got %q", d.Name())
	}
	list, err := List(Options{Library: shim.ForTest(t)})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].String() != d.Name() || !list[0].Usable() {
		t.Errorf("List: got %v, want %q alone", list, d.Name())
	}
	if free, total := d.Memory(); free <= 0 || free > total {
		t.Errorf("Memory: %d of %d bytes free", free, total)
	}
}

func TestArena(t *testing.T) {
	driver, err := fakes{}.driver(t)
	if err != nil {
		t.Fatal(err)
	}
	d, err := open(Options{}, driver)
	if err != nil {
		t.Fatal(err)
	}
	st, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	a, err := d.NewArena(size)
	if err != nil {
		t.Fatal(err)
	}
	var used int64
	for _, shape := range []struct {
		rows, cols int
		ty         kernels.DType
	}{{1, 1, kernels.F32}, {3, 5, kernels.F16}, {0, 7, kernels.I32}, {64, 64, kernels.BF16}} {
		m, err := a.Alloc(shape.rows, shape.cols, shape.ty)
		if err != nil {
			t.Fatal(err)
		}
		used += kernels.ArenaBytes(shape.rows, shape.cols, shape.ty)
		if a.Used() != used {
			t.Fatalf("%d x %d %s: %d bytes used, want %d", shape.rows, shape.cols, shape.ty, a.Used(), used)
		}
		if m.Addr%kernels.Align != 0 || m.Host != nil || (m.Addr == 0) != (shape.rows == 0) {
			t.Fatalf("%d x %d %s lies at %#x", shape.rows, shape.cols, shape.ty, m.Addr)
		}
		got := bytes.Repeat([]byte{1}, int(m.Bytes()))
		st.Download(got, m)
		st.Upload(m, bytes.Repeat([]byte{0xff}, len(got))) // the next piece must not see it
		if err := st.Sync(); err != nil {
			t.Fatal(err)
		}
		if i := bytes.IndexFunc(got, func(r rune) bool { return r != 0 }); i >= 0 {
			t.Fatalf("%d x %d %s: byte %d is %#x", shape.rows, shape.cols, shape.ty, i, got[i])
		}
	}
	_, err = a.Alloc(1<<20, 1, kernels.F32)
	if want := "allocate 1048576 x 1 f32: 4194304 bytes wanted, 1040256 left"; err == nil || err.Error() != want {
		t.Errorf("too large a piece: got %v, want %q", err, want)
	}
	if _, err := a.Alloc(1, (size-int(used))/4, kernels.F32); err != nil {
		t.Errorf("the rest of an arena: %v", err)
	}

	if _, err := d.NewArena(10); err != nil {
		t.Fatal(err)
	}
	empty, err := d.NewArena(0)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := empty.Alloc(0, 5, kernels.F32); err != nil || m.Addr != 0 {
		t.Errorf("an empty piece of an empty arena: %+v, %v", m, err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := empty.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := a.Alloc(1, 1, kernels.F32); err == nil || a.Used() != 0 {
		t.Error("a closed arena gives memory")
	}
	err = d.Close()
	if err == nil || !strings.Contains(err.Error(), "1 arenas are open, one of 10 bytes made at device_test.go:") {
		t.Errorf("close with an open arena: got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := d.NewStream(); err == nil {
		t.Error("a closed device makes streams")
	}
	if _, err := d.NewArena(64); err == nil {
		t.Error("a closed device makes arenas")
	}
	st.Upload(kernels.Mat{Span: kernels.Span{Addr: 4096}, Rows: 1, Cols: 1, Stride: 1, Type: kernels.U8}, []byte{1})
	if err := st.Sync(); err == nil || err.Error() != "cuda:0 is closed" {
		t.Errorf("stream of a closed device: got %v", err)
	}
}

// TestCopies moves pieces of all sizes to the device and back without waiting in between: more of them than can be under
// way at a time, and some larger than all memory for what is under way.
func TestCopies(t *testing.T) {
	d := fakes{}.open(t, Options{})
	st, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.NewArena(20 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<16)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	sizes := []int{1, 2, 63, 64, 65, uploadBytes - 64, max(2*uploadBytes, downloadBytes) + 3}
	for range 200 {
		sizes = append(sizes, 1+random.IntN(5000))
	}
	sent, got := make([][]byte, len(sizes)), make([][]byte, len(sizes))
	for i, n := range sizes {
		m, err := a.Alloc(1, n, kernels.U8)
		if err != nil {
			t.Fatal(err)
		}
		sent[i], got[i] = make([]byte, n), make([]byte, n)
		for at := 0; at < n; {
			at += copy(sent[i][at:], noise[random.IntN(100):])
		}
		st.Upload(m, make([]byte, n)) // the last upload counts
		st.Upload(m, sent[i])
		st.Download(got[i], m)
	}
	if err := st.Sync(); err != nil {
		t.Fatal(err)
	}
	for i := range sizes {
		if !bytes.Equal(got[i], sent[i]) {
			t.Fatalf("%d bytes came back as others", sizes[i])
		}
	}
}

// TestThreads uses one device from goroutines on several threads, and another device's stream in between on the same
// thread: each call must find its own context current.
func TestThreads(t *testing.T) {
	one, two := fakes{}.open(t, Options{}), fakes{}.open(t, Options{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if i%2 == 0 {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			for _, d := range []*Device{one, two} {
				m, free := memory(t, d, 100)
				defer free()
				st, err := d.NewStream()
				if err != nil {
					t.Error(err)
					return
				}
				for range 100 {
					got := make([]byte, 100)
					st.Upload(m, bytes.Repeat([]byte{byte(i)}, 100))
					runtime.Gosched()
					st.Download(got, m)
					if err := st.Sync(); err != nil {
						t.Error(err)
						return
					}
					if got[99] != byte(i) {
						t.Errorf("got %d, want %d", got[99], i)
					}
				}
			}
		})
	}
	all.Wait()
}

// TestStreamIsReused holds that a stream that is closed gives its memory back, and that Device.Close sees to the others.
func TestStreamIsReused(t *testing.T) {
	d := fakes{}.open(t, Options{})
	before, _ := d.Memory()
	st, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	if during, _ := d.Memory(); during >= before {
		t.Errorf("%d bytes are free beside a stream, %d without", during, before)
	}
	for range 2 {
		if err := st.(*stream).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := d.Memory(); after != before {
		t.Errorf("%d bytes are free after a stream, %d before", after, before)
	}
	if _, err := d.NewStream(); err != nil {
		t.Fatal(err)
	}
}
