package cpu

import (
	"encoding/binary"
	"unsafe"

	"eckart/kernels"
)

// sweepFunc reads n bytes, a multiple of sweepAlign and at least that, and returns the OR of their 64-bit words.
type sweepFunc func(p *byte, n int) uint64

const (
	sweepAlign = 256
	sweepPart  = 128 << 10 // bytes of a chunk, as many as the panels of MatMul have
)

// sweepTask reads memory in parts.
type sweepTask struct {
	mem   []byte
	code  sweepFunc
	found []sweepWord // for each worker
}

// sweepWord is a result of a worker, on a cache line of its own.
type sweepWord struct {
	or uint64
	_  [56]byte
}

// Sweep reads the memory of m with the device's threads and does nothing else, so that the time it takes is the
// machine's: no verb that reads as much can be faster. It returns the OR of all 64-bit words, which shows that they
// were read.
func (d *Device) Sweep(m kernels.Mat) uint64 {
	t := &sweepTask{mem: m.Host, code: d.code.sweep, found: make([]sweepWord, d.pool.threads)}
	d.pool.run((len(t.mem)+sweepPart-1)/sweepPart, t)
	var or uint64
	for _, w := range t.found {
		or |= w.or
	}
	return or
}

func (t *sweepTask) do(worker, chunk int) {
	part := t.mem[chunk*sweepPart:]
	part = part[:min(sweepPart, len(part))]
	or := &t.found[worker].or
	if n := len(part) / sweepAlign * sweepAlign; n > 0 && t.code != nil {
		*or |= t.code(&part[0], n)
		part = part[n:]
	}
	*or |= sweepGeneric(part)
}

// sweepGeneric is sweepFunc in plain Go, for any number of bytes; the last word is filled up with zeros.
func sweepGeneric(part []byte) uint64 {
	var a, b, c, d uint64
	if n := len(part) / 64; n > 0 {
		for w := unsafe.Slice((*[8]uint64)(unsafe.Pointer(&part[0])), n); len(w) > 0; w = w[1:] {
			a |= w[0][0] | w[0][1]
			b |= w[0][2] | w[0][3]
			c |= w[0][4] | w[0][5]
			d |= w[0][6] | w[0][7]
		}
		part = part[n*64:]
	}
	for ; len(part) >= 8; part = part[8:] {
		a |= binary.NativeEndian.Uint64(part)
	}
	var last [8]byte
	copy(last[:], part)
	return a | b | c | d | binary.NativeEndian.Uint64(last[:])
}
