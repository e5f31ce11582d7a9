package compress

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
)

// Costs say how long a device takes to apply matrices to one token: the time to read them, at a rate that depends on how
// they are stored, and something for each product.
type Costs struct {
	Device   string          `json:"device"`
	Rates    map[int]float64 `json:"bytes_per_second"` // by bits of an element; 16 is bf16
	Overhead float64         `json:"seconds_per_product"`
}

// costBits are the elements that are measured.
var costBits = []int{16, 8, 4, 3, 2}

// Seconds returns the time to apply a matrix that is stored in f.
func (c Costs) Seconds(f Footprint) float64 {
	seconds := 0.0
	for _, s := range slices.Concat(f.Matrices, f.Shared) {
		bits := 16
		if s.Rounding != nil {
			bits = s.Rounding.Bits
		}
		seconds += float64(s.Bytes())/c.Rates[bits] + c.Overhead
	}
	if f.Kept > 0 { // most such kinds run at 8 bits
		seconds += float64(f.Kept)/c.Rates[8] + c.Overhead
	}
	return seconds
}

const (
	// costBytes is read in each measurement: matrices enough that caches hold few of them when their turn comes again.
	costBytes = 192 << 20
	costRows  = 2048 // rows and columns of each of them
	costTurns = 5    // of which the median counts
)

// MeasureCosts measures the costs of a device, in a second or two.
func MeasureCosts(d kernels.Device) (Costs, error) {
	c := Costs{Device: d.Name(), Rates: map[int]float64{}}
	for _, bits := range costBits {
		seconds, m, err := measureCost(d, bits, costRows, costBytes)
		if err != nil {
			return c, err
		}
		c.Rates[bits] = float64(m.bytes) / seconds
	}
	// A matrix of a few kilobytes takes no time to read: what is left is the product itself.
	seconds, m, err := measureCost(d, 16, 64, 1<<20)
	if err != nil {
		return c, err
	}
	c.Overhead = max(0, seconds/float64(len(m.linears))-64*64*2/c.Rates[16])
	return c, nil
}

// measureCost returns the seconds that the matrices of newCostMeter take. The meter is closed.
func measureCost(d kernels.Device, bits, rows int, bytes int64) (float64, *costMeter, error) {
	m, err := newCostMeter(d, bits, rows, bytes)
	var seconds float64
	if err == nil {
		seconds, err = m.turn(costTurns)
	}
	if err = errors.Join(err, m.close()); err != nil {
		return 0, nil, fmt.Errorf("measure kernels: %w", err)
	}
	return seconds, m, nil
}

// A costMeter is some matrices of one kind on a device.
type costMeter struct {
	weights kernels.Arena
	stream  kernels.Stream
	pass    *layers.Pass
	x, y    kernels.Mat
	linears []layers.Linear
	bytes   int64 // that applying all of them reads
}

// newCostMeter binds square matrices of so many rows with elements of so many bits, of at most the given bytes together. The
// meter is to be closed after an error too.
func newCostMeter(d kernels.Device, bits, rows int, bytes int64) (*costMeter, error) {
	m := new(costMeter)
	var err error
	if m.stream, err = d.NewStream(); err != nil {
		return m, err
	}
	random := linalg.New(rows, rows)
	r := rand.New(rand.NewPCG(1, uint64(bits)))
	for i := range random.Data {
		random.Data[i] = r.NormFloat64()
	}
	values := random.Float32s()
	var w layers.Weight
	if bits == 16 {
		if w, err = layers.NewMatrix(random.Data, rows, rows, kernels.BF16); err != nil {
			return m, err
		}
	} else {
		if w, err = (layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}).Quantize(values, rows, nil); err != nil {
			return m, err
		}
	}
	count := max(1, int(bytes/layers.StoredBytes(w)))
	if m.weights, err = d.NewArena(2*int64(count)*(layers.StoredBytes(w)+kernels.Align) + 8*int64(rows) + 4096); err != nil {
		return m, err
	}
	for range count {
		l, err := w.Bind(m.weights, m.stream)
		if err != nil {
			return m, err
		}
		m.linears, m.bytes = append(m.linears, l), m.bytes+l.Bytes()
	}
	if m.x, err = m.weights.Alloc(1, rows, kernels.F32); err != nil {
		return m, err
	}
	if m.y, err = m.weights.Alloc(1, rows, kernels.F32); err != nil {
		return m, err
	}
	m.stream.Upload(m.x, kernels.Float32Bytes(values[:rows]))
	m.pass = layers.NewPass(m.stream, layers.Scratch{})
	return m, m.stream.Sync()
}

// turn returns the median seconds that applying all matrices takes.
func (m *costMeter) turn(turns int) (float64, error) {
	times := make([]float64, 0, turns+1)
	for range turns + 1 { // the first brings pages and clocks up
		start := time.Now()
		for _, l := range m.linears {
			l.Apply(m.pass, m.y, m.x, kernels.Set)
		}
		if err := m.stream.Sync(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start).Seconds())
	}
	times = times[1:]
	slices.Sort(times)
	return times[turns/2], nil
}

func (m *costMeter) close() error {
	if m.weights == nil {
		return nil
	}
	return m.weights.Close()
}
