package compress_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/compress"
	"eckart/model/modeltest"
	"eckart/model/tokenizer"
)

const (
	tinyDir = "../testdata/qwen2"
	shared  = "../../../shared"
	trained = shared + "/models/gopher-dense"
)

func openCPU(t testing.TB) kernels.Device {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{Threads: cpu.DefaultThreads()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

func walker(t testing.TB, src model.Source, window int) *model.Walker {
	t.Helper()
	w, err := model.NewWalker(src, openCPU(t), window)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// someWindows returns windows of the given lengths.
func someWindows(vocab int, lengths ...int) [][]int32 {
	var all [][]int32
	for s, n := range lengths {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32((i*i*7 + i*31 + s*53) % vocab)
		}
		all = append(all, ids)
	}
	return all
}

// relative returns the Frobenius norm of a - b over that of b.
func relative(a, b linalg.Matrix) float64 {
	var d, n float64
	for i, v := range b.Data {
		d += (a.Data[i] - v) * (a.Data[i] - v)
		n += v * v
	}
	return math.Sqrt(d / n)
}

// TestSurvey holds statistics against sums in float64 over what a whole model shows.
func TestSurvey(t *testing.T) {
	src := modeltest.OpenSource(t, tinyDir)
	w := walker(t, src, 40)
	windows := someWindows(w.Config().Vocab, 40, 3, 17, 40)
	var steps []int
	s, err := compress.Survey(t.Context(), w, windows, func(done, total int) { steps = append(steps, done, total) })
	if err != nil {
		t.Fatal(err)
	}
	if n := len(windows) * w.Layers(); len(steps) != 2*n || steps[0] != 1 || steps[len(steps)-2] != n || steps[len(steps)-1] != n {
		t.Errorf("progress %v", steps)
	}

	// What the model shows: rows by name, tokens of all windows below one another.
	m := modeltest.LoadSource(t, openCPU(t), src, kernels.F32)
	rows := map[string][][]float32{}
	m.Batch.SetProbe(func(name string, x kernels.Mat) {
		for i := range x.Rows {
			rows[name] = append(rows[name], slices.Clone(x.Float32s(i)))
		}
	})
	for _, ids := range windows {
		m.Logits(t, ids, 0)
	}

	const total = 100
	if s.Tokens != total {
		t.Errorf("%d tokens, want %d", s.Tokens, total)
	}
	if len(s.Sites) != 4*w.Layers() {
		t.Errorf("%d sites, want %d", len(s.Sites), 4*w.Layers())
	}
	for i := range w.Layers() {
		sites, err := w.Sites(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, site := range sites {
			got, x := s.Sites[site.Name], rows[site.Name]
			if got == nil || len(x) != total || got.Tokens != total {
				t.Fatalf("%s: %d rows seen, moments %v", site.Name, len(x), got)
			}
			gram, mean := linalg.New(site.In, site.In), make([]float64, site.In)
			for _, row := range x {
				for j, v := range row {
					mean[j] += float64(v) / total
					for k, u := range row {
						gram.Row(j)[k] += float64(v) * float64(u)
					}
				}
			}
			if d := relative(got.Gram, gram); !(d < 1e-6) {
				t.Errorf("%s: the Gram matrix is off by %g", site.Name, d)
			}
			for j, v := range mean {
				if d := math.Abs(got.Mean[j] - v); !(d <= 1e-12) {
					t.Errorf("%s: mean %d is %g, want %g", site.Name, j, got.Mean[j], v)
				}
			}
		}
		before := rows["model.embed_tokens"]
		if i > 0 {
			before = rows[fmt.Sprintf("model.layers.%d", i-1)]
		}
		after := rows[fmt.Sprintf("model.layers.%d", i)]
		var influence float64
		for r := range before {
			var dot, b, a float64
			for j, v := range before[r] {
				dot += float64(v) * float64(after[r][j])
				b += float64(v) * float64(v)
				a += float64(after[r][j]) * float64(after[r][j])
			}
			influence += (1 - dot/math.Sqrt(a*b)) / total
		}
		if d := math.Abs(s.Influence[i] - influence); !(d < 1e-12) {
			t.Errorf("influence of block %d is %g, want %g", i, s.Influence[i], influence)
		}
	}
}

// TestSurveyRepeats: the same windows give the same bits.
func TestSurveyRepeats(t *testing.T) {
	w := walker(t, modeltest.OpenSource(t, tinyDir), 40)
	windows := someWindows(w.Config().Vocab, 40, 40, 9)
	var all [2]*compress.Statistics
	for i := range all {
		var err error
		if all[i], err = compress.Survey(t.Context(), w, windows, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, m := range all[0].Sites {
		if o := all[1].Sites[name]; !slices.Equal(m.Gram.Data, o.Gram.Data) || !slices.Equal(m.Mean, o.Mean) {
			t.Errorf("%s differs from run to run", name)
		}
	}
	if !slices.Equal(all[0].Influence, all[1].Influence) {
		t.Error("influence differs from run to run")
	}
}

// scaled is a source that gives one matrix times a factor.
type scaled struct {
	model.Source
	factors map[string]float32
}

func (s scaled) Weight(name string) (layers.Weight, error) {
	w, err := s.Source.Weight(name)
	factor, ok := s.factors[name]
	if err != nil || !ok {
		return w, err
	}
	values, err := w.Dense()
	if err != nil {
		return nil, err
	}
	out, in := w.Dims()
	return layers.NewDense(layers.Part{Name: "weight", Type: kernels.F32, Rows: out, Cols: in, Read: func(dst []byte, row int) error {
		for i := range len(dst) / 4 {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(values[row*in+i]*factor))
		}
		return nil
	}}), nil
}

func TestSurveyRefuses(t *testing.T) {
	src := modeltest.OpenSource(t, tinyDir)
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	const one = "model.layers.1."
	for name, c := range map[string]struct {
		ctx     context.Context
		factors map[string]float32
		windows []int
		says    string
	}{
		"no text":          {windows: nil, says: "no tokens"},
		"an empty window":  {windows: []int{4, 0}, says: "window 1 has 0 tokens"},
		"a long window":    {windows: []int{4, 17}, says: "window 1 has 17 tokens, want from 1 to 16"},
		"an interrupt":     {windows: []int{4}, ctx: cancelled, says: "interrupted"},
		"an infinite site": {windows: []int{9}, factors: map[string]float32{one + "mlp.gate_proj.weight": 1e25, one + "mlp.up_proj.weight": 1e25}, says: "input of " + one + "mlp.down_proj is "},
		"a site's product": {windows: []int{9}, factors: map[string]float32{one + "self_attn.v_proj.weight": 1e25}, says: one + "self_attn.o_proj is too large"},
		"an output":        {windows: []int{9}, factors: map[string]float32{one + "mlp.gate_proj.weight": 1e18, one + "mlp.up_proj.weight": 1e18, one + "mlp.down_proj.weight": 1e18}, says: "output of model.layers.1 is not finite"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			w := walker(t, scaled{src, c.factors}, 16)
			_, err := compress.Survey(c.ctx, w, someWindows(w.Config().Vocab, c.windows...), nil)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// calibration returns windows of the text that the reference statistics of the trained model were made from.
func calibration(t testing.TB, windows int) [][]int32 {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(trained, "tokenizer.json"))
	if err != nil {
		t.Skip("the trained model is not here")
	}
	tok, err := tokenizer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(shared + "/models/text/calibration.txt")
	if err != nil {
		t.Fatal(err)
	}
	ids := tok.Encode(string(text), tokenizer.EncodeOptions{})
	const window = 512
	var all [][]int32
	for i := range windows {
		all = append(all, ids[i*window:(i+1)*window])
	}
	return all
}

// TestSurveyOfTrainedModel holds the Grams of one layer of a trained model against those of the reference implementation,
// which summed all of its own in F32.
func TestSurveyOfTrainedModel(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	const layer = 3
	found := sampled(t, trained, calibration(t, 128), compress.Sampling{Share: 1}, layer)
	f, err := checkpoint.Open(shared + "/golden/compression/grams_layer3.safetensors")
	if err != nil {
		t.Skip("no reference statistics")
	}
	defer f.Close()
	sites, err := walker(t, modeltest.OpenSource(t, trained), 512).Sites(layer)
	if err != nil {
		t.Fatal(err)
	}
	for _, site := range sites {
		for _, m := range site.Weights {
			name := strings.TrimSuffix(m.Name, "weight") + "gram"
			tensor, ok := f.Tensor(name)
			if !ok {
				t.Fatalf("no %s", name)
			}
			raw := make([]byte, tensor.Bytes())
			if err := f.ReadAt(raw, tensor, 0); err != nil {
				t.Fatal(err)
			}
			want := linalg.New(site.In, site.In)
			for i, v := range layers.Float32s(raw, kernels.F32) {
				want.Data[i] = float64(v)
			}
			d := relative(found[site.Name].Gram, want)
			t.Logf("%s: %.2g", m.Name, d)
			if !(d < 1e-5) {
				t.Errorf("%s: off by %g", name, d)
			}
		}
	}
}
