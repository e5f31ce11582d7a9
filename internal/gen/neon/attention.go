package main

import (
	"fmt"

	"eckart/internal/gen/arm64"
)

// What kernels/cpu/attention.go knows by the same names.
const (
	tileTokens  = 128
	groupTokens = 64
	chunkTokens = 16
	maxQueries  = 6
	fewQueries  = 4
)

// attention writes the scoresFuncs and the valuesFuncs.
func attention(f *arm64.File) {
	for _, cache := range []string{"F32", "F16", "BF16"} {
		for queries := 1; queries <= maxQueries; queries++ {
			scores(f, cache, queries)
		}
		for queries := 1; queries <= maxQueries; queries++ {
			values(f, cache, queries)
		}
	}
}

// attended is a function of attention that is being written. Its sums are queries by vectors.
type attended struct {
	*arm64.Func
	cache string
	sums  [][]arm64.V
	by    []arm64.V // scalars of each query
	pairs []pair    // vectors of the cache that take turns
}

// most returns how many vectors of sums a query has: what the registers hold beside two vectors of the cache.
func most(queries int) int {
	switch {
	case queries == 1:
		return 16
	case queries <= 3:
		return 8
	}
	return 4
}

func (a *attended) registers(queries, vectors int) {
	for range queries {
		a.sums = append(a.sums, a.Vs(vectors))
	}
	a.by = a.Vs(queries)
	for range min(4, (32-queries*vectors-queries)/2) {
		a.pairs = append(a.pairs, pair{a.V(), a.V()})
	}
}

// load loads eight elements of the cache, at bytes from r; if at is negative, at r, which it moves on.
func (a *attended) load(r arm64.X, at int, v pair) {
	bytes := 2 * lanes * elementBytes(a.cache)
	from, moves := fmt.Sprintf("%d(%s)", at, r), ""
	if at < 0 {
		from, moves = fmt.Sprintf("%d(%s)", bytes, r), ".P"
	}
	if a.cache == "F32" {
		a.Go("FLDPQ%s %s, (%s, %s)", moves, from, v[0].F(), v[1].F())
		return
	}
	a.Go("FMOVQ%s %s, %s", moves, from, v[0].F())
	widen(a.Func, a.cache, v[1], v[0], true)
	widen(a.Func, a.cache, v[0], v[0], false)
}

// multiply adds to the sums from vector i on the products of a pair with element e of every query's scalars.
func (a *attended) multiply(i, e int, v pair) {
	for q, by := range a.by {
		for j, v := range v {
			a.FMLAElement(a.sums[q][i+j], v, by, e)
		}
	}
}

// scores writes a scoresFunc. A score is one chain of multiply-adds along the features.
func scores(file *arm64.File, cache string, queries int) {
	name := fmt.Sprintf("scores%d%sNEON", queries, cache)
	params := join(float32s("s", "q"), arm64.Params("*int", "rows"), arm64.Params("*byte", "k"), arm64.Params("*int", "chunks", "ahead"), ints("groups", "dim"))
	f := file.Func(name, params, "", fmt.Sprintf("is a scoresFunc of %d queries.", queries))
	a := attended{Func: f, cache: cache}
	const perChunk = chunkTokens / lanes
	chunks := most(queries) / perChunk // of a pass
	a.registers(queries, most(queries))
	s, k, now, later, passes, dim := f.Param("s"), f.Param("k"), f.Param("chunks"), f.Param("ahead"), f.Param("groups"), f.Param("dim")
	count, to := f.X(), f.X()
	var row, key, ahead []arm64.X
	f.Load("rows", to)
	for i := range queries {
		row = append(row, f.Param("q"))
		f.Go("MOVD %d(%s), %s", i*8, to, count)
		f.Go("ADD %s, %s", count, row[i])
	}
	for range chunks {
		key = append(key, f.X())
		if queries <= fewQueries {
			ahead = append(ahead, f.X())
		}
	}
	if n := groupTokens / chunkTokens / chunks; n > 1 {
		f.Go("LSL $%d, %s", arm64.Log2(n), passes)
	}

	f.Label("pass")
	for i := range key {
		f.Go("MOVD.P 8(%s), %s", now, key[i])
		f.Go("ADD %s, %s", k, key[i])
	}
	for i := range ahead {
		f.Go("MOVD.P 8(%s), %s", later, ahead[i])
		f.Go("ADD %s, %s", k, ahead[i])
	}
	for _, sums := range a.sums {
		for _, v := range sums {
			f.Zero(v)
		}
	}
	// A pair is half a chunk's keys at a feature.
	features := func(n int, name string) {
		for q, r := range row {
			f.Go("FMOV%s.P %d(%s), %s", name, 4*n, r, a.by[q].F())
		}
		pairs := len(key) * perChunk / 2
		inTurn(a.pairs, n*pairs, func(i int, v pair) { a.load(key[i%pairs/2], -1, v) },
			func(i int, v pair) { a.multiply(i%pairs*2, i/pairs, v) })
	}
	f.Go("SUBS $4, %s, %s", dim, count)
	f.Go("BLT few")
	f.Label("four")
	features(4, "Q")
	bytes := 4 * chunkTokens * elementBytes(cache)
	for _, r := range ahead {
		for line := 0; line < bytes; line += 64 {
			f.Go("PRFM %d(%s), PLDL2KEEP", line, r)
		}
		f.AddBytes(bytes, r)
	}
	f.Go("SUBS $4, %s", count)
	f.Go("BGE four")
	f.Label("few")
	f.Go("ADDS $3, %s", count)
	f.Go("BLT store")
	f.Label("one")
	features(1, "S")
	f.Go("SUBS $1, %s", count)
	f.Go("BGE one")

	f.Label("store")
	f.Go("MOVD %s, %s", s, to)
	for q, sums := range a.sums {
		for i := 0; i < len(sums); i += 2 {
			f.Go("FSTPQ (%s, %s), %d(%s)", sums[i].F(), sums[i+1].F(), i*lanes*4, to)
		}
		f.Go("SUB %s<<2, %s", dim, row[q])
		if q+1 < queries {
			f.AddBytes(tileTokens*4, to)
		}
	}
	f.AddBytes(chunks*chunkTokens*4, s)
	f.Go("SUBS $1, %s", passes)
	f.Go("BNE pass")
	f.Ret()
}

// values writes a valuesFunc. A feature of a result is one chain of multiply-adds along the tokens.
func values(file *arm64.File, cache string, queries int) {
	name := fmt.Sprintf("values%d%sNEON", queries, cache)
	params := join(float32s("y"), ints("stride"), float32s("p"), arm64.Params("*byte", "v"), arm64.Params("*int", "chunks", "ahead"), ints("from", "to", "width"))
	f := file.Func(name, params, "", fmt.Sprintf("is a valuesFunc of %d queries.", queries))
	a := attended{Func: f, cache: cache}
	a.registers(queries, most(queries))
	bytes := elementBytes(cache)
	y, stride, v, chunks, later := f.Param("y"), f.Param("stride"), f.Param("v"), f.Param("chunks"), f.Param("ahead")
	to, width, tokenBytes := f.Param("to"), f.Param("width"), f.X()
	token, value, ahead, count, p, scratch := f.X(), f.X(), f.X(), f.X(), f.X(), f.X()
	f.Go("LSL $%d, %s, %s", arm64.Log2(bytes), width, tokenBytes)
	all := a.sums
	for n := most(queries); n >= chunkTokens/lanes; n /= 2 {
		label := func(s string) string { return fmt.Sprintf("%s%d", s, n*lanes) }
		a.sums = nil
		for _, sums := range all {
			a.sums = append(a.sums, sums[:n])
		}
		f.Label(label("features"))
		f.Go("CMP $%d, %s", n*lanes, width)
		f.Go("BLT %s", label("done"))
		a.each(y, stride, scratch, func(u, v arm64.V, at int) { f.Go("FLDPQ %d(%s), (%s, %s)", at, scratch, u.F(), v.F()) })
		f.Load("from", token)

		f.Label(label("chunk"))
		f.Go("LSR $%d, %s, %s", arm64.Log2(chunkTokens), token, count)
		f.Go("ADD %s<<3, %s, %s", count, chunks, value)
		f.Go("MOVD (%s), %s", value, value)
		f.Go("ADD %s<<3, %s, %s", count, later, ahead)
		f.Go("MOVD (%s), %s", ahead, ahead)
		f.Go("AND $%d, %s, %s", chunkTokens-1, token, count)
		f.Go("MUL %s, %s, %s", count, tokenBytes, scratch)
		f.Go("ADD %s, %s", v, scratch)
		f.Go("ADD %s, %s", scratch, value)
		f.Go("ADD %s, %s", scratch, ahead)
		f.Load("p", p)
		f.Go("ADD %s<<2, %s", token, p)
		// count = min(the chunk's rest, the tokens' rest)
		f.Go("MOVD $%d, %s", chunkTokens, scratch)
		f.Go("SUB %s, %s, %s", count, scratch, count)
		f.Go("SUB %s, %s, %s", token, to, scratch)
		f.Go("CMP %s, %s", count, scratch)
		f.Go("CSEL LT, %s, %s, %s", scratch, count, count)
		f.Go("ADD %s, %s", count, token)

		f.Label(label("token"))
		for q, by := range a.by {
			f.Go("FMOVS %d(%s), %s", q*tileTokens*4, p, by.F())
		}
		inTurn(a.pairs, n/2, func(i int, v pair) { a.load(value, i*2*lanes*bytes, v) },
			func(i int, v pair) { a.multiply(i*2, 0, v) })
		for line := 0; line < n*lanes*bytes && queries <= fewQueries; line += 64 {
			f.Go("PRFM %d(%s), PLDL2KEEP", line, ahead)
		}
		f.AddBytes(4, p)
		f.Go("ADD %s, %s", tokenBytes, value)
		if queries <= fewQueries {
			f.Go("ADD %s, %s", tokenBytes, ahead)
		}
		f.Go("SUBS $1, %s", count)
		f.Go("BNE %s", label("token"))
		f.Go("CMP %s, %s", to, token)
		f.Go("BLT %s", label("chunk"))

		a.each(y, stride, scratch, func(u, v arm64.V, at int) { f.Go("FSTPQ (%s, %s), %d(%s)", u.F(), v.F(), at, scratch) })
		f.AddBytes(n*lanes*4, y)
		f.AddBytes(n*lanes*bytes, v)
		f.Go("SUB $%d, %s", n*lanes, width)
		f.Go("B %s", label("features"))
		f.Label(label("done"))
	}
	f.Ret()
}

// each moves the sums from or to y, whose rows lie stride bytes apart; r is spoilt.
func (a *attended) each(y, stride, r arm64.X, move func(u, v arm64.V, at int)) {
	a.Go("MOVD %s, %s", y, r)
	for q, sums := range a.sums {
		for i := 0; i < len(sums); i += 2 {
			move(sums[i], sums[i+1], i*lanes*4)
		}
		if q+1 < len(a.sums) {
			a.Go("ADD %s, %s", stride, r)
		}
	}
}
