package cuda

import (
	"testing"
	"time"
	"eckart/kernels"
	"bytes"
	"runtime"
)

func TestScratch(t *testing.T) {
	l, err := List(Options{Library: "/tmp/cb/libfake.so"})
	t.Log(l, err)
	d, err := Open(Options{Library: "/tmp/cb/libfake.so", Timeout: time.Second})
	if err != nil { t.Fatal(err) }
	t.Log(d.Name())
	a, err := d.NewArena(64<<20)
	if err != nil { t.Fatal(err) }
	st, err := d.NewStream()
	if err != nil { t.Fatal(err) }
	m, err := a.Alloc(40<<20, 1, kernels.U8)
	if err != nil { t.Fatal(err) }
	src := make([]byte, m.Bytes())
	got := make([]byte, m.Bytes())
	for i := range src { src[i] = byte(i*7>>3) }
	st.Upload(m, src)
	st.Download(got, m)
	if err := st.Sync(); err != nil { t.Fatal(err) }
	if !bytes.Equal(src, got) { t.Fatal("differs") }
	t.Log(d.Memory())
	f := function{handle: 1, name: "nothing"}
	s := st.(*stream)
	args := struct{a uint64; b [20]uint32}{}
	n := testing.AllocsPerRun(1000, func() {
		launch(s, f, dim{1,1,1}, 32, 0, &args)
	})
	t.Log("allocs", n)
	if err := st.Sync(); err != nil { t.Fatal(err) }
	p, err := s.Record(func() {launch(s, f, dim{1,1,1}, 32, 0, &args)})
	if err != nil { t.Fatal(err) }
	p.Run()
	if err := st.Sync(); err != nil { t.Fatal(err) }
	t.Log(p.Close())
	t.Log(d.Close())
	runtime.GC()
}

func BenchmarkScratch(b *testing.B) {
	d, err := Open(Options{Library: "/tmp/cb/libfake.so", Timeout: time.Second})
	if err != nil { b.Fatal(err) }
	st, err := d.NewStream()
	f := function{handle: 1, name: "nothing"}
	s := st.(*stream)
	args := struct{a uint64; b [20]uint32}{}
	for _, locked := range []bool{false, true} {
	name := "free"
	if locked { name = "locked" }
	b.Run(name, func(b *testing.B) {
		if locked { runtime.LockOSThread() }
		b.ReportAllocs()
	for range b.N { launch(s, f, dim{1,1,1}, 32, 0, &args) }
	})}
	b.Run("setcurrent", func(b *testing.B) {
	for range b.N { current.Store(0); launch(s, f, dim{1,1,1}, 32, 0, &args) }
	})
	b.Run("thread", func(b *testing.B) {
	for range b.N { thread() }
	})
	if err := st.Sync(); err != nil { b.Fatal(err) }
	b.Log(d.Close())
}
