package main

import (
	"fmt"

	"eckart/internal/gen/arm64"
)

// unpacked writes an unpackFunc: the sum of a product's words and its scale, code by code. It has product's registers.
func unpacked(file *arm64.File, bits int) {
	p := &product{bits: bits, one: true, dot: true}
	params := append(float32s("dst"), arm64.Params("*byte", "w")...)
	params = join(params, ints("blocks", "groupBlocks", "scaleType"), []arm64.Param{{Name: "zeros", Type: "bool"}})
	p.Func = file.Func(fmt.Sprintf("unpack%dNEON", bits), params, "", fmt.Sprintf("is an unpackFunc for codes of %d bits.", bits))
	p.registers()
	dst, left, scaleType := p.Param("dst"), p.Param("blocks"), p.Param("scaleType")
	p.w = p.Param("w")
	zeros, n := p.X(), p.X()
	p.Go("MOVBU %s, %s", p.Frame("zeros"), zeros)
	p.constants(n)
	low := p.V() // of a word, a byte
	p.Go("MOVD $255, %s", n)
	p.Go("VDUP %s, %s", n, low.S4())

	p.Label("group")
	p.group(scaleType, zeros, n)
	p.Load("groupBlocks", n)
	p.Go("CMP %s, %s", n, left)
	p.Go("CSEL LT, %s, %s, %s", left, n, n)
	p.Go("SUB %s, %s", n, left)

	p.Label("block")
	p.loadRaw(0, len(p.raw))
	for j := range quads {
		codes := p.quad(j)
		for c := range 4 {
			for h, v := range codes {
				to := p.acc[h]
				switch {
				case bits == 8: // signed
					p.Go("VSHL $%d, %s, %s", 24-8*c, v.S4(), to.S4())
					p.SSHR(to, to, 24)
				case c == 0:
					p.Go("VAND %s, %s, %s", low.B16(), v.B16(), to.B16())
				default:
					p.Go("VUSHR $%d, %s, %s", 8*c, v.S4(), to.S4())
					if c < 3 {
						p.Go("VAND %s, %s, %s", low.B16(), to.B16(), to.B16())
					}
				}
				p.Go("VADD %s, %s, %s", p.zero[h].S4(), to.S4(), to.S4())
				p.SCVTF(to, to)
				p.FMUL(to, to, p.scale[h])
			}
			p.Go("FSTPQ.P (%s, %s), 32(%s)", p.acc[0].F(), p.acc[1].F(), dst)
		}
	}
	p.AddBytes(p.bits*32, p.w)
	p.Go("SUBS $1, %s", n)
	p.Go("BNE block")
	p.Go("CBNZ %s, group", left)
	p.Ret()
}

// multiplied writes the floatsFunc: two tokens at a time, with eight vectors of sums each, then the one that is left.
func multiplied(file *arm64.File) {
	f := file.Func("floatsNEON", join(float32s("sums", "x", "w"), ints("tokens", "xStride", "cols")), "", "is a floatsFunc for panels of 8 rows.")
	sums, tokens, stride := f.Param("sums"), f.Param("tokens"), f.Param("xStride")
	x, w, cols := f.Param("x"), f.X(), f.X()
	row := []arm64.X{f.X(), f.X()}
	var acc [2][8]arm64.V // by token; the halves of a partial sum side by side
	for t := range acc {
		copy(acc[t][:], f.Vs(8))
	}
	factors, weights := f.Vs(2), f.Vs(8)
	some := func(tokens int) {
		label := func(s string) string { return fmt.Sprintf("%s%d", s, tokens) }
		f.Load("w", w)
		f.Load("cols", cols)
		f.Go("MOVD %s, %s", x, row[0])
		f.Go("ADD %s, %s, %s", stride, x, row[1])
		for _, acc := range acc[:tokens] {
			for _, v := range acc {
				f.Zero(v)
			}
		}
		columns := func(n int, name string) {
			for t := range tokens {
				f.Go("FMOV%s.P %d(%s), %s", name, 4*n, row[t], factors[t].F())
			}
			for i := range n {
				f.Go("FLDPQ.P 32(%s), (%s, %s)", w, weights[2*i].F(), weights[2*i+1].F())
			}
			for i := range 2 * n {
				for t := range tokens {
					f.FMLAElement(acc[t][i], weights[i], factors[t], i/2)
				}
			}
		}
		f.Go("SUBS $4, %s", cols)
		f.Go("BLT %s", label("few"))
		f.Label(label("four"))
		columns(4, "Q")
		f.Go("SUBS $4, %s", cols)
		f.Go("BGE %s", label("four"))
		f.Label(label("few"))
		f.Go("ADDS $3, %s", cols)
		f.Go("BLT %s", label("store"))
		f.Label(label("one"))
		columns(1, "S")
		f.Go("SUBS $1, %s", cols)
		f.Go("BGE %s", label("one"))
		f.Label(label("store"))
		for _, acc := range acc[:tokens] {
			for h := range 2 {
				f.FADD(acc[h], acc[h], acc[4+h])
				f.FADD(acc[2+h], acc[2+h], acc[6+h])
				f.FADD(acc[h], acc[h], acc[2+h])
			}
			f.Go("FSTPQ.P (%s, %s), 32(%s)", acc[0].F(), acc[1].F(), sums)
		}
	}
	f.Go("SUBS $2, %s", tokens)
	f.Go("BLT last")
	f.Label("two")
	some(2)
	f.Go("ADD %s<<1, %s", stride, x)
	f.Go("SUBS $2, %s", tokens)
	f.Go("BGE two")
	f.Label("last")
	f.Go("TBZ $0, %s, done", tokens)
	some(1)
	f.Label("done")
	f.Ret()
}
