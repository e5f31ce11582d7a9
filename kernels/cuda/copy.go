package cuda

import (
	"fmt"
	"unsafe"

	"eckart/kernels"
)

// Bytes travel through memory of the host that the device reads and writes by itself (pinned): from other memory a driver
// copies while the caller waits, and Go's memory must not be given to a device that works on when the call has returned.

const (
	uploadBytes   = 4 << 20 // of each of two halves
	downloadBytes = 4 << 20
)

// uploads is the way to the device: two halves take turns, so that one is filled while the other is copied.
type uploads struct {
	mem    []byte
	halves [2]struct {
		copied cuEvent // all that lies in the half has been copied
		busy   bool
	}
	half int
	used int // bytes of the half, a multiple of kernels.Align
}

// idle takes all memory back: nothing is being copied.
func (u *uploads) idle() {
	u.used = 0
	u.halves[0].busy, u.halves[1].busy = false, false
}

// staged returns up to n bytes of memory from which the device may be told to copy.
func (s *stream) staged(n int) []byte {
	u := &s.up
	if u.used == uploadBytes {
		s.record(u.halves[u.half].copied)
		u.halves[u.half].busy = true
		u.half, u.used = 1-u.half, 0
		if u.halves[u.half].busy {
			s.await(u.halves[u.half].copied)
			u.halves[u.half].busy = false
		}
	}
	n = min(n, uploadBytes-u.used)
	mem := u.mem[u.half*uploadBytes+u.used:][:n]
	u.used += (n + kernels.Align - 1) / kernels.Align * kernels.Align
	return mem
}

// Upload implements kernels.Stream. It has read src when it returns.
func (s *stream) Upload(dst kernels.Mat, src []byte) {
	if s.recording {
		panic("BUG: Upload while recording")
	}
	if int64(len(src)) != dst.Bytes() {
		panic(fmt.Sprintf("BUG: upload of %d bytes into %d x %d %s", len(src), dst.Rows, dst.Cols, dst.Type))
	}
	s.upload(dst.Addr, src, "upload")
}

// upload copies bytes to the device.
func (s *stream) upload(addr uint64, src []byte, name string) {
	if len(src) == 0 || !s.enter() {
		return
	}
	defer s.device.leave()
	for len(src) > 0 && s.err == nil {
		mem := s.staged(len(src))
		if !s.enqueue(name) {
			return
		}
		copy(mem, src)
		s.call[0], s.call[1] = uintptr(addr), uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
		s.call[2], s.call[3] = uintptr(len(mem)), uintptr(s.handle)
		if r := s.driver.memcpyHtoDAsync.call(s.call[:4]...); r != success {
			s.fail(fmt.Errorf("copy %d bytes to the device: %w", len(mem), s.driver.failure(&s.driver.memcpyHtoDAsync, r)))
		}
		src, addr = src[len(mem):], addr+uint64(len(mem))
	}
}

// downloads is the way from the device. What has arrived is handed out when the stream is waited for.
type downloads struct {
	mem     []byte
	used    int
	waiting [64]struct {
		dst  []byte
		from int
	}
	count int
}

// deliver hands out what has arrived, or drops it.
func (d *downloads) deliver(arrived bool) {
	for i := range d.waiting[:d.count] {
		w := &d.waiting[i]
		if arrived {
			copy(w.dst, d.mem[w.from:])
		}
		w.dst = nil
	}
	d.used, d.count = 0, 0
}

// deliverFirst hands out the first n, which have arrived. Their memory is used again when none waits any more. Where some
// always do, Download waits for all when it is full, which takes tens of thousands of steps' ids.
func (d *downloads) deliverFirst(n int) {
	for i := range d.waiting[:d.count] {
		w := d.waiting[i]
		if i < n {
			copy(w.dst, d.mem[w.from:])
		} else {
			d.waiting[i-n] = w
		}
	}
	clear(d.waiting[d.count-n : d.count])
	if d.count -= n; d.count == 0 {
		d.used = 0
	}
}

// Download implements kernels.Stream.
func (s *stream) Download(dst []byte, src kernels.Mat) {
	if s.recording {
		panic("BUG: Download while recording")
	}
	if int64(len(dst)) != src.Bytes() {
		panic(fmt.Sprintf("BUG: download of %d x %d %s into %d bytes", src.Rows, src.Cols, src.Type, len(dst)))
	}
	if len(dst) == 0 || !s.enter() {
		return
	}
	defer s.device.leave()
	d := &s.down
	for addr := src.Addr; len(dst) > 0 && s.err == nil; {
		if d.used == downloadBytes || d.count == len(d.waiting) {
			s.wait()
			d.deliver(s.err == nil)
			s.at.downloads = 0
			continue
		}
		n := min(len(dst), downloadBytes-d.used)
		mem := d.mem[d.used:][:n]
		if !s.enqueue("download") {
			return
		}
		s.call[0], s.call[1] = uintptr(unsafe.Pointer(unsafe.SliceData(mem))), uintptr(addr)
		s.call[2], s.call[3] = uintptr(n), uintptr(s.handle)
		if r := s.driver.memcpyDtoHAsync.call(s.call[:4]...); r != success {
			s.fail(fmt.Errorf("copy %d bytes from the device: %w", n, s.driver.failure(&s.driver.memcpyDtoHAsync, r)))
			return
		}
		d.waiting[d.count].dst, d.waiting[d.count].from = dst[:n:n], d.used
		d.count++
		d.used += (n + kernels.Align - 1) / kernels.Align * kernels.Align
		dst, addr = dst[n:], addr+uint64(n)
	}
}
