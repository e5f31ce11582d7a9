package cuda

import (
	"math"

	"eckart/kernels"
)

// mostProducts is how many products a launch has room for.
const mostProducts = 4

type diagonalArgs [mostProducts]skinnyArgs

type pairedArgs struct {
	products [2]skinnyArgs
	gate, up mat
	tickets  uint64
}

// DiagonalMatMul computes y = x·wᵀ, or adds it, for the matrix w that has ws (out, in) along its diagonal and zeros
// elsewhere: y is (tokens, sum of outs), x (tokens, sum of ins). Results have the bits of one MatMul after the other. With
// few tokens and aligned BF16 weights it is one launch.
func (s *stream) DiagonalMatMul(y, x kernels.Mat, ws []kernels.Mat, m kernels.Mode) {
	if y.Rows == 0 || s.diagonal(y, x, ws, m, false) {
		return
	}
	row, col := 0, 0
	for _, w := range ws {
		s.MatMul(y.Window(row, w.Rows), x.Window(col, w.Cols), w, m)
		row += w.Rows
		col += w.Cols
	}
}

// DiagonalSwiGLU computes silu(gate) ⊙ up of the halves of y = x·wᵀ, for the matrix w that has ws along its diagonal, those of
// gate and of up: it is in the first half of y (tokens, 2·out) then, with the bits of DiagonalMatMul and SwiGLU one after the
// other; the second half is used up. With few tokens and aligned BF16 weights it is one launch, which costs a barrier, a fence
// and an atomic a tile, while the next weights are on their way; no block waits for another.
func (s *stream) DiagonalSwiGLU(y, x kernels.Mat, ws []kernels.Mat) {
	if y.Rows == 0 || s.diagonal(y, x, ws, kernels.Set, true) {
		return
	}
	s.DiagonalMatMul(y, x, ws, kernels.Set)
	gate, up := y.Window(0, ws[0].Rows), y.Window(ws[0].Rows, ws[1].Rows)
	s.SwiGLU(gate, gate, up)
}

// diagonal does it in one launch, SwiGLU included if it is wanted, and reports whether that was possible.
func (s *stream) diagonal(y, x kernels.Mat, ws []kernels.Mat, m kernels.Mode, swiGLU bool) bool {
	if len(ws) < 2 || len(ws) > mostProducts || x.Rows > skinnyTokens {
		return false
	}
	var bytes int64
	for _, w := range ws {
		if w.Type != kernels.BF16 || !aligned(w) || w.Rows == 0 || w.Cols > skinnyCols {
			return false
		}
		bytes += w.Bytes() + 1
	}
	info := &s.device.info
	var args diagonalArgs
	for i := range args {
		args[i].first = math.MaxUint32
	}
	grid, shared, variant := dim{0, 1, 1}, 0, 0
	partials, tickets := int64(0), int64(0) // bytes taken
	row, col := 0, 0
	for i, w := range ws {
		// Multiprocessors are shared out by the bytes of weights, so that all products end together.
		share := max(1, int((int64(info.Multiprocessors)*w.Bytes()+bytes/2)/bytes))
		p := planSkinny(x.Rows, w.Rows, w.Cols, share, info.sharedPerBlock, false)
		if p.tokens < x.Rows || i > 0 && p.variant != variant {
			return false
		}
		variant = p.variant
		a := &args[i]
		*a = p.arguments(w, m)
		a.y, a.x, a.w = argument(y.Window(row, w.Rows)), argument(x.Window(col, w.Cols)), argument(w)
		a.first, a.blocks = uint32(grid.x), uint32(p.blocks)
		if p.splits > 1 {
			tiles := int64(ceil(w.Rows, tileRows))
			a.partials, a.tickets = s.work.addr+uint64(partials), s.tickets.addr+uint64(tickets)
			partials += tiles * int64(p.splits*p.tokens*tileRows*4)
			tickets += tiles * 4
		}
		grid.x += p.blocks
		grid.y = max(grid.y, p.splits)
		shared = max(shared, p.shared)
		row += w.Rows
		col += w.Cols
	}
	if partials > s.work.bytes {
		return false
	}
	if out := ws[0].Rows; swiGLU && tickets+int64(ceil(out, tileRows))*4 <= s.tickets.bytes {
		a := pairedArgs{
			products: [2]skinnyArgs(args[:2]), gate: argument(y.Window(0, out)), up: argument(y.Window(out, out)),
			tickets: s.tickets.addr + uint64(tickets),
		}
		launch(s, s.f.matMul.diagonalGated[variant], grid, blockThreads, shared, &a)
		return true
	}
	if swiGLU || tickets > s.tickets.bytes {
		return false
	}
	launch(s, s.f.matMul.diagonal[variant], grid, blockThreads, shared, &args)
	return true
}
