package cuda_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cuda"
)

// longCase is decoding from sequences so long that chunks change their length within a call: rows that see up to 8192 keys
// have chunks of 128 tokens, those after them 256.
type longCase struct {
	heads, keyHeads, dim, window int
	from, rows                   []int // of each sequence
}

// decoder holds a longCase on a device.
type decoder struct {
	testing.TB
	kernels.Stream
	arena kernels.Arena
	longCase
	kv      kernels.Pages
	q, k, v [][]float32 // of each sequence: its last rows, all its keys, all its values
	blocks  [][]int32
}

const longBlock = 32 // tokens

func newDecoder(t testing.TB, o cuda.Options, c longCase) *decoder {
	t.Helper()
	dev := open(t, o)
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	a, err := dev.NewArena(32 << 20)
	if err != nil {
		t.Fatal(err)
	}
	d := &decoder{TB: t, Stream: s, arena: a, longCase: c}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	normal := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.IntN(512)-256) / 128 // a number of F16
		}
		return v
	}
	count := 0
	for i, from := range c.from {
		tokens := from + c.rows[i]
		d.q = append(d.q, normal(c.rows[i]*c.heads*c.dim))
		d.k, d.v = append(d.k, normal(tokens*c.keyHeads*c.dim)), append(d.v, normal(tokens*c.keyHeads*c.dim))
		var blocks []int32
		for range (tokens + longBlock - 1) / longBlock {
			blocks = append(blocks, int32(count))
			count++
		}
		d.blocks = append(d.blocks, blocks)
	}
	if count == 0 {
		return d
	}
	d.kv = kernels.Pages{Heads: c.keyHeads, KeyDim: c.dim, ValueDim: c.dim, BlockTokens: longBlock}
	d.kv.K = d.alloc(count, c.keyHeads*longBlock*c.dim, kernels.F16)
	d.kv.V = d.alloc(count, c.keyHeads*longBlock*c.dim, kernels.F16)
	for i := range c.from {
		tokens := c.from[i] + c.rows[i]
		slots := make([]int32, tokens)
		for j := range slots {
			slots[j] = d.blocks[i][j/longBlock]*longBlock + int32(j%longBlock)
		}
		d.Store(d.kv, d.floats(tokens, d.k[i]), d.floats(tokens, d.v[i]), d.ints(tokens, slots))
	}
	return d
}

func (d *decoder) alloc(rows, cols int, t kernels.DType) kernels.Mat {
	d.Helper()
	m, err := d.arena.Alloc(rows, cols, t)
	if err != nil {
		d.Fatal(err)
	}
	return m
}

func (d *decoder) floats(rows int, v []float32) kernels.Mat {
	m := d.alloc(rows, len(v)/rows, kernels.F32)
	d.Upload(m, kernels.Float32Bytes(v))
	return m
}

func (d *decoder) ints(rows int, v []int32) kernels.Mat {
	m := d.alloc(rows, len(v)/rows, kernels.I32)
	d.Upload(m, kernels.Int32Bytes(v))
	return m
}

// attend attends from rows [first, first+n) of every sequence that has them, and returns those of each.
func (d *decoder) attend(first, n int) [][]float32 {
	d.Helper()
	bounds, from, most := []int32{0}, []int32(nil), 0
	var q []float32
	var who []int
	for i, rows := range d.rows {
		if first >= rows {
			continue
		}
		who = append(who, i)
		end := min(first+n, rows)
		q = append(q, d.q[i][first*d.heads*d.dim:end*d.heads*d.dim]...)
		bounds = append(bounds, bounds[len(bounds)-1]+int32(end-first))
		from = append(from, int32(d.from[i]+first))
		most = max(most, len(d.blocks[i]))
	}
	var table []int32
	for _, i := range who {
		table = append(append(table, d.blocks[i]...), make([]int32, most-len(d.blocks[i]))...)
	}
	rows := int(bounds[len(who)])
	y := d.alloc(rows, d.heads*d.dim, kernels.F32)
	d.Attend(y, d.floats(rows, q), d.kv, kernels.Seqs{
		Count: len(who), Rows: d.ints(len(bounds), bounds), From: d.ints(len(who), from), Blocks: d.ints(len(who), table),
	}, kernels.Attention{Heads: d.heads, Scale: d.scale(), Window: d.window})
	got := make([]float32, rows*d.heads*d.dim)
	d.Download(kernels.Float32Bytes(got), y)
	if err := d.Sync(); err != nil {
		d.Fatal(err)
	}
	each := make([][]float32, len(d.rows))
	for j, i := range who {
		each[i] = got[int(bounds[j])*d.heads*d.dim : int(bounds[j+1])*d.heads*d.dim]
	}
	return each
}

func (d *decoder) scale() float32 { return float32(1 / math.Sqrt(float64(d.dim))) }

// reference attends from a row of a head of a sequence in float64.
func (d *decoder) reference(seq, row, head int) []float64 {
	width, at := d.keyHeads*d.dim, head/(d.heads/d.keyHeads)*d.dim
	q := d.q[seq][(row*d.heads+head)*d.dim:][:d.dim]
	high, low := d.from[seq]+row+1, 0
	if d.window > 0 {
		low = max(0, high-d.window)
	}
	scores, top := make([]float64, high), math.Inf(-1)
	for j := low; j < high; j++ {
		for i, x := range q {
			scores[j] += float64(x) * float64(d.k[seq][j*width+at+i])
		}
		scores[j] *= float64(d.scale())
		top = max(top, scores[j])
	}
	y, sum := make([]float64, d.dim), 0.0
	for j := low; j < high; j++ {
		w := math.Exp(scores[j] - top)
		sum += w
		for i := range y {
			y[i] += w * float64(d.v[seq][j*width+at+i])
		}
	}
	for i := range y {
		y[i] /= sum
	}
	return y
}

// A long sequence is cut into chunks; whether blocks share them or one has all, and which rows come along, changes no bit.
func TestAttendChunks(t *testing.T) {
	cuda.KernelsAlone(t)
	cases := []longCase{
		{heads: 6, keyHeads: 2, dim: 16, from: []int{8189, 300, 90}, rows: []int{6, 1, 3}},
		{heads: 3, keyHeads: 1, dim: 32, window: 1500, from: []int{4001, 1490}, rows: []int{2, 16}},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			split, whole := newDecoder(t, cuda.Options{}, c), newDecoder(t, cuda.Options{Workspace: 1 << 10}, c)
			want := split.attend(0, 16)
			var sum, norm float64
			for seq, rows := range c.rows {
				for row := range rows {
					for head := range c.heads {
						for i, w := range split.reference(seq, row, head) {
							diff := float64(want[seq][(row*c.heads+head)*c.dim+i]) - w
							sum, norm = sum+diff*diff, norm+w*w
						}
					}
				}
			}
			if nmse := sum / norm; !(nmse < 4e-13) {
				t.Errorf("error (NMSE) is %.3g", nmse)
			}
			same := func(name string, got [][]float32, first int) {
				t.Helper()
				for seq, y := range got {
					for i, v := range y {
						if w := want[seq][first*c.heads*c.dim+i]; math.Float32bits(v) != math.Float32bits(w) {
							t.Fatalf("%s: element %d of sequence %d from row %d on is %v, want %v", name, i, seq, first, v, w)
						}
					}
				}
			}
			same("without room for partial results", whole.attend(0, 16), 0)
			for first := 0; first < 6; first += 5 {
				same("one row", split.attend(first, 1), first)
				same("two rows, without room", whole.attend(first, 2), first)
			}
		})
	}
}

// Rotation and storing in one launch leave the bits of the three verbs in the cache and in the queries.
func TestRotateStore(t *testing.T) {
	cuda.KernelsAlone(t)
	type rotaryStore interface {
		RotateStore(kv kernels.Pages, q, k, v, angles, slots kernels.Mat, heads int)
	}
	const rows, heads, keyHeads, blockTokens, blocks = 5, 3, 2, 16, 3
	slots := []int32{17, -1, 3, 40, 18}
	for _, c := range []struct {
		ty                       kernels.DType
		keyDim, valueDim, turned int
	}{
		{kernels.F16, 32, 48, 32}, {kernels.BF16, 48, 16, 24}, {kernels.F32, 32, 32, 32}, {kernels.F16, 18, 7, 14}, {kernels.BF16, 20, 20, 20},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			d := newDecoder(t, cuda.Options{}, longCase{})
			rng := rand.New(rand.NewPCG(3, 4))
			normal := func(cols int) []float32 {
				v := make([]float32, rows*cols)
				for i := range v {
					v[i] = float32(rng.NormFloat64())
				}
				return v
			}
			query, key, value := normal(heads*c.keyDim), normal(keyHeads*c.keyDim), normal(keyHeads*c.valueDim)
			angles, places := d.floats(rows, normal(c.turned)), d.ints(rows, slots)
			run := func(fused bool) (results [3][]byte) {
				kv := kernels.Pages{Heads: keyHeads, KeyDim: c.keyDim, ValueDim: c.valueDim, BlockTokens: blockTokens}
				kv.K = d.alloc(blocks, keyHeads*blockTokens*c.keyDim, c.ty)
				kv.V = d.alloc(blocks, keyHeads*blockTokens*c.valueDim, c.ty)
				q, k, v := d.floats(rows, query), d.floats(rows, key), d.floats(rows, value)
				if fused {
					d.Stream.(rotaryStore).RotateStore(kv, q, k, v, angles, places, heads)
				} else {
					d.Rotate(q, angles, heads)
					d.Rotate(k, angles, keyHeads)
					d.Store(kv, k, v, places)
				}
				for i, m := range []kernels.Mat{q, kv.K, kv.V} {
					results[i] = make([]byte, m.Bytes())
					d.Download(results[i], m)
				}
				if err := d.Sync(); err != nil {
					t.Fatal(err)
				}
				return results
			}
			want, got := run(false), run(true)
			for i, name := range []string{"queries", "keys", "values"} {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("%s differ from those of Rotate and Store", name)
				}
			}
		})
	}
}
