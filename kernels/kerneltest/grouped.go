package kerneltest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/kernels"
)

// grouped is a case of the verbs of grouped matrices: tokens by a matrix.
type grouped struct {
	tokens, out, in int
	bits, group     int
	scale           kernels.DType
	zeros, order    bool
}

var widths = []int{8, 4, 3, 2}

// groupeds are cases of every width: all sizes up to 33 of each extent beside odd ones of the others, and the shapes of
// real layers. Groups, types of scales, zero points and orders take turns.
func groupeds() []grouped {
	var sizes []product
	for n := 1; n <= 33; n++ {
		sizes = append(sizes, product{n, 17, 40}, product{3, n, 100}, product{2, 9, n}, product{1, n, 2*n + 1}, product{1, 16, 32 * (n%9 + 1)})
	}
	sizes = append(sizes, product{63, 4, 33}, product{64, 9, 32}, product{65, 8, 40}, product{131, 18, 65}, product{6, 33, 257}, product{13, 34, 130})
	if !testing.Short() {
		sizes = append(sizes, product{1, 960, 960}, product{7, 320, 960}, product{33, 100, 2560}, product{150, 96, 576},
			product{1, 1536, 576}, product{2, 203, 4864})
	}
	var cases []grouped
	for i, p := range sizes {
		for _, bits := range widths {
			g := grouped{p.tokens, p.out, p.in, bits, kernels.GroupedBlock << (i % 4), types[i/4%3], i/2%2 == 0, i%5 == 0}
			if i%4 == 3 { // the whole row
				g.group = (p.in + kernels.GroupedBlock - 1) / kernels.GroupedBlock * kernels.GroupedBlock
			}
			cases = append(cases, g)
		}
	}
	return cases
}

// A matrix is what a Grouped is packed from.
type matrix struct {
	kernels.Grouped
	codes  []byte
	scales []byte
	zeros  []byte
	from   []int32 // Order, or nil
	values []float32
}

// quantized returns a random matrix for a case. Scales have either sign.
func (b *bench) quantized(g grouped) *matrix {
	m := &matrix{Grouped: kernels.Grouped{Rows: g.out, Cols: g.in, Bits: g.bits, Group: g.group, ScaleType: g.scale, Zeros: g.zeros}}
	m.codes = make([]byte, g.out*g.in)
	for i := range m.codes {
		m.codes[i] = byte(b.rand.IntN(1 << g.bits))
	}
	scales := make([]float32, g.out*m.Groups())
	for i := range scales {
		scales[i] = float32(math.Exp(b.rand.NormFloat64())/64) * float32(1-2*b.rand.IntN(2))
	}
	if g.zeros {
		m.zeros = make([]byte, len(scales))
		for i := range m.zeros {
			m.zeros[i] = byte(min(255, b.rand.IntN(1<<g.bits+1)))
		}
	}
	if g.order {
		for _, i := range b.rand.Perm(g.in) {
			m.from = append(m.from, int32(i))
		}
	}
	m.scale(scales)
	return m
}

// scale sets the scales, and the values that follow from them.
func (m *matrix) scale(scales []float32) {
	m.scales, m.values = nil, make([]float32, len(m.codes))
	for _, s := range scales {
		switch bits := encode(m.ScaleType, s); m.ScaleType {
		case kernels.F32:
			m.scales = binary.NativeEndian.AppendUint32(m.scales, bits)
		default:
			m.scales = binary.NativeEndian.AppendUint16(m.scales, uint16(bits))
		}
	}
	for i, code := range m.codes {
		at := i/m.Cols*m.Groups() + i%m.Cols/m.Group
		zero := 1 << (m.Bits - 1)
		if m.Zeros {
			zero = int(m.zeros[at])
		}
		m.values[i] = round(m.ScaleType, scales[at]) * float32(int(code)-zero)
	}
}

// rows returns the matrix of n rows of m from row on.
func (m *matrix) rows(row, n int) *matrix {
	part := *m
	part.Rows = n
	part.codes = m.codes[row*m.Cols:][:n*m.Cols]
	groups := m.Groups()
	part.scales = m.scales[row*groups*m.ScaleType.Bytes():][:n*groups*m.ScaleType.Bytes()]
	if m.Zeros {
		part.zeros = m.zeros[row*groups:][:n*groups]
	}
	return &part
}

// pack packs m, in pieces of rows, into memory between guards.
func (b *bench) pack(m *matrix, pieces ...int) kernels.Grouped {
	b.Helper()
	const beside = 64
	whole := b.take(1, beside+m.PackedBytes()+beside, kernels.U8)
	buf := make([]byte, whole.Cols)
	for i := range buf {
		buf[i] = 0xa5
	}
	b.Upload(whole, buf)
	w := m.Grouped
	w.Packed = whole.Window(beside, m.PackedBytes())
	if m.from != nil {
		w.Order = b.place(frame{left: 3, right: 3}, 1, m.Cols, kernels.I32, func(i int) uint32 { return uint32(m.from[i]) }).Mat
	}
	inPieces(pieces, func(row, n int) {
		p := m.rows(row, n)
		b.Pack(w, row, p.codes, p.scales, p.zeros)
	})
	b.sync()
	for i, v := range b.bytes(whole) {
		if v != 0xa5 && (i < beside || i >= whole.Cols-beside) {
			b.Fatalf("%+v: Pack wrote %d bytes beside Packed", m.Grouped, i)
		}
	}
	return w
}

// reference returns what tokens rows of x give, plus old.
func (b *bench) groupedReference(m *matrix, x, old []float32) []float64 {
	in := slices.Clone(x)
	for t := 0; t < len(x); t += m.Cols {
		for i, from := range m.from {
			in[t+i] = x[t+int(from)]
		}
		if b.options.Rounds {
			for c := 0; c < m.Cols; c += kernels.GroupedBlock {
				roundBlock(in[t+c : t+min(c+kernels.GroupedBlock, m.Cols)])
			}
		}
	}
	return matMulReference(in, m.values, m.Cols, old)
}

// roundBlock rounds a block of activations as kernels.Stream allows it.
func roundBlock(x []float32) {
	var m float32
	for _, v := range x {
		m = max(m, float32(math.Abs(float64(v))))
	}
	for i, v := range x {
		if x[i] = 0; m >= 0x1p-100 {
			v *= 127 / m
			x[i] = m / 127 * float32(math.RoundToEven(float64(v)))
		}
	}
}

// Pack and GroupedEmbed give back what the codes stand for: an integer times a scale has one F32.
func testPack(b *bench) {
	for i, g := range groupeds() {
		if g.tokens > 3 || g.order {
			continue
		}
		m := b.quantized(g)
		ids, want := make([]int32, 5), []float32(nil)
		for i := range ids {
			ids[i] = b.rand.Int32N(int32(g.out))
			want = append(want, m.values[int(ids[i])*g.in:][:g.in]...)
		}
		b.each(fmt.Sprintf("%+v", g), func(name string, f frame) {
			w := b.pack(m, groupedPieces(g.out, i)...)
			y := b.blank(f, len(ids), g.in)
			b.GroupedEmbed(y.Mat, w, b.ints(ids).Mat)
			sameBits(b.T, name, b.read(y), want)
		})
	}
}

// groupedPieces returns pieces that Pack takes for so many rows.
func groupedPieces(rows, i int) (pieces []int) {
	for rows > 0 {
		n := min(rows, kernels.GroupedPanel*(1+i%3))
		pieces = append(pieces, n)
		rows -= n
	}
	return pieces
}

func testGroupedMatMul(b *bench) {
	for _, g := range groupeds() {
		m := b.quantized(g)
		x, old := b.normal(g.tokens*g.in), b.normal(g.tokens*g.out)
		want, sum := b.groupedReference(m, x, nil), b.groupedReference(m, x, old)
		b.each(fmt.Sprintf("%+v", g), func(name string, f frame) {
			w, in := b.pack(m, g.out), b.floats(f, g.tokens, g.in, kernels.F32, x)
			y := b.blank(f, g.tokens, g.out)
			b.GroupedMatMul(y.Mat, in.Mat, w, kernels.Set)
			b.judge("GroupedMatMul", kernels.F32, name+", Set", g.out, b.read(y), want)
			y = b.floats(f, g.tokens, g.out, kernels.F32, old)
			b.GroupedMatMul(y.Mat, in.Mat, w, kernels.Add)
			b.judge("GroupedMatMul", kernels.F32, name+", Add", g.out, b.read(y), sum)
		})
	}
}

// testGroupedExtremes holds sums of integers at their ends: nothing may wrap around or saturate.
func testGroupedExtremes(b *bench) {
	const tokens, out, in = 9, 19, 160
	for _, bits := range widths {
		top := byte(1<<bits - 1)
		for _, zeros := range []bool{false, true} {
			for i, code := range []func(i int) byte{
				func(int) byte { return top },
				func(int) byte { return 0 },
				func(i int) byte { return top * byte(i&1) },
				func(i int) byte { return top * byte(i/2&1) },
				func(i int) byte { return top * byte(i/16&1) },
			} {
				g := grouped{tokens, out, in, bits, kernels.GroupedBlock << (i % 3), kernels.F32, zeros, false}
				m := b.quantized(g)
				for j := range m.codes {
					m.codes[j] = code(j)
				}
				for j := range m.zeros {
					m.zeros[j] = 255 * byte(i/2%2)
				}
				scales := make([]float32, g.out*m.Groups())
				for j := range scales {
					scales[j] = 1
				}
				m.scale(scales)
				x := make([]float32, tokens*in)
				for j := range x {
					// 127 is its own rounding: sums are exact on every device.
					x[j] = [...]float32{127, -127, 127, -127}[j/in%4]
					if t := j / in; t%4 >= 2 && j>>(t/4)&1 == 1 {
						x[j] = -x[j]
					}
				}
				want := b.groupedReference(m, x, nil)
				for _, pieces := range cuts(tokens) {
					b.reset()
					w, in := b.pack(m, out), b.floats(packed, tokens, in, kernels.F32, x)
					y := b.blank(packed, tokens, out)
					inPieces(pieces, func(i, n int) { b.GroupedMatMul(y.Slice(i, n), in.Slice(i, n), w, kernels.Set) })
					for j, v := range b.read(y) {
						if float64(v) != want[j] {
							b.Fatalf("%+v, codes %d, in pieces of %s rows, element (%d, %d): got %v, want %v", g, i, showCut(pieces), j/out, j%out, v, want[j])
						}
					}
				}
			}
		}
	}
}

// testGroupedNotFinite holds that what is not finite makes all of its own row not finite, and nothing of another.
func testGroupedNotFinite(b *bench) {
	const tokens, out, in = 11, 21, 75
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, bits := range widths {
		m := b.quantized(grouped{tokens, out, in, bits, 32, kernels.F16, bits == 4, bits == 3})
		x := b.normal(tokens * in)
		multiply := func(pieces ...int) []float32 {
			b.reset()
			w, in, y := b.pack(m, out), b.floats(packed, tokens, in, kernels.F32, x), b.blank(packed, tokens, out)
			inPieces(pieces, func(i, n int) { b.GroupedMatMul(y.Slice(i, n), in.Slice(i, n), w, kernels.Set) })
			return b.read(y)
		}
		want := multiply(tokens)
		for _, bad := range []float32{inf, -inf, nan} {
			for _, col := range []int{0, 31, 32, in - 1} {
				const row = 5
				old := x[row*in+col]
				x[row*in+col] = bad
				for _, pieces := range [][]int{{tokens}, {row, 1, tokens - row - 1}} {
					for i, v := range multiply(pieces...) {
						name := fmt.Sprintf("%d bits, %v in column %d, in pieces of %s rows: element (%d, %d)", bits, bad, col, showCut(pieces), i/out, i%out)
						if i/out != row {
							sameBits(b.T, name, []float32{v}, want[i:i+1])
						} else if finite := v - v; finite == 0 {
							b.Fatalf("%s is %v", name, v)
						}
					}
				}
				x[row*in+col] = old
			}
		}
	}
}

// testGroupedMagnitudes holds that rows far from 1 lose nothing, down to where a device may take them for zero.
func testGroupedMagnitudes(b *bench) {
	magnitudes := []float64{1e30, 1e-25, 1, 1e-36, 0, 1e-42, 1e10}
	g := grouped{len(magnitudes), 12, 96, 4, 32, kernels.BF16, false, false}
	m := b.quantized(g)
	x := b.normal(g.tokens * g.in)
	for i := range x {
		x[i] *= float32(magnitudes[i/g.in])
	}
	w, in, y := b.pack(m, g.out), b.floats(packed, g.tokens, g.in, kernels.F32, x), b.blank(packed, g.tokens, g.out)
	b.GroupedMatMul(y.Mat, in.Mat, w, kernels.Set)
	got, want := b.read(y), b.groupedReference(m, x, nil)
	for i, magnitude := range magnitudes {
		row, expected := got[i*g.out:][:g.out], want[i*g.out:][:g.out]
		if magnitude < 0x1p-90 {
			for _, v := range row {
				if diff := math.Abs(float64(v)); !(diff <= 0x1p-90) {
					b.Fatalf("row of magnitude %g gives %v", magnitude, v)
				}
			}
			continue
		}
		b.judge("GroupedMatMul", kernels.F32, fmt.Sprintf("row of magnitude %g", magnitude), g.out, row, expected)
	}
}

// multiplyGrouped runs x·wᵀ in pieces.
func multiplyGrouped(b *bench, f frame, m *matrix, x []float32, pieces []int) []float32 {
	b.reset()
	tokens := len(x) / m.Cols
	w, in := b.pack(m, m.Rows), b.floats(f, tokens, m.Cols, kernels.F32, x)
	y := b.blank(f, tokens, m.Rows)
	inPieces(pieces, func(i, n int) { b.GroupedMatMul(y.Slice(i, n), in.Slice(i, n), w, kernels.Set) })
	return b.read(y)
}

// companyGroupeds are the cases of grouped products in company.
func companyGroupeds() (cases []grouped) {
	for i, bits := range widths {
		cases = append(cases, grouped{67, 21, 100, bits, 32, types[i%3], i%2 == 0, false}, grouped{67, 40, 256, bits, 128, types[(i+1)%3], i%2 == 1, false},
			grouped{29, 130, 33, bits, 64, types[i%3], false, true}, grouped{131, 3, 40, bits, 64, types[i%3], true, false})
	}
	return cases
}

func testGroupedInCompany(b *bench) {
	for _, g := range companyGroupeds() {
		m, x := b.quantized(g), b.normal(g.tokens*g.in)
		want := multiplyGrouped(b, packed, m, x, []int{g.tokens})
		all := b.company("GroupedMatMul", g.out)
		all.compare(b.T, fmt.Sprintf("%+v", g), []int{g.tokens}, want)
		for _, f := range frames {
			for _, pieces := range cuts(g.tokens) {
				all.compare(b.T, fmt.Sprintf("%+v, %s, in pieces of %s rows", g, f, showCut(pieces)), pieces, multiplyGrouped(b, f, m, x, pieces))
			}
		}
		reversed := slices.Concat(turn(x, g.in)...)
		got := slices.Concat(turn(multiplyGrouped(b, packed, m, reversed, []int{g.tokens}), g.out)...)
		sameBits(b.T, fmt.Sprintf("%+v, rows in reverse order", g), got, want)
		for _, o := range []int{0, g.out / 2, g.out - 1} {
			column := make([]float32, g.tokens)
			for i := range column {
				column[i] = want[i*g.out+o]
			}
			got := multiplyGrouped(b, packed, m.rows(o, 1), x, []int{g.tokens})
			sameBits(b.T, fmt.Sprintf("%+v, weight row %d alone", g, o), got, column)
		}
	}
}

func sampleGrouped(b *bench) (all []float32) {
	for _, g := range companyGroupeds() {
		all = append(all, multiplyGrouped(b, packed, b.quantized(g), b.normal(g.tokens*g.in), []int{g.tokens})...)
	}
	return all
}
