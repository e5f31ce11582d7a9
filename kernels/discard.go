package kernels

// Discard is a stream whose verbs do nothing, as io.Discard is a writer. A forward pass on it, with scratch that only
// counts, tells the workspace the pass needs.
type Discard struct{}

var _ Stream = Discard{}

// Upload does nothing.
func (Discard) Upload(Mat, []byte) {}

// Download does nothing.
func (Discard) Download([]byte, Mat) {}

// Embed does nothing.
func (Discard) Embed(_, _, _ Mat) {}

// MatMul does nothing.
func (Discard) MatMul(_, _, _ Mat, _ Mode) {}

// Pack does nothing.
func (Discard) Pack(Grouped, int, []byte, []byte, []byte) {}

// GroupedMatMul does nothing.
func (Discard) GroupedMatMul(_, _ Mat, _ Grouped, _ Mode) {}

// GroupedEmbed does nothing.
func (Discard) GroupedEmbed(Mat, Grouped, Mat) {}

// Bias does nothing.
func (Discard) Bias(_, _ Mat) {}

// RMSNorm does nothing.
func (Discard) RMSNorm(_, _, _ Mat, _ float32) {}

// Angles does nothing.
func (Discard) Angles(_, _, _ Mat, _ float32) {}

// Rotate does nothing.
func (Discard) Rotate(_, _ Mat, _ int) {}

// Store does nothing.
func (Discard) Store(Pages, Mat, Mat, Mat) {}

// Attend does nothing.
func (Discard) Attend(_, _ Mat, _ Pages, _ Seqs, _ Attention) {}

// SwiGLU does nothing.
func (Discard) SwiGLU(_, _, _ Mat) {}

// Gather does nothing.
func (Discard) Gather(_, _, _ Mat) {}

// Scatter does nothing.
func (Discard) Scatter(_, _, _ Mat, _ Mode) {}

// Sync returns nil.
func (Discard) Sync() error { return nil }

// Counter is an arena without memory: it hands out matrices that have none and counts their bytes, so that what a
// model needs is known before anything is allocated.
type Counter struct{ used int64 }

var _ Arena = (*Counter)(nil)

// Alloc returns a matrix without memory.
func (c *Counter) Alloc(rows, cols int, t DType) (Mat, error) {
	c.used += ArenaBytes(rows, cols, t)
	return Mat{Rows: rows, Cols: cols, Stride: cols, Type: t}, nil
}

// Used returns the bytes counted.
func (c *Counter) Used() int64 { return c.used }

// Reset makes the count 0.
func (c *Counter) Reset() error {
	c.used = 0
	return nil
}

// Close does nothing.
func (c *Counter) Close() error { return nil }
