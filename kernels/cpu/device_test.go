package cpu

import (
	"math"
	"strings"
	"testing"
	"unsafe"

	"eckart/kernels"
)

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{}, "threads must be from 1 to 65535, got 0"},
		{Options{Threads: -3}, "got -3"},
		{Options{Threads: 1 << 20}, "got 1048576"},
		{Options{Threads: 1, ISA: ISA(99)}, "this processor has no ISA(99) (it has [generic"},
	} {
		d, err := Open(c.options)
		if err == nil {
			d.Close()
			t.Fatalf("%+v: opened", c.options)
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %q, want it to contain %q", c.options, err, c.want)
		}
	}
}

func TestOpenTakesTheBest(t *testing.T) {
	d, err := Open(Options{Threads: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	all := ISAs()
	if got, want := d.ISA(), all[len(all)-1]; got != want {
		t.Errorf("ISA: got %s, want %s of %v", got, want, all)
	}
	if d.Threads() != 3 {
		t.Errorf("Threads: got %d, want 3", d.Threads())
	}
	if name := d.Name(); !strings.HasPrefix(name, "cpu: ") || !strings.Contains(name, "("+d.ISA().String()+")") ||
		!strings.HasSuffix(name, ", 3 threads") {
		t.Errorf("Name: got %q", name)
	}
	if n := DefaultThreads(); n < 1 {
		t.Errorf("DefaultThreads: got %d", n)
	}
	if free, total := d.Memory(); free < 0 || free > total {
		t.Errorf("Memory: %d of %d bytes free", free, total)
	}
}

func TestArena(t *testing.T) {
	d, err := Open(Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
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
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(m.Host))); at%kernels.Align != 0 {
			t.Fatalf("%d x %d %s lies at %#x", shape.rows, shape.cols, shape.ty, at)
		}
		for i, b := range m.Host {
			if b != 0 {
				t.Fatalf("%d x %d %s: byte %d is %#x", shape.rows, shape.cols, shape.ty, i, b)
			}
			m.Host[i] = 0xff // the next piece must not see it
		}
	}
	_, err = a.Alloc(1<<20, 1, kernels.F32)
	if want := "allocate 1048576 x 1 f32: 4194304 bytes wanted, 4185984 left"; err == nil || err.Error() != want {
		t.Errorf("too large a piece: got %v, want %q", err, want)
	}
	if _, err := a.Alloc(1, (size-int(used))/4, kernels.F32); err != nil {
		t.Errorf("the rest of an arena: %v", err)
	}

	other, err := d.NewArena(10)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := a.Alloc(1, 1, kernels.F32); err == nil {
		t.Error("a closed arena gives memory")
	}
	err = d.Close()
	if err == nil || !strings.Contains(err.Error(), "1 arenas are open, one of 10 bytes made at device_test.go:") {
		t.Errorf("close with an open arena: got %v", err)
	}
	if err := other.Close(); err != nil {
		t.Errorf("close after the device: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := d.NewStream(); err == nil {
		t.Error("a closed device makes streams")
	}
}

func TestArenaThatCannotBe(t *testing.T) {
	d, err := Open(Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.NewArena(math.MaxInt64 &^ 4095); err == nil || !strings.Contains(err.Error(), "reserve 9223372036854771712 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestHalfConversions(t *testing.T) {
	for i := range 1 << 16 {
		b := uint16(i)
		if f := float32FromF16(b); f == f && f16FromFloat32(f) != b {
			t.Fatalf("f16 %#04x is %g, which becomes %#04x", b, f, f16FromFloat32(f))
		}
		if f := float32FromBF16(b); f == f && bf16FromFloat32(f) != b {
			t.Fatalf("bf16 %#04x is %g, which becomes %#04x", b, f, bf16FromFloat32(f))
		}
	}
	for _, c := range []struct {
		f         float32
		f16, bf16 uint16
	}{
		{1 + 0x1p-11, 0x3c00, 0x3f80},           // a tie goes to the even neighbour
		{1 + 3*0x1p-11, 0x3c02, 0x3f80},         //
		{1 + 0x1p-11 + 0x1p-20, 0x3c01, 0x3f80}, //
		{1 + 0x1p-8, 0x3c04, 0x3f80},            //
		{1 + 3*0x1p-8, 0x3c0c, 0x3f82},          //
		{65519, 0x7bff, 0x4780},                 // the last to round down to the largest
		{65520, 0x7c00, 0x4780},                 // and the first to overflow
		{0x1p-24, 0x0001, 0x3380},               // the smallest
		{0x1p-25, 0x0000, 0x3300},               // half of it ties to zero
		{0x1.8p-25, 0x0001, 0x3340},             //
		{-0x1.ffcp-15, 0x8400, 0xb880},          // rounds up to the smallest normal number
		{math.MaxFloat32, 0x7c00, 0x7f80},       //
		{float32(math.Copysign(0, -1)), 0x8000, 0x8000},
		{float32(math.Inf(-1)), 0xfc00, 0xff80},
	} {
		if got := f16FromFloat32(c.f); got != c.f16 {
			t.Errorf("%g becomes f16 %#04x, want %#04x", c.f, got, c.f16)
		}
		if got := bf16FromFloat32(c.f); got != c.bf16 {
			t.Errorf("%g becomes bf16 %#04x, want %#04x", c.f, got, c.bf16)
		}
	}
	nan := math.Float32frombits(0x7f800001)
	if f := float32FromF16(f16FromFloat32(nan)); f == f {
		t.Errorf("NaN becomes f16 %g", f)
	}
	if f := float32FromBF16(bf16FromFloat32(nan)); f == f {
		t.Errorf("NaN becomes bf16 %g", f)
	}
}
