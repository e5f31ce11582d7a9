package checkpoint_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"eckart/model/checkpoint"
)

// large makes a file of two tensors, the second of so many bytes that a read of
// it takes several pieces, and returns its path and the second's bytes.
func large(t testing.TB, size int) (string, []byte) {
	t.Helper()
	header := fmt.Sprintf(`{"small":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"large":{"dtype":"U8","shape":[%d],"data_offsets":[3,%d]}}`, size, size+3)
	file := shard(header, 3)
	start := len(file)
	file = append(file, make([]byte, size)...)
	source := rand.New(rand.NewPCG(1, 2))
	for i := start; i+8 <= len(file); i += 8 {
		binary.LittleEndian.PutUint64(file[i:], source.Uint64())
	}
	path := t.TempDir() + "/large.safetensors"
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, file[start:]
}

// TestReadAt reads spans of a tensor from several goroutines at a time and
// compares with the bytes written.
func TestReadAt(t *testing.T) {
	const piece = 4 << 20
	path, want := large(t, 3*piece+12345)
	c, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, _ := c.Tensor("large")
	var group sync.WaitGroup
	for _, span := range [][2]int{
		{0, len(want)},
		{1, len(want) - 1},
		{0, piece},
		{0, piece + 1},
		{5, 2*piece + 5},
		{piece - 1, piece + 1},
		{len(want) - 1, len(want)},
		{len(want), len(want)},
		{7, 7},
		{0, 0},
	} {
		group.Go(func() {
			dst := make([]byte, span[1]-span[0])
			if err := c.ReadAt(dst, x, int64(span[0])); err != nil {
				t.Error(err)
			} else if !bytes.Equal(dst, want[span[0]:span[1]]) {
				t.Errorf("bytes %d to %d differ", span[0], span[1])
			}
		})
	}
	group.Wait()

	var copied bytes.Buffer
	if _, err := io.Copy(&copied, c.Reader(x)); err != nil || !bytes.Equal(copied.Bytes(), want) {
		t.Errorf("the reader gives %d bytes, error %v", copied.Len(), err)
	}
	for _, span := range [][2]int64{{-1, 4}, {int64(len(want)), 1}, {1, int64(len(want))}, {1<<63 - 1, 1}} {
		err := c.ReadAt(make([]byte, span[1]), x, span[0])
		if err == nil || !strings.Contains(err.Error(), `read tensor "large" of shard large.safetensors: want bytes`) {
			t.Errorf("offset %d, %d bytes: error is %v", span[0], span[1], err)
		}
	}
}

// TestF10Cut holds the bad input F10: a file that is cut while it is open. A
// memory map would kill the process here.
func TestF10Cut(t *testing.T) {
	path, want := large(t, 9<<20)
	c, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 5<<20); err != nil {
		t.Fatal(err)
	}
	x, _ := c.Tensor("large")
	for _, dst := range [][]byte{make([]byte, len(want)), make([]byte, 6<<20)[:1<<20]} {
		err = c.ReadAt(dst, x, x.Bytes()-int64(len(dst)))
		text := fmt.Sprintf(`read tensor "large" of shard large.safetensors: the file was cut while in use: want %d bytes, found %d`, info.Size(), 5<<20)
		if err == nil || !strings.Contains(err.Error(), text) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error is %v, want %s", err, text)
		}
	}
	if _, err := io.Copy(io.Discard, c.Reader(x)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error of the reader is %v", err)
	}
	// What is still there can be read.
	if err := c.ReadAt(make([]byte, 3), x, 0); err != nil {
		t.Error(err)
	}
}

// TestReadAfterClose checks that a closed checkpoint gives an error and no more.
func TestReadAfterClose(t *testing.T) {
	path, _ := large(t, 100)
	c, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	x, _ := c.Tensor("large")
	if err := c.ReadAt(make([]byte, 8), x, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("error is %v", err)
	}
}

// TestReadAtAllocates checks that a read that takes one piece allocates nothing
// in proportion to its size.
func TestReadAtAllocates(t *testing.T) {
	path, _ := large(t, 1<<20)
	c, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, _ := c.Tensor("large")
	dst := make([]byte, 1<<20)
	if n := testing.AllocsPerRun(10, func() {
		if err := c.ReadAt(dst, x, 0); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReadAt(b *testing.B) {
	path, want := large(b, 256<<20)
	c, err := checkpoint.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	x, _ := c.Tensor("large")
	dst := make([]byte, len(want))
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(int64(len(dst)))
		for b.Loop() {
			if err := c.ReadAt(dst, x, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	// The same by one thread, which is what a piece costs.
	b.Run("pieces", func(b *testing.B) {
		b.SetBytes(int64(len(dst)))
		for b.Loop() {
			for i := 0; i < len(dst); i += 4 << 20 {
				if err := c.ReadAt(dst[i:min(i+4<<20, len(dst))], x, int64(i)); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("copy", func(b *testing.B) {
		b.SetBytes(int64(len(dst)))
		for b.Loop() {
			copy(dst, want)
		}
	})
}

// BenchmarkOpen opens a shard of as many tensors as large models have in one.
func BenchmarkOpen(b *testing.B) {
	var header strings.Builder
	header.WriteString(`{"__metadata__":{"format":"pt"}`)
	for i := range 1000 {
		fmt.Fprintf(&header, `,"model.layers.%d.mlp.experts.%d.down_proj.weight":{"dtype":"BF16","shape":[2048,1024],"data_offsets":[%d,%d]}`, i/100, i%100, i<<22, (i+1)<<22)
	}
	header.WriteString("}")
	// The tensors are sparse: only the header is read.
	path := b.TempDir() + "/many.safetensors"
	file := shard(header.String(), 0)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(file))+1000<<22); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, err := checkpoint.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzHeader feeds files of any bytes. What opens must keep the promises of the
// package, and be read alike by the safetensors library.
func FuzzHeader(f *testing.F) {
	for _, header := range []string{
		"{}", "{}  ", `{"__metadata__":{"a":"b"}}`, `{"__metadata__":null}`, "[]",
		declare(`"F32"`, "[1]", "[0,4]"), declare(`"F4"`, "[4,2]", "[0,4]"), declare(`"F32"`, "[]", "[0,4]"),
		declare(`"U8"`, "[1e1]", "[0,4]"), declare(`"F32"`, "[4294967296,4294967296]", "[0,0]"),
		`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0062":{"data_offsets":[0,4],"shape":[2,2],"dtype":"I8"}}`,
		`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"\u0061":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`,
		`{"t":` + strings.Repeat(`[`, 100),
	} {
		f.Add(shard(header, 4))
		f.Add(shard(header, 0))
	}
	f.Add([]byte("GGUF\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := checkpoint.OpenFS(fstest.MapFS{"x.safetensors": {Data: file}}, "x.safetensors")
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		defer c.Close()
		header := 8 + int64(binary.LittleEndian.Uint64(file))
		if c.Bytes() != int64(len(file))-header {
			t.Errorf("tensors have %d bytes, the file %d after its header", c.Bytes(), int64(len(file))-header)
		}
		known := true
		for _, name := range c.Names() {
			x, _ := c.Tensor(name)
			if int64(x.Elements())*int64(x.Type.BitSize()) != 8*x.Bytes() {
				t.Errorf("tensor %q of %s and shape %v has %d bytes", name, x.Type, x.Shape, x.Bytes())
			}
			if err := c.ReadAt(make([]byte, x.Bytes()), x, 0); err != nil {
				t.Error(err)
			}
			known = known && libraryKnows(x.Type)
		}
		if known {
			compareWithLibrary(t, c, file)
		}
	})
}
