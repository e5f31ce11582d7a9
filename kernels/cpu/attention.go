package cpu

import (
	"cmp"
	"math"
	"slices"
	"unsafe"

	"eckart/kernels"
)

// Attention runs in tiles: some positions of a sequence, with all query heads of one key head, by tileTokens keys. The
// softmax is computed as the tiles come (Milakov and Gimelshein 2018; Dao et al. 2022): every query keeps the largest
// score so far and sums relative to it.
//
// Tiles and segments begin at fixed positions, a score and a feature are single chains of multiply-adds along the
// features and along the tokens, and segments are merged in order. So the bits of a row follow from its position and
// its window alone, however its prompt was cut and whoever computes which part. A query takes no part in the keys that
// it must not see; they may hold anything.

const (
	tileTokens    = 128 // keys of a tile
	groupTokens   = 64  // keys that a scoresFunc takes at once
	segmentTokens = 512 // keys of a segment, which one thread sums alone
	maxQueries    = 6   // queries that a scoresFunc or a valuesFunc takes at once
	fewQueries    = 4   // up to so many, memory is what they wait for
	tileQueries   = 24  // queries of a tile, unless a key head has more query heads

	// A unit of work is split by segments when it is more than this part of a thread's share.
	attendShares = 8
)

// scoresFunc computes s[i][j] = q[i]·k[j] for a fixed number of queries i and groups of groupTokens keys j. The rows of
// s are tileTokens apart; query i is rows[i] bytes from q. Chunk c of the keys is chunks[c] bytes from k and holds
// chunkTokens of them, (dim, chunkTokens). The functions of up to fewQueries queries also fetch the memory ahead[c] bytes
// from k, which comes next.
type scoresFunc func(s, q *float32, rows *int, k *byte, chunks, ahead *int, groups, dim int)

// valuesFunc adds Σ p[i][j]·v[j] over from <= j < to to y[i] for a fixed number of queries i. The rows of y are stride
// bytes apart, those of p tileTokens elements. Chunk c of the values is chunks[c] bytes from v and holds chunkTokens of
// them, (chunkTokens, width); width is a multiple of 16. Those of up to fewQueries queries also fetch the
// memory ahead[c] bytes from v.
type valuesFunc func(y *float32, stride int, p *float32, v *byte, chunks, ahead *int, from, to, width int)

// softmaxFunc turns groups of 16 scores s into exp(scale·(s - top)), where top is the largest score that the query has
// met, and adds them to its sums. state is a query's: width features, 16 partial sums, top. When the top rises, what
// was summed is scaled down to it.
type softmaxFunc func(s *float32, groups int, state *float32, width int, scale float32)

// attentionCode is the part of code that Attend and Store need. Its zero value means plain Go.
type attentionCode struct {
	scores  [kernels.BF16 + 1][maxQueries + 1]scoresFunc // by the type of the cache and the number of queries
	values  [kernels.BF16 + 1][maxQueries + 1]valuesFunc
	softmax softmaxFunc
	mix     func(y, x *float32, n int, a, b float32)             // y = y·a + x·b
	scaled  func(y, x *float32, n int, a float32)                // y = x·a
	narrow  [kernels.BF16 + 1]func(y *uint16, x *float32, n int) // n a multiple of 16
}

// stateSums is what a query's state holds beside its features: partial sums, and the largest score on a line of its own.
const (
	stateSums  = 16
	stateExtra = 2 * stateSums
)

// attendUnit is some positions of a sequence.
type attendUnit struct {
	seq       int
	row, rows int // rows of q
	pos       int // position of the first
	low       int // first key that any of them sees
	state     int // where its segments' states begin, in queries; -1 when it is not split
}

// keys returns the keys that query row i of the unit sees.
func (u *attendUnit) keys(i, window int) (low, high int) {
	high = u.pos + i + 1
	if window > 0 {
		low = max(0, high-window)
	}
	return low, high
}

// segments returns the segments that hold the unit's keys.
func (u *attendUnit) segments() (first, end int) {
	return u.low / segmentTokens, (u.pos+u.rows-1)/segmentTokens + 1
}

// attendJob is a unit, one of its key heads, and some segments.
type attendJob struct{ unit, head, first, end int }

// attendTask is Attend in pieces.
type attendTask struct {
	y, q kernels.Mat
	kv   kernels.Pages
	seqs kernels.Seqs
	kernels.Attention

	code    *attentionCode
	layout  layout
	fast    bool // the assembly can do this shape
	group   int  // query heads of a key head
	units   []attendUnit
	jobs    []attendJob
	workers []attendScratch
	states  []float32 // of split units: (unit, head, segment, query)
	merge   mergeTask
}

// attendScratch is what one worker needs.
type attendScratch struct {
	scores       []float32 // (queries, tileTokens)
	state, total []float32 // (queries, width + stateExtra): of a segment, and of all before it
	rows         []int     // bytes from the first query of a tile
	queries      [][2]int  // for each query: the keys it sees
	// Where the chunks of a tile are, in bytes from the cache's first key and first value; what comes after the keys is
	// values, and the other way round.
	keys, values           [tileTokens]int
	valuesAhead, keysAhead [tileTokens]int
	wide                   []float32 // a chunk of the cache, for plain Go
}

// Attend implements kernels.Stream.
func (s *Stream) Attend(y, q kernels.Mat, kv kernels.Pages, seqs kernels.Seqs, a kernels.Attention) {
	t := &s.attend
	t.y, t.q, t.kv, t.seqs, t.Attention = y, q, kv, seqs, a
	t.code, t.layout, t.group = &s.code.attention, layoutOf(kv), a.Heads/kv.Heads
	t.fast = t.code.softmax != nil && t.layout.chunk == chunkTokens && kv.ValueDim%16 == 0
	t.plan(s.pool.threads)
	t.reserve(s.pool.threads)
	s.pool.run(len(t.jobs), t)
	if split := len(t.merge.units) * kv.Heads; split > 0 {
		t.merge.attendTask = t
		s.pool.run(split, &t.merge)
	}
	t.y, t.q, t.kv, t.seqs = kernels.Mat{}, kernels.Mat{}, kernels.Pages{}, kernels.Seqs{}
}

// plan cuts the call into jobs, the heaviest first.
func (t *attendTask) plan(threads int) {
	t.units, t.jobs, t.merge.units = t.units[:0], t.jobs[:0], t.merge.units[:0]
	most := max(1, tileQueries/t.group)
	work := 0
	for i := range t.seqs.Count {
		from := int(t.seqs.From.Int32s(i)[0])
		first, end := int(t.seqs.Rows.Int32s(i)[0]), int(t.seqs.Rows.Int32s(i + 1)[0])
		for row := first; row < end; row += most {
			u := attendUnit{seq: i, row: row, rows: min(most, end-row), pos: from + row - first, state: -1}
			u.low, _ = u.keys(0, t.Window)
			work += u.work()
			t.units = append(t.units, u)
		}
	}
	slices.SortFunc(t.units, func(a, b attendUnit) int { return cmp.Compare(b.work(), a.work()) })
	share := work / (threads * attendShares)
	state := 0
	for i := range t.units {
		u := &t.units[i]
		first, end := u.segments()
		if threads > 1 && end-first > 1 && u.work() > share {
			u.state = state
			state += t.kv.Heads * (end - first) * u.rows * t.group
			t.merge.units = append(t.merge.units, i)
			for segment := first; segment < end; segment++ {
				for head := range t.kv.Heads {
					t.jobs = append(t.jobs, attendJob{i, head, segment, segment + 1})
				}
			}
			continue
		}
		for head := range t.kv.Heads {
			t.jobs = append(t.jobs, attendJob{i, head, first, end})
		}
	}
	t.states = grow(t.states, state*t.stateLen())
}

// work is proportional to the time that the unit takes for a key head.
func (u *attendUnit) work() int { return (u.rows + 1) * (u.pos + u.rows - u.low) }

// stateLen returns the elements of a query's state.
func (t *attendTask) stateLen() int { return t.kv.ValueDim + stateExtra }

// reserve sees to the workers' scratch; it allocates when a call is wider than all before.
func (t *attendTask) reserve(threads int) {
	if t.workers == nil {
		t.workers = make([]attendScratch, threads)
	}
	queries := max(tileQueries, t.group)
	for i := range t.workers {
		w := &t.workers[i]
		w.scores = grow(w.scores, queries*tileTokens)
		w.state = grow(w.state, queries*t.stateLen())
		w.total = grow(w.total, queries*t.stateLen())
		w.wide = grow(w.wide, chunkTokens*max(t.kv.KeyDim, t.kv.ValueDim))
		if len(w.rows) < queries {
			w.rows, w.queries = make([]int, queries), make([][2]int, queries)
		}
	}
}

// grow returns s, or zeros aligned to kernels.Align where s is shorter than n; it allocates in powers of two.
func grow(s []float32, n int) []float32 {
	if len(s) >= n {
		return s
	}
	const lineFloats = kernels.Align / 4
	length := lineFloats
	for length < n {
		length *= 2
	}
	s = make([]float32, length+lineFloats)
	skip := -int(uintptr(unsafe.Pointer(&s[0]))/4) & (lineFloats - 1)
	return s[skip : skip+length]
}

func (t *attendTask) do(worker, chunk int) {
	job := t.jobs[chunk]
	u := &t.units[job.unit]
	w := &t.workers[worker]
	queries := u.rows * t.group
	for i := range queries {
		row, head := i/t.group, i%t.group
		w.rows[i] = (row*t.q.Stride + head*t.kv.KeyDim) * 4
		w.queries[i][0], w.queries[i][1] = u.keys(row, t.Window)
	}
	if u.state >= 0 {
		first, end := u.segments()
		n := queries * t.stateLen()
		state := t.states[u.state*t.stateLen()+(job.head*(end-first)+job.first-first)*n:][:n]
		t.segment(w, u, job.head, job.first, state)
		return
	}
	t.segment(w, u, job.head, job.first, w.total)
	for segment := job.first + 1; segment < job.end; segment++ {
		t.segment(w, u, job.head, segment, w.state)
		t.join(w.total, w.state, queries)
	}
	t.write(u, job.head, w.total)
}

// segment computes the states of the unit's queries over one segment.
func (t *attendTask) segment(w *attendScratch, u *attendUnit, head, segment int, state []float32) {
	queries := u.rows * t.group
	for i := range queries {
		s := t.state(state, i)
		clear(s)
		s[t.kv.ValueDim+stateSums] = float32(math.Inf(-1))
	}
	low, high := max(u.low, segment*segmentTokens), min(u.pos+u.rows, (segment+1)*segmentTokens)
	for from := low / tileTokens * tileTokens; from < high; from += tileTokens {
		t.tile(w, u, head, from, max(low, from), min(high, from+tileTokens), state)
	}
}

// state returns the state of query i.
func (t *attendTask) state(states []float32, i int) []float32 {
	return states[i*t.stateLen() : (i+1)*t.stateLen()]
}

// tile adds the keys from low up to high, which lie in the tile that begins at position from.
func (t *attendTask) tile(w *attendScratch, u *attendUnit, head, from, low, high int, state []float32) {
	t.locate(w, u, head, from, low, high)
	if t.fast {
		t.lookAhead(w, u, head, from, low, high)
	}
	queries := u.rows * t.group
	most := maxQueries
	if queries <= 2*fewQueries {
		most = fewQueries
	}
	parts := (queries + most - 1) / most
	part := (queries + parts - 1) / parts
	// Scores of all queries, then values, so that each part of the cache stays in the first-level cache meanwhile.
	for first := 0; first < queries; first += part {
		n := min(part, queries-first)
		t.scores(w, u, head, first, n, (low-from)/groupTokens, (high-from+groupTokens-1)/groupTokens)
		for i := first; i < first+n; i++ {
			if a, b := w.sees(i, from); a < b {
				t.softmax(w.scores[i*tileTokens:(i+1)*tileTokens], a, b, t.state(state, i))
			}
		}
	}
	for first := 0; first < queries; first += part {
		n := min(part, queries-first)
		// What all of these queries see, they sum together; the rest each sums alone, in the order of positions.
		a, _ := w.sees(first+n-1, from)
		_, b := w.sees(first, from)
		if a >= b {
			a, b = 0, 0
		}
		for i := first; i < first+n; i++ {
			if lowest, highest := w.sees(i, from); a < b {
				t.values(w, i, 1, lowest, a, state)
			} else {
				t.values(w, i, 1, lowest, highest, state)
			}
		}
		t.values(w, first, n, a, b, state)
		for i := first; i < first+n; i++ {
			if _, highest := w.sees(i, from); a < b {
				t.values(w, i, 1, b, highest, state)
			}
		}
	}
}

// sees returns the keys that query i sees of the tile at from, relative to it.
func (w *attendScratch) sees(i, from int) (low, high int) {
	low, high = w.queries[i][0]-from, w.queries[i][1]-from
	return max(0, low), min(tileTokens, high)
}

// locate finds the chunks of the tile that hold keys from low up to high. The other chunks of a group stand for
// themselves by the first of these, since their scores are computed and left alone.
func (t *attendTask) locate(w *attendScratch, u *attendUnit, head, from, low, high int) {
	l := &t.layout
	blocks := t.seqs.Blocks.Int32s(u.seq)
	n := tileTokens / l.chunk
	first, end := (low-from)/l.chunk, (high-from+l.chunk-1)/l.chunk
	for c := first; c < end; c++ {
		position := from + c*l.chunk
		block, place := int(blocks[position/t.kv.BlockTokens]), position%t.kv.BlockTokens/l.chunk
		w.keys[c] = (block*t.kv.K.Stride + (head*l.chunks+place)*l.chunk*t.kv.KeyDim) * l.elementBytes
		w.values[c] = (block*t.kv.V.Stride + (head*l.chunks+place)*l.chunk*t.kv.ValueDim) * l.elementBytes
	}
	for c := range n {
		if c < first || c >= end {
			w.keys[c] = w.keys[first]
		}
	}
}

// lookAhead says what to fetch meanwhile: the tile's values during its scores, the keys of the next tile during its
// values.
func (t *attendTask) lookAhead(w *attendScratch, u *attendUnit, head, from, low, high int) {
	l := &t.layout
	apart := int(uintptr(at(t.kv.V, 0)) - uintptr(at(t.kv.K, 0)))
	blocks := t.seqs.Blocks.Int32s(u.seq)
	last := (u.pos + u.rows - 1) / l.chunk
	for c := range tileTokens / l.chunk {
		w.valuesAhead[c] = w.values[c] + apart
		next := min(from/l.chunk+tileTokens/l.chunk+c, last) * l.chunk
		block, place := int(blocks[next/t.kv.BlockTokens]), next%t.kv.BlockTokens/l.chunk
		w.keysAhead[c] = (block*t.kv.K.Stride+(head*l.chunks+place)*l.chunk*t.kv.KeyDim)*l.elementBytes - apart
	}
}

// scores computes the scores of n queries in groups first up to end.
func (t *attendTask) scores(w *attendScratch, u *attendUnit, head, query, n, first, end int) {
	q := at(t.q, (u.row*t.q.Stride+head*t.group*t.kv.KeyDim)*4)
	if !t.fast {
		t.scoresGeneric(w, u, head, query, n, first*groupTokens, end*groupTokens)
		return
	}
	const perGroup = groupTokens / chunkTokens
	t.code.scores[t.kv.K.Type][n](&w.scores[query*tileTokens+first*groupTokens], (*float32)(q), &w.rows[query],
		(*byte)(at(t.kv.K, 0)), &w.keys[first*perGroup], &w.valuesAhead[first*perGroup], end-first, t.kv.KeyDim)
}

// softmax turns the scores from low up to high into weights.
func (t *attendTask) softmax(scores []float32, low, high int, state []float32) {
	if !t.fast {
		softmaxGeneric(scores[low:high], low, state, t.kv.ValueDim, t.Scale)
		return
	}
	// Whole vectors: what a query does not see weighs nothing.
	first, end := low/16*16, (high+15)/16*16
	for i := first; i < low; i++ {
		scores[i] = float32(math.Inf(-1))
	}
	for i := high; i < end; i++ {
		scores[i] = float32(math.Inf(-1))
	}
	t.code.softmax(&scores[first], (end-first)/16, &state[0], t.kv.ValueDim, t.Scale)
}

// values adds the values of keys from low up to high to n queries.
func (t *attendTask) values(w *attendScratch, query, n, low, high int, state []float32) {
	switch {
	case low >= high:
	case !t.fast:
		t.valuesGeneric(w, query, n, low, high, state)
	default:
		t.code.values[t.kv.V.Type][n](&state[query*t.stateLen()], t.stateLen()*4, &w.scores[query*tileTokens],
			(*byte)(at(t.kv.V, 0)), &w.values[0], &w.keysAhead[0], low, high, t.kv.ValueDim)
	}
}

// join merges the states of a later segment into those of all before it.
func (t *attendTask) join(total, state []float32, queries int) {
	width := t.kv.ValueDim
	for i := range queries {
		a, b := t.state(total, i), t.state(state, i)
		top := max(a[width+stateSums], b[width+stateSums])
		switch {
		case math.IsInf(float64(b[width+stateSums]), -1): // the query sees nothing there
			continue
		case math.IsInf(float64(a[width+stateSums]), -1):
			copy(a, b)
			continue
		}
		t.mix(a[:width+stateSums], b, t.exp(a[width+stateSums]-top), t.exp(b[width+stateSums]-top))
		a[width+stateSums] = top
	}
}

func (t *attendTask) exp(x float32) float32 { return float32(math.Exp(float64(x * t.Scale))) }

// mix computes y = y·a + x·b.
func (t *attendTask) mix(y, x []float32, a, b float32) {
	if t.fast {
		t.code.mix(&y[0], &x[0], len(y), a, b)
		return
	}
	for i := range y {
		y[i] = y[i]*a + x[i]*b
	}
}

// write divides the sums by the sum of the weights.
func (t *attendTask) write(u *attendUnit, head int, total []float32) {
	width := t.kv.ValueDim
	for i := range u.rows * t.group {
		s := t.state(total, i)
		sums := s[width : width+stateSums]
		for n := stateSums / 2; n > 0; n /= 2 {
			for j := range n {
				sums[j] += sums[j+n]
			}
		}
		y := t.y.Float32s(u.row + i/t.group)[(head*t.group+i%t.group)*width:][:width]
		if scale := 1 / sums[0]; t.fast {
			t.code.scaled(&y[0], &s[0], width, scale)
		} else {
			for j := range y {
				y[j] = s[j] * scale
			}
		}
	}
}

// mergeTask merges the segments of units that were split: a chunk is a unit and a key head.
type mergeTask struct {
	*attendTask
	units []int
}

func (m *mergeTask) do(_, chunk int) {
	u, head := &m.attendTask.units[m.units[chunk/m.kv.Heads]], chunk%m.kv.Heads
	first, end := u.segments()
	queries := u.rows * m.group
	n := queries * m.stateLen()
	states := m.states[u.state*m.stateLen()+head*(end-first)*n:]
	for i := 1; i < end-first; i++ {
		m.join(states[:n], states[i*n:(i+1)*n], queries)
	}
	m.write(u, head, states[:n])
}
