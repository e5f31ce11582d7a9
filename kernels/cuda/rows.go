package cuda

import "eckart/kernels"

// The verbs on rows (src/rows.cu). Their grids have the rows in x and pieces of a row in y.

// blockThreads is the number of threads of a block in the kernels of rows and of products.
const blockThreads = 256

// rowsFunctions are the kernels of rows.cu.
type rowsFunctions struct {
	embedF32, embedF16, embedBF16, scatter, bias, rmsNorm, rmsNormShort, angles, rotate, swiGLU function
}

func (f *rowsFunctions) table() []kernelName {
	return []kernelName{
		{&f.embedF32, "embed_f32"},
		{&f.embedF16, "embed_f16"},
		{&f.embedBF16, "embed_bf16"},
		{&f.scatter, "scatter"},
		{&f.bias, "bias"},
		{&f.rmsNorm, "rms_norm"},
		{&f.rmsNormShort, "rms_norm_short"},
		{&f.angles, "angles"},
		{&f.rotate, "rotate"},
		{&f.swiGLU, "swiglu"},
	}
}

// argument returns a matrix as kernels take it.
func argument(m kernels.Mat) mat {
	return mat{addr: m.Addr, rows: uint32(m.Rows), cols: uint32(m.Cols), stride: uint32(m.Stride)}
}

// ceil returns n/d, rounded up: how many pieces of d cover n.
func ceil(n, d int) int { return (n + d - 1) / d }

// flag returns what a kernel takes for a mode.
func flag(m kernels.Mode) uint32 {
	if m == kernels.Add {
		return 1
	}
	return 0
}

// quads is the grid of an elementwise verb: four neighbours a thread.
func quads(rows, cols int) dim { return dim{rows, ceil(cols, 4*blockThreads), 1} }

// Embed implements kernels.Stream.
func (s *stream) Embed(y, table, ids kernels.Mat) { s.lookUp(y, table, ids) }

// Gather implements kernels.Stream.
func (s *stream) Gather(y, x, rows kernels.Mat) { s.lookUp(y, x, rows) }

func (s *stream) lookUp(y, from, ids kernels.Mat) {
	f := s.f.rows.embedF32
	switch from.Type {
	case kernels.F16:
		f = s.f.rows.embedF16
	case kernels.BF16:
		f = s.f.rows.embedBF16
	}
	launch(s, f, quads(y.Rows, y.Cols), blockThreads, 0, &struct{ y, from, ids mat }{argument(y), argument(from), argument(ids)})
}

// Scatter implements kernels.Stream.
func (s *stream) Scatter(y, x, cols kernels.Mat, m kernels.Mode) {
	launch(s, s.f.rows.scatter, dim{x.Rows, ceil(x.Cols, blockThreads), 1}, blockThreads, 0, &struct {
		y, x, cols mat
		add        uint32
	}{argument(y), argument(x), argument(cols), flag(m)})
}

// Bias implements kernels.Stream.
func (s *stream) Bias(y, b kernels.Mat) {
	launch(s, s.f.rows.bias, quads(y.Rows, y.Cols), blockThreads, 0, &struct{ y, b mat }{argument(y), argument(b)})
}

// shortRun is the longest run of RMSNorm that a warp keeps in its registers.
const shortRun = 512

// RMSNorm implements kernels.Stream.
func (s *stream) RMSNorm(y, x, gain kernels.Mat, eps float32) {
	if x.Rows == 0 || x.Cols == 0 {
		return
	}
	runs := x.Rows * (x.Cols / gain.Cols)
	f, grid := s.f.rows.rmsNorm, dim{runs, 1, 1}
	if gain.Cols <= shortRun {
		f, grid = s.f.rows.rmsNormShort, dim{ceil(runs, blockThreads/32), 1, 1}
	}
	launch(s, f, grid, blockThreads, blockThreads/32*4, &struct {
		y, x, gain mat
		eps        float32
	}{argument(y), argument(x), argument(gain), eps})
}

// Angles implements kernels.Stream.
func (s *stream) Angles(y, pos, freqs kernels.Mat, scale float32) {
	launch(s, s.f.rows.angles, dim{y.Rows, ceil(freqs.Cols, blockThreads), 1}, blockThreads, 0, &struct {
		y, pos, freqs mat
		scale         float32
	}{argument(y), argument(pos), argument(freqs), scale})
}

// Rotate implements kernels.Stream.
func (s *stream) Rotate(x, angles kernels.Mat, heads int) {
	turned := ceil(angles.Cols/2, 4) // quads of a head
	launch(s, s.f.rows.rotate, dim{x.Rows, ceil(heads*turned, blockThreads), 1}, blockThreads, 0, &struct {
		x, angles mat
		heads     uint32
	}{argument(x), argument(angles), uint32(heads)})
}

// SwiGLU implements kernels.Stream.
func (s *stream) SwiGLU(y, gate, up kernels.Mat) {
	launch(s, s.f.rows.swiGLU, quads(y.Rows, y.Cols), blockThreads, 0, &struct{ y, gate, up mat }{argument(y), argument(gate), argument(up)})
}
