package main

import "eckart/internal/gen/arm64"

// sweep writes the sweepFunc: four places are read in turns.
func sweep(file *arm64.File) {
	const streams, line = 4, 64
	f := file.Func("sweepNEON", append(arm64.Params("*byte", "p"), ints("n")...), "uint64", "is a sweepFunc.")
	p, n, part := []arm64.X{f.Param("p")}, f.Param("n"), f.X()
	f.Go("LSR $%d, %s, %s", arm64.Log2(streams), n, part)
	for i := 1; i < streams; i++ {
		p = append(p, f.X())
		f.Go("ADD %s, %s, %s", part, p[i-1], p[i])
	}
	or, v := f.Vs(4), f.Vs(16)
	for _, v := range or {
		f.Zero(v)
	}
	f.Label("line")
	for i := 0; i < len(v); i += 2 {
		f.Go("FLDPQ.P 32(%s), (%s, %s)", p[i/4], v[i].F(), v[i+1].F())
	}
	for i, v := range v {
		f.Go("VORR %s, %s, %s", v.B16(), or[i%4].B16(), or[i%4].B16())
	}
	f.Go("SUBS $%d, %s", line, part)
	f.Go("BNE line")
	for _, v := range or[1:] {
		f.Go("VORR %s, %s, %s", v.B16(), or[0].B16(), or[0].B16())
	}
	low, high := f.X(), f.X()
	f.Go("VMOV %s.D[0], %s", or[0], low)
	f.Go("VMOV %s.D[1], %s", or[0], high)
	f.Go("ORR %s, %s", high, low)
	f.Go("MOVD %s, %s", low, f.Result())
	f.Ret()
}
