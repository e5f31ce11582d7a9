package kernels

// A Mode says what a verb does with the old value of its destination.
type Mode uint8

// Set replaces the destination (y = ...), Add adds to it (y += ...).
const (
	Set Mode = iota
	Add
)

// A Stream runs verbs in order on one device. A verb writes its first argument, reads the others, allocates nothing
// and returns nothing: shapes were checked when weights were bound, and a fault stays in the stream until Sync.
// Activations are F32; weights F32, F16, BF16 or Grouped; ids, positions and indices I32. A destination and its inputs may be
// column windows of wider matrices; they overlap only where a verb says so. One goroutine at a time may use a Stream.
//
// Every row of a result is computed as if it were alone: the order of a sum depends on the shapes of its operands and
// never on how many other rows are in the call, so that a sequence gets the same bits in any batch.
type Stream interface {
	// Upload copies src into the packed matrix dst. src must stay as it is until Sync.
	Upload(dst Mat, src []byte)
	// Download copies the packed matrix src into dst; dst is valid after Sync.
	Download(dst []byte, src Mat)
	// Embed looks rows up: y[i] = table[ids[i]]. ids is (rows, 1).
	Embed(y, table, ids Mat)
	// MatMul computes y = x·wᵀ for y (tokens, out), x (tokens, in), w (out, in).
	MatMul(y, x, w Mat, m Mode)
	// Pack stores rows of a grouped matrix, from row on, which is a multiple of GroupedPanel: codes (n, w.Cols), one in a
	// byte; scales (n, w.Groups()) of w.ScaleType in the host's order; zeros (n, w.Groups()), nil without w.Zeros. n is a
	// multiple of GroupedPanel, or reaches to the last row. The slices must stay as they are until Sync.
	Pack(w Grouped, row int, codes, scales, zeros []byte)
	// GroupedMatMul computes y = x·wᵀ for y (tokens, out), x (tokens, in), w (out, in). A device may round each row of x
	// to signed integers of 8 bits in blocks of GroupedBlock columns (in w's order): where m is the largest magnitude of
	// a block, x becomes m/127 times x·(127/m) rounded to nearest, ties to even, each operation in F32, and zero if m is
	// below 2^-100; products and sums within a block are exact then. If such a block holds what is not finite, the row's
	// results are NaN.
	GroupedMatMul(y, x Mat, w Grouped, m Mode)
	// GroupedEmbed looks rows up: y[i] = table[ids[i]]. ids is (rows, 1).
	GroupedEmbed(y Mat, table Grouped, ids Mat)
	// Bias adds the row b (1, cols) to every row of y.
	Bias(y, b Mat)
	// RMSNorm computes y = x / sqrt(mean(x²) + eps) · gain over each run of gain.Cols columns: a whole row, or each
	// head of it. gain is (1, n). y may be x.
	RMSNorm(y, x, gain Mat, eps float32)
	// Angles computes the rotary table of a step: y[i] = (cos a, sin a)·scale with a = pos[i]·freqs, cosines in the
	// first half of the columns. y is (rows, 2·n), pos (rows, 1), freqs (1, n).
	Angles(y, pos, freqs Mat, scale float32)
	// Rotate applies rotary position embedding in place to the first angles.Cols columns of each of the heads of x;
	// column j is paired with column j + angles.Cols/2 (the half-split form of Hugging Face checkpoints).
	Rotate(x, angles Mat, heads int)
	// Store writes keys and values into the cache: row i of k and v goes to slot slots[i], and nowhere when it is -1.
	// slots is (rows, 1).
	Store(kv Pages, k, v, slots Mat)
	// Attend computes causal softmax attention over the cache for every row of q; the keys and values of those rows
	// must have been stored. y is (rows, heads·ValueDim), q (rows, heads·KeyDim); query head h reads key head
	// h·kv.Heads/heads. Rows that belong to no sequence are left as they are.
	Attend(y, q Mat, kv Pages, s Seqs, a Attention)
	// SwiGLU computes y = silu(gate) ⊙ up. y may be gate or up.
	SwiGLU(y, gate, up Mat)
	// Gather copies rows: y[i] = x[rows[i]]. rows is (n, 1).
	Gather(y, x, rows Mat)
	// Scatter places columns: y[:, cols[j]] = x[:, j], or adds them there. cols is (1, x.Cols), each column at most once;
	// the other columns of y stay as they are.
	Scatter(y, x, cols Mat, m Mode)
	// Sync waits for the verbs so far and returns the first fault since the last Sync.
	Sync() error
}

// Attention holds what a layer fixes about its attention.
type Attention struct {
	Heads  int     // query heads
	Scale  float32 // factor on q·k
	Window int     // tokens attended to, the row's own included; 0 for all before it
}

// Pages is one layer's part of the cache: blocks of tokens, each holding every head. How elements lie inside a block
// is the device's affair; Store and Attend are the only verbs that look.
type Pages struct {
	K Mat // (blocks, Heads·BlockTokens·KeyDim)
	V Mat // (blocks, Heads·BlockTokens·ValueDim)

	Heads            int
	KeyDim, ValueDim int // features of a head
	BlockTokens      int // tokens of a block; slot = block·BlockTokens + place in the block
}

// Seqs describes the sequences of a step. The rows of sequence i are Rows[i] up to Rows[i+1]; their positions count
// up from From[i], the tokens already in the cache. A sequence may have no rows. Blocks[i] lists its blocks in order of
// position; what is behind them is never read. Count says how many sequences the step has; the matrices may have more rows
// than that takes.
type Seqs struct {
	Count  int
	Rows   Mat // (sequences + 1, 1)
	From   Mat // (sequences, 1)
	Blocks Mat // (sequences, most blocks of a sequence)
}

// A Device owns memory and runs streams.
type Device interface {
	Name() string
	// Memory returns the bytes that can still be had and the bytes there are.
	Memory() (free, total int64)
	NewArena(bytes int64) (Arena, error)
	NewStream() (Stream, error)
	Close() error
}

// An Arena is one allocation, handed out in pieces and freed as a whole. Pieces are zero and aligned to Align bytes.
type Arena interface {
	// Alloc returns a packed matrix, or an error that names the bytes wanted and left.
	Alloc(rows, cols int, t DType) (Mat, error)
	// Used returns the bytes handed out, padding included.
	Used() int64
	// Reset takes all pieces back: they must not be touched any more, nothing that a stream was asked to do with them may be
	// pending, and what is handed out from now on is zero again. That is quicker than an arena made anew, whose memory the
	// system has to find.
	Reset() error
	Close() error
}

// Align is the alignment in bytes of what an Arena hands out: a cache line, and the widest vector.
const Align = 64

// ArenaBytes returns the bytes that Alloc takes for a packed matrix, padding included.
func ArenaBytes(rows, cols int, t DType) int64 {
	b := int64(rows) * int64(cols) * int64(t.Bytes())
	return (b + Align - 1) / Align * Align
}
