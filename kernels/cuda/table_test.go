//go:build linux && (amd64 || arm64)

package cuda

import (
	flags "flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"eckart/internal/race"
	"eckart/kernels"
	"eckart/kernels/cuda/ptx"
	"eckart/kernels/cuda/shim"
)

// The tables of kernels in docs/cuda.md: what a kernel is for is written by hand, its figures are filled in by
//
//	go test ./kernels/cuda -run TestTable -update
//
// which runs every kernel over the shim. Without -update the test holds all figures but bytes, for which no kernel need run.

var update = flags.Bool("update", false, "fill the figures of kernels in docs/cuda.md in again")

const tablePath = "../../docs/cuda.md"

// The shapes of the tables: llama3.2-1b, with 2048 tokens of context.
const (
	tableDim, tableInner, tableHeads, tableKeyHeads, tableHeadDim = 2048, 8192, 32, 8, 64
	tableContext, tableVocab                                      = 2048, 128256
)

// tableGPU is what occupancy is stated for.
type tableGPU struct {
	capability, multiprocessors int
	target                      string // of the PTX that it is given
	shared                      int    // bytes of a multiprocessor, of which a block may have 1 KB less
	threads, blocks             int    // that a multiprocessor holds
}

var (
	tableH100 = tableGPU{90, 132, "sm_90", 228 << 10, 2048, 32}
	tableAda  = tableGPU{89, 128, "sm_80", 100 << 10, 1536, 24} // RTX 4090
)

// blocksAtOnce returns how many blocks of a launch a multiprocessor holds: what threads, shared memory and registers, which a
// quarter of it gives out to warps by 256, allow.
func (g tableGPU) blocksAtOnce(l Launch, registers int) int {
	warps := ceil(l.Threads, 32)
	quarter := (64 << 10) / 4 / (ceil(registers, 8) * 8 * 32)
	return min(g.blocks, g.threads/32/warps, 4*quarter/warps, g.shared/(l.Shared+1<<10))
}

// tableRow is a verb whose kernels' rows it fills in.
type tableRow struct {
	kernels string // by name, separated by spaces
	shape   string // as the table has it
	run     func(b *tableBench)
}

// tableBench is where the verbs of a row run.
type tableBench struct {
	*stream
	base uint64 // memory that the rows use one after the other
	used uint64
}

const tableBytes = 80 << 20

func (b *tableBench) mat(rows, cols int, t kernels.DType) kernels.Mat {
	m := kernels.Mat{Span: kernels.Span{Addr: b.base + b.used}, Rows: rows, Cols: cols, Stride: cols, Type: t}
	if b.used += uint64(kernels.ArenaBytes(rows, cols, t)); b.used > tableBytes {
		panic(fmt.Sprintf("BUG: %d bytes for a row of the table", b.used))
	}
	return m
}

func (b *tableBench) f32(rows, cols int) kernels.Mat  { return b.mat(rows, cols, kernels.F32) }
func (b *tableBench) bf16(rows, cols int) kernels.Mat { return b.mat(rows, cols, kernels.BF16) }

// ints places a column of integers.
func (b *tableBench) ints(v ...int32) kernels.Mat {
	m := b.mat(len(v), 1, kernels.I32)
	b.Upload(m, kernels.Int32Bytes(v))
	return m
}

// pages returns the cache of a layer with one sequence of tableContext tokens, whose blocks hold so many tokens.
func (b *tableBench) pages(t kernels.DType, dim, heads, blockTokens int) kernels.Pages {
	kv := kernels.Pages{Heads: heads, KeyDim: dim, ValueDim: dim, BlockTokens: blockTokens}
	kv.K = b.mat(tableContext/blockTokens, heads*blockTokens*dim, t)
	kv.V = b.mat(tableContext/blockTokens, heads*blockTokens*dim, t)
	return kv
}

// attend attends with the last rows of the sequence. Heads are so many that their width is the model's.
func attend(t kernels.DType, dim, blockTokens, rows int) func(b *tableBench) {
	return func(b *tableBench) {
		heads := tableHeads * tableHeadDim / dim
		kv := b.pages(t, dim, tableKeyHeads*tableHeadDim/dim, blockTokens)
		y, q := b.f32(rows, heads*dim), b.f32(rows, heads*dim)
		blocks := make([]int32, tableContext/blockTokens)
		for i := range blocks {
			blocks[i] = int32(i)
		}
		seqs := kernels.Seqs{Count: 1, Rows: b.ints(0, int32(rows)), From: b.ints(int32(tableContext - rows)), Blocks: b.ints(blocks...)}
		seqs.Blocks.Rows, seqs.Blocks.Cols, seqs.Blocks.Stride = 1, len(blocks), len(blocks)
		b.Attend(y, q, kv, seqs, kernels.Attention{Heads: heads, Scale: 1 / float32(math.Sqrt(float64(dim)))})
	}
}

func store(t kernels.DType, blockTokens int, rotate bool) func(b *tableBench) {
	return func(b *tableBench) {
		kv := b.pages(t, tableHeadDim, tableKeyHeads, blockTokens)
		k, v, slots := b.f32(1, tableKeyHeads*tableHeadDim), b.f32(1, tableKeyHeads*tableHeadDim), b.ints(tableContext-1)
		if !rotate {
			b.Store(kv, k, v, slots)
			return
		}
		b.RotateStore(kv, b.f32(1, tableHeads*tableHeadDim), k, v, b.f32(1, tableHeadDim), slots, tableHeads)
	}
}

// multiply multiplies tokens by a matrix (out, in), gated or with a norm.
func multiply(tokens, out, in int, t kernels.DType, gated, normed bool) func(b *tableBench) {
	return func(b *tableBench) {
		x, w := b.f32(tokens, in), b.mat(out, in, t)
		if gated {
			out /= 2
		}
		y, done := b.f32(tokens, out), true
		switch {
		case gated && normed:
			done = b.NormedGatedMatMul(y, x, b.f32(1, in), 1e-5, w)
		case normed:
			done = b.NormedMatMul(y, x, b.f32(1, in), 1e-5, w)
		case gated:
			done = b.GatedMatMul(y, x, w)
		default:
			b.MatMul(y, x, w, kernels.Set)
		}
		if !done {
			panic("BUG: a product of the table has no kernel")
		}
	}
}

// onFew has a verb cut for a GPU of 16 multiprocessors.
func onFew(run func(b *tableBench)) func(b *tableBench) {
	return func(b *tableBench) {
		info := &b.device.info
		defer func(n int) { info.Multiprocessors = n }(info.Multiprocessors)
		info.Multiprocessors = 16
		run(b)
	}
}

// diagonals multiplies by the second factors of q, k and v, or of gate and up, of half the bytes of their products.
func diagonals(tokens int, gated bool) func(b *tableBench) {
	return func(b *tableBench) {
		ws := []kernels.Mat{b.bf16(2048, 512), b.bf16(512, 208), b.bf16(512, 208)}
		if gated {
			ws = []kernels.Mat{b.bf16(tableInner, 816), b.bf16(tableInner, 816)}
		}
		out, in := 0, 0
		for _, w := range ws {
			out, in = out+w.Rows, in+w.Cols
		}
		y, x := b.f32(tokens, out), b.f32(tokens, in)
		if gated {
			b.DiagonalSwiGLU(y, x, ws)
		} else {
			b.DiagonalMatMul(y, x, ws, kernels.Set)
		}
	}
}

func (b *tableBench) grouped(rows, bits int) kernels.Grouped {
	w := kernels.Grouped{Rows: rows, Cols: tableDim, Bits: bits, Group: 128, ScaleType: kernels.F16}
	w.Packed = b.mat(1, w.PackedBytes(), kernels.U8)
	return w
}

func groupedProduct(tokens, bits int) func(b *tableBench) {
	return func(b *tableBench) {
		w := b.grouped(tableDim, bits)
		b.GroupedMatMul(b.f32(tokens, w.Rows), b.f32(tokens, w.Cols), w, kernels.Set)
	}
}

// groupedNormed multiplies the norm of tokens by q, k and v, or by gate and up.
func groupedNormed(tokens, bits int, gated bool) func(b *tableBench) {
	return func(b *tableBench) {
		out, do := 3072, b.NormedGroupedMatMul
		if gated {
			out, do = 2*tableInner, b.NormedGatedGroupedMatMul
		}
		w := b.grouped(out, bits)
		if !do(b.f32(tokens, out), b.f32(tokens, w.Cols), b.f32(1, w.Cols), 1e-5, w) {
			panic("BUG: a product of the table has no kernel")
		}
	}
}

// choose picks a token of a row whose weights fall with their ranks as Zipf's law has it, of the first that have 0.9 of them.
func choose(b *tableBench) {
	logits := make([]float32, tableVocab)
	for rank, id := range rand.New(rand.NewPCG(1, 2)).Perm(len(logits)) {
		logits[id] = -2 * float32(math.Log(float64(1+rank)))
	}
	how := make([]int32, kernels.ChoiceWords)
	kernels.Choice{Scale: 1, Low: float32(math.Inf(-1)), TopP: 0.9, Draw: 1 << 52}.Put(how)
	row, choice := b.f32(1, tableVocab), b.ints(how...)
	b.Upload(row, kernels.Float32Bytes(logits))
	choice.Rows, choice.Cols, choice.Stride = 1, len(how), len(how)
	b.Choose(b.ints(0), row, choice)
}

// tableRows lists the verbs. Where a kernel takes more tokens than one, the row has as many as fit it.
func tableRows() []tableRow {
	const dim, inner = tableDim, tableInner
	rows := []tableRow{
		{"embed_f32", "a row of 2048", func(b *tableBench) { b.Gather(b.f32(1, dim), b.f32(4, dim), b.ints(3)) }},
		{"embed_f16", "a row of 2048", func(b *tableBench) { b.Embed(b.f32(1, dim), b.mat(4, dim, kernels.F16), b.ints(3)) }},
		{"embed_bf16", "a row of 2048", func(b *tableBench) { b.Embed(b.f32(1, dim), b.bf16(4, dim), b.ints(3)) }},
		{"scatter", "2048 columns", func(b *tableBench) {
			at := make([]int32, dim)
			for i := range at {
				at[i] = int32(i)
			}
			cols := b.ints(at...)
			cols.Rows, cols.Cols, cols.Stride = 1, dim, dim
			b.Scatter(b.f32(1, dim), b.f32(1, dim), cols, kernels.Set)
		}},
		{"bias", "q, k, v: 3072", func(b *tableBench) { b.Bias(b.f32(1, 3072), b.f32(1, 3072)) }},
		{"rms_norm", "2048", func(b *tableBench) { b.RMSNorm(b.f32(1, dim), b.f32(1, dim), b.f32(1, dim), 1e-5) }},
		{"rms_norm_short", "32 heads of 64", func(b *tableBench) { b.RMSNorm(b.f32(1, dim), b.f32(1, dim), b.f32(1, tableHeadDim), 1e-5) }},
		{"angles", "64", func(b *tableBench) { b.Angles(b.f32(1, tableHeadDim), b.ints(9), b.f32(1, tableHeadDim/2), 1) }},
		{"rotate", "32 heads of 64", func(b *tableBench) { b.Rotate(b.f32(1, dim), b.f32(1, tableHeadDim), tableHeads) }},
		{"swiglu", "8192", func(b *tableBench) { b.SwiGLU(b.f32(1, inner), b.f32(1, inner), b.f32(1, inner)) }},
		{"empty", "", func(b *tableBench) { launch(b.stream, b.f.empty, quads(1, 1), 32, 0, &emptyArgs{}) }},
		{"matmul_odd_16", "2048 x 2047, 1 token", multiply(1, dim, dim-1, kernels.BF16, false, false)},
		{"normed_8", "q, k, v: 3072 x 2048, 1 token", multiply(1, 3072, dim, kernels.BF16, false, true)},
		{"normed_gated_8", "gate, up: 16384 x 2048, 1 token", multiply(1, 2*inner, dim, kernels.BF16, true, true)},
		{"round_rows matmul_tiled_64", "o: 2048 x 2048, 128 tokens", multiply(128, dim, dim, kernels.BF16, false, false)},
		{"matmul_tiled_128", "o: 2048 x 2048, 128 tokens, 16 multiprocessors", onFew(multiply(128, dim, dim, kernels.BF16, false, false))},
		{"matmul_odd_tiled", "2048 x 2047, 128 tokens", multiply(128, dim, dim-1, kernels.BF16, false, false)},
		{"gated_tiled_64", "gate, up: 8192 x 2048, 128 tokens", multiply(128, inner, dim, kernels.BF16, true, false)},
		{"gated_tiled_128", "gate, up: 8192 x 2048, 128 tokens, 16 multiprocessors", onFew(multiply(128, inner, dim, kernels.BF16, true, false))},
		{"matmul_f16", "o: 2048 x 2048, 1 token", multiply(1, dim, dim, kernels.F16, false, false)},
		{"matmul_f32", "o: 2048 x 2048, 1 token", multiply(1, dim, dim, kernels.F32, false, false)},
		{"grouped_embed", "a row of 2048, 4 bits", func(b *tableBench) { b.GroupedEmbed(b.f32(1, dim), b.grouped(dim, 4), b.ints(3)) }},
		{"grouped_round", "8 tokens of 2048", groupedProduct(8, 4)},
		{"grouped_round_normed", "8 tokens of 2048", groupedNormed(8, 4, false)},
		{"grouped_pack", "1024 rows of 2048, 4 bits", func(b *tableBench) {
			w := b.grouped(dim, 4)
			b.Pack(w, 0, make([]byte, 1024*dim), make([]byte, 2*1024*w.Groups()), nil)
		}},
		{"choose_top choose_weigh choose_draw", "128256 logits, top-p 0.9", choose},
		{"choose_follow", "1 id", func(b *tableBench) { b.Follow(b.ints(-1), b.ints(5)) }},
	}
	for _, n := range []int{8, 16, 32, 64} {
		tokens, plural := n, fmt.Sprintf("%d tokens", n)
		if n == 8 {
			tokens, plural = 1, "1 token"
		}
		rows = append(rows,
			tableRow{fmt.Sprintf("matmul_%d", n), "o: 2048 x 2048, " + plural, multiply(tokens, dim, dim, kernels.BF16, false, false)},
			tableRow{fmt.Sprintf("gated_%d", n), "gate, up: 16384 x 2048, " + plural, multiply(tokens, 2*inner, dim, kernels.BF16, true, false)},
			tableRow{fmt.Sprintf("diagonal_%d", n), "U of q, k, v: 2048 x 512, twice 512 x 208, " + plural, diagonals(tokens, false)},
			tableRow{fmt.Sprintf("diagonal_gated_%d", n), "U of gate, up: twice 8192 x 816, " + plural, diagonals(tokens, true)})
	}
	for _, bits := range []int{8, 4, 3, 2} {
		rows = append(rows,
			tableRow{fmt.Sprintf("grouped_normed_w%d", bits), "q, k, v: 3072 x 2048, 1 token", groupedNormed(1, bits, false)},
			tableRow{fmt.Sprintf("grouped_normed_gated_w%d", bits), "gate, up: 16384 x 2048, 1 token", groupedNormed(1, bits, true)})
		for name, tokens := range map[string]int{"one": 1, "8": 8, "16": 16, "32": 32, "tiled": 128} {
			shape := fmt.Sprintf("2048 x 2048, %d tokens", tokens)
			rows = append(rows, tableRow{fmt.Sprintf("grouped_%s_w%d", name, bits), strings.Replace(shape, " 1 tokens", " 1 token", 1), groupedProduct(tokens, bits)})
		}
	}
	for _, t := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16} {
		rows = append(rows,
			tableRow{fmt.Sprintf("store_%s", t), "1 token", store(t, 8, false)},
			tableRow{fmt.Sprintf("rotate_store_%s", t), "1 token", store(t, 8, true)},
			tableRow{fmt.Sprintf("attend_%s", t), "1 token, 2048 of context", attend(t, tableHeadDim, 8, 1)})
		if t == kernels.F32 {
			continue
		}
		rows = append(rows,
			tableRow{fmt.Sprintf("store_%s_tiles", t), "1 token", store(t, 32, false)},
			tableRow{fmt.Sprintf("rotate_store_%s_tiles", t), "1 token", store(t, 32, true)})
		for _, width := range []int{64, 128, 256} {
			shape := fmt.Sprintf("%d heads of %d over %d", tableHeads*tableHeadDim/width, width, tableKeyHeads*tableHeadDim/width)
			rows = append(rows,
				tableRow{fmt.Sprintf("decode_%s_%d", t, width), shape + ", 1 token", attend(t, width, 32, 1)},
				tableRow{fmt.Sprintf("prefill_%s_%d", t, width), shape + ", 64 tokens", attend(t, width, 32, 64)})
		}
	}
	return rows
}

// tableFigures is what a verb does of which a kernel has a row.
type tableFigures struct {
	shape    string
	launches int // of the verb, all kernels
	launch   Launch
	done     shim.Count // by the kernel; nothing where it did not run
}

// measure lets the verbs of the tables run for a GPU, or only says how they would be launched, and returns figures by kernel.
func (g tableGPU) measure(t *testing.T, run bool) map[string]tableFigures {
	l, err := shim.Open(shim.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	l.Reset()
	t.Cleanup(l.Reset)
	l.Set("capability", int64(g.capability))
	l.Set("multiprocessors", int64(g.multiprocessors))
	l.Set("traffic", 1)
	var launches []Launch
	f := fakes{}
	if !run {
		f["cuLaunchKernel"] = func(_, _, _, _, _, _, _, _, _, _, _ uintptr) uintptr { return 0 }
	}
	s := f.stream(t, Options{Trace: func(l Launch) { launches = append(launches, l) }, Timeout: 10 * DefaultTimeout})
	m, free := memory(t, s.device, tableBytes)
	b := &tableBench{stream: s, base: m.Addr}
	counts := func() map[string]shim.Count {
		all := map[string]shim.Count{}
		for _, c := range l.Counts() {
			all[c.Kernel] = c
		}
		return all
	}
	figures := map[string]tableFigures{}
	for _, row := range tableRows() {
		launches, b.used = nil, 0
		before := counts()
		row.run(b)
		if err := s.Sync(); err != nil {
			t.Fatalf("%s: %v", row.kernels, err)
		}
		after := counts()
		for name := range strings.FieldsSeq(row.kernels) {
			i := slices.IndexFunc(launches, func(l Launch) bool { return l.Kernel == name })
			if i < 0 {
				continue // this GPU has another for it
			}
			figures[name] = tableFigures{row.shape, len(launches), launches[i], since(before[name], after[name])}
		}
	}
	if err := free(); err != nil {
		t.Error(err)
	}
	return figures
}

// usage returns registers and bytes spilled of every kernel by module's target and name, from what ptxas said.
func usage(t *testing.T) (registers, spills map[[2]string]int) {
	t.Helper()
	text, err := os.ReadFile("ptx/ptxas.txt")
	if err != nil {
		t.Fatal(err)
	}
	registers, spills = map[[2]string]int{}, map[[2]string]int{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] == "module" {
			continue
		}
		_, target, _ := strings.Cut(f[0], ".")
		key := [2]string{target, f[1]}
		if registers[key], err = strconv.Atoi(f[2]); err == nil {
			spills[key], err = strconv.Atoi(f[4])
		}
		if err != nil {
			t.Fatalf("ptx/ptxas.txt: %q: %v", line, err)
		}
	}
	return registers, spills
}

// since returns what a kernel has done between two counts.
func since(before, after shim.Count) shim.Count {
	after.Read -= before.Read
	after.Written -= before.Written
	after.Shared -= before.Shared
	after.Passes -= before.Passes
	after.Asked -= before.Asked
	after.Sectors -= before.Sectors
	return after
}

// Columns of a table: those written by hand, and those that are filled in. What a kernel does to memory alone takes a run of it.
var tableColumns = []string{
	"kernel", "for", "measured with", "launches", "KB read", "KB written", "sectors", "conflicts", "grid", "threads", "KB shared", "registers", "spills", "blocks at once",
}

const columnRead, columnConflicts = 4, 7 // the first and the last that a run takes

// percent spells a part of a whole, or nothing where there is none.
func percent(part, whole int64) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}

// kilobytes spells bytes in units of 1000, to three digits.
func kilobytes(n int64) string {
	kb := float64(n) / 1000
	switch {
	case kb >= 100:
		return fmt.Sprintf("%.0f", kb)
	case kb >= 10:
		return fmt.Sprintf("%.1f", kb)
	}
	return fmt.Sprintf("%.2f", kb)
}

// TestTable holds the tables of docs/cuda.md against the kernels that there are: every kernel of the PTX has a row,
// and figures are those of its launches and of ptxas.
func TestTable(t *testing.T) {
	if race.Enabled {
		t.Skip("no code of Go is at stake")
	}
	text, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	entry := regexp.MustCompile(`(?m)^\.visible \.entry (\w+)\(`)
	for _, target := range ptx.Targets() {
		images, err := ptx.Images(target.Capability)
		if err != nil {
			t.Fatal(err)
		}
		for _, image := range images {
			for _, m := range entry.FindAllSubmatch(image, -1) {
				if !strings.Contains(string(text), "\n| `"+string(m[1])+"` |") {
					t.Errorf("%s has no row for kernel %s", tablePath, m[1])
				}
			}
		}
	}
	registers, spills := usage(t)
	var hopper, ada map[string]tableFigures
	t.Run("H100", func(t *testing.T) { hopper = tableH100.measure(t, *update) })
	t.Run("4090", func(t *testing.T) { ada = tableAda.measure(t, false) })
	lines := strings.SplitAfter(string(text), "\n")
	if t.Failed() {
		return
	}
	for i, line := range lines {
		cells := strings.Split(line, "|")
		if len(cells) != len(tableColumns)+2 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		cells = cells[1 : len(cells)-1]
		name := strings.Trim(cells[0], " `")
		h, ok := hopper[name]
		if !ok {
			t.Errorf("%s, line %d: no such kernel as %s", tablePath, i+1, name)
			continue
		}
		a, alike := ada[name]
		delete(hopper, name)
		key90, key80 := [2]string{tableH100.target, name}, [2]string{tableAda.target, name}
		two := func(h, a any) string {
			if !alike {
				a = "none"
			}
			if h == a {
				return fmt.Sprint(h)
			}
			return fmt.Sprintf("%v / %v", h, a)
		}
		atOnce := 0
		if alike {
			atOnce = tableAda.blocksAtOnce(a.launch, registers[key80])
		}
		want := []string{
			cells[0], cells[1], h.shape, strconv.Itoa(h.launches), kilobytes(h.done.Read), kilobytes(h.done.Written),
			percent(h.done.Asked, 32*h.done.Sectors), percent(h.done.Passes-h.done.Shared, h.done.Shared),
			two(grid(h.launch), grid(a.launch)), two(h.launch.Threads, a.launch.Threads), two(kibibytes(h.launch.Shared), kibibytes(a.launch.Shared)),
			two(registers[key90], registers[key80]), two(spills[key90], spills[key80]), two(tableH100.blocksAtOnce(h.launch, registers[key90]), atOnce),
		}
		for c, got := range cells {
			got, want := strings.TrimSpace(got), strings.TrimSpace(want[c])
			if !*update && c >= columnRead && c <= columnConflicts {
				want = got
			}
			if got != want && !*update {
				t.Errorf("%s, line %d: %s has %q in column %q, want %q: fill it in with -update", tablePath, i+1, name, got, tableColumns[c], want)
			}
			cells[c] = " " + want + " "
		}
		lines[i] = "|" + strings.Join(cells, "|") + "|\n"
	}
	for _, name := range slices.Sorted(maps.Keys(hopper)) {
		t.Errorf("%s has no row for kernel %s", tablePath, name)
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(tablePath, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// grid spells the blocks of a launch.
func grid(l Launch) string {
	g := l.Grid[:]
	for len(g) > 1 && g[len(g)-1] == 1 {
		g = g[:len(g)-1]
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(g), " ", "x"), "[]")
}

// kibibytes spells bytes of shared memory.
func kibibytes(n int) string {
	return strconv.FormatFloat(math.Round(float64(n)/102.4)/10, 'f', -1, 64)
}
