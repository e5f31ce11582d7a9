package packed_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"eckart/layers"
	"eckart/model/checkpoint"
	"eckart/model/packed"
)

// A tensor is one as these tests write it, apart from the program's own writer.
type tensor struct {
	dtype string
	shape []int
	data  []byte
}

func f32(shape []int, values ...float32) tensor {
	x := tensor{"F32", shape, nil}
	for _, v := range values {
		x.data = binary.LittleEndian.AppendUint32(x.data, math.Float32bits(v))
	}
	return x
}

func i32(values ...int32) tensor {
	x := tensor{"I32", []int{1, len(values)}, nil}
	for _, v := range values {
		x.data = binary.LittleEndian.AppendUint32(x.data, uint32(v))
	}
	return x
}

func u8(shape []int, values ...byte) tensor { return tensor{"U8", shape, values} }

// A file is a checkpoint in the making.
type file struct {
	tensors map[string]tensor
	meta    map[string]string
	config  string
}

// open writes the file and opens it.
func (f file) open(t testing.TB) (*packed.Reader, error) {
	t.Helper()
	header := map[string]any{"__metadata__": f.meta}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(f.tensors)) {
		x := f.tensors[name]
		header[name] = map[string]any{"dtype": x.dtype, "shape": x.shape, "data_offsets": []int{len(data), len(data) + len(x.data)}}
		data = append(data, x.data...)
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	raw := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	c, err := checkpoint.OpenFS(fstest.MapFS{"model.safetensors": {Data: append(raw, data...)}}, ".")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return packed.Open(c, []byte(f.config))
}

// example is the file that docs/format.md takes apart, and the numbers that it stands for.
func example() (file, map[string][]float32) {
	f := file{
		map[string]tensor{
			"norm.weight": f32([]int{2}, 1, 1),
			// (2, 5), 3 bits: 1 2 3 4 5 is 101 100 011 010 001 read from the right, in bytes from the left.
			"q.grouped.codes":  u8([]int{2, 2}, 0b11_010_001, 0b0_101_100_0, 0b11_111_000, 0b0_000_000_1),
			"q.grouped.scales": f32([]int{2, 1}, -0.5, 2),
			"q.grouped.order":  i32(4, 3, 2, 1, 0),
			// (3, 2) of rank 1, the left factor rounded.
			"k.lowrank.u.grouped.codes":  u8([]int{3, 1}, 0, 128, 255),
			"k.lowrank.u.grouped.scales": f32([]int{3, 1}, 1, 1, 1),
			"k.lowrank.u.grouped.zeros":  u8([]int{3, 1}, 10, 128, 250),
			"k.lowrank.v":                f32([]int{1, 2}, 1, 0.5),
			// (3, 2): row 2 is a pivot, rows 0 and 1 are 2 and 3 times it.
			"v.pifa.v":      f32([]int{1, 2}, 1, -1),
			"v.pifa.k":      f32([]int{2, 1}, 2, 3),
			"v.pifa.pivots": i32(2),
			// (2, 2): two directions, the first of which is the greater.
			"o.nested.ut":     f32([]int{2, 2}, 3, 0, 0, 1),
			"o.nested.v":      f32([]int{2, 2}, 1, 0, 0, 1),
			"o.nested.energy": f32([]int{1, 2}, 9, 1),
			// (2, 2): a dense matrix and a product whose right factor another has too.
			"up.sum.a":           f32([]int{2, 2}, 1, 2, 3, 4),
			"up.sum.b.lowrank.u": f32([]int{2, 1}, 1, -1),
			"gate.lowrank.u":     f32([]int{1, 1}, 4),
			"shared.mlp":         f32([]int{1, 2}, 10, 20),
			"down.weight":        f32([]int{1, 2}, 7, 8),
		},
		map[string]string{"lm.version": "1.0", "lm.source": "sha256:0", "lm.producer": "a test", "lm.plan": `{
			"seed": 1,
			"stored": {
				"q": {"shape": [2, 5], "kind": "grouped", "type": "F32", "bits": 3, "group": 32, "order": true},
				"k": {"shape": [3, 2], "kind": "lowrank", "rank": 1, "of": {
					"u": {"kind": "grouped", "type": "F32", "bits": 8, "group": 32, "zeros": true},
					"v": {"kind": "dense", "type": "F32"}}},
				"v": {"shape": [3, 2], "kind": "pifa", "rank": 1, "of": {
					"v": {"kind": "dense", "type": "F32"}, "k": {"kind": "dense", "type": "F32"}}},
				"o": {"shape": [2, 2], "kind": "nested", "rank": 2, "of": {
					"ut": {"kind": "dense", "type": "F32"}, "v": {"kind": "dense", "type": "F32"}}},
				"up": {"shape": [2, 2], "kind": "sum", "of": {
					"a": {"kind": "dense", "type": "F32"},
					"b": {"kind": "lowrank", "rank": 1, "of": {
						"u": {"kind": "dense", "type": "F32"}, "v": {"kind": "dense", "type": "F32", "shared": "mlp"}}}}},
				"gate": {"shape": [1, 2], "kind": "lowrank", "rank": 1, "of": {
					"u": {"kind": "dense", "type": "F32"}, "v": {"kind": "dense", "type": "F32", "shared": "mlp"}}},
				"down": {"shape": [1, 2], "kind": "dense", "type": "F32"}
			}}`},
		`{"quantization_config": {"quant_method": "eckart", "version": "1.0"}, "hidden_size": 2}`,
	}
	want := map[string][]float32{
		// Codes minus 4 times the scale, columns in reverse: 1 2 3 4 5 and 0 7 7 0 0.
		"q.weight":    {-0.5, 0, 0.5, 1, 1.5, -8, -8, 6, 6, -8},
		"k.weight":    {-10, -5, 0, 0, 5, 2.5},
		"v.weight":    {2, -2, 3, -3, 1, -1},
		"o.weight":    {3, 0, 0, 1},
		"up.weight":   {11, 22, -7, -16},
		"gate.weight": {40, 80},
		"down.weight": {7, 8},
	}
	return f, want
}

// TestExample reads a file that was written by hand, after the specification, and holds it against the numbers.
func TestExample(t *testing.T) {
	f, want := example()
	r, err := f.open(t)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Packed() || r.Source != "sha256:0" || r.Producer != "a test" || string(r.Plan) != `{"seed":1}` {
		t.Errorf("manifest is %+v", r.Manifest)
	}
	if got := string(r.Config()); got != `{"hidden_size":2}` {
		t.Errorf("config is %s", got)
	}
	if got := r.Matrices(); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("matrices are %q", got)
	}
	for name, values := range want {
		w, ok, err := r.Weight(name)
		if err != nil || !ok {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := w.Dense()
		if err != nil || !slices.Equal(got, values) {
			t.Errorf("%s is %v, want %v, error %v", name, got, values, err)
		}
		s, err := packed.Describe(w)
		if err != nil {
			t.Error(err)
		}
		if s.Kind != r.Stored[strings.TrimSuffix(name, ".weight")].Kind {
			t.Errorf("%s is described as %v", name, s)
		}
		if n, ok := r.Elements(name); !ok || n != len(values) {
			t.Errorf("%s has %d elements", name, n)
		}
	}
	if got := r.Tensors("gate.weight"); !slices.Equal(got, []string{"gate.lowrank.u", "shared.mlp"}) {
		t.Errorf("tensors are %q", got)
	}
	if r.Hidden("norm.weight") || !r.Hidden("shared.mlp") {
		t.Error("hides the wrong tensors")
	}
	if _, ok, err := r.Weight("norm.weight"); ok || err != nil {
		t.Error("a vector is a compressed matrix")
	}
}

// TestForeign leaves checkpoints alone that are none of ours.
func TestForeign(t *testing.T) {
	config := `{"quantization_config": {"quant_method": "gptq"}}`
	r, err := file{map[string]tensor{"a.weight": f32([]int{1, 1}, 1), "nested.weight": f32([]int{1}, 1), "x.sum.c": f32([]int{1}, 1)}, nil, config}.open(t)
	if err != nil || r.Packed() || string(r.Config()) != config || len(r.Matrices()) > 0 || r.Notes() != nil {
		t.Errorf("reader is %+v, error %v", r, err)
	}
}

// TestRefuses changes the example in one place and names what is wrong.
func TestRefuses(t *testing.T) {
	plan := func(from, to string) func(f *file) {
		return func(f *file) {
			text := strings.ReplaceAll(f.meta["lm.plan"], from, to)
			if text == f.meta["lm.plan"] {
				panic("nothing changed: " + from)
			}
			f.meta["lm.plan"] = text
		}
	}
	version := func(v string) func(f *file) { return func(f *file) { f.meta["lm.version"] = v } }
	put := func(name string, x tensor) func(f *file) { return func(f *file) { f.tensors[name] = x } }
	drop := func(name string) func(f *file) { return func(f *file) { delete(f.tensors, name) } }
	for _, row := range []struct {
		change func(f *file)
		want   string
	}{
		{version("2.0"), `lm.version is "2.0", and this program reads version 1`},
		{version("0.9"), "another major version is another format"},
		{version("1.1"), "a newer program is needed"},
		{version("1"), `want two numbers such as "1.0"`},
		{version("01.0"), "want two numbers"},
		{version("1.9999999"), "want two numbers"},
		{func(f *file) { delete(f.meta, "lm.version") }, "gate.lowrank.u is a part of a compressed matrix, and the metadata has no lm.version"},
		{func(f *file) { f.tensors, f.meta = map[string]tensor{"a": f32([]int{1}, 1)}, nil }, `config.json says quant_method "eckart", and the metadata has no lm.version`},
		{func(f *file) { f.config = "{}" }, `quantization_config of config.json does not say quant_method "eckart"`},
		{func(f *file) { f.config = "[" }, "read config.json"},
		{func(f *file) { f.config = strings.Replace(f.config, `"1.0"`, `"1.1"`, 1) }, `config.json says version "1.1"`},
		{func(f *file) { f.config = strings.Replace(f.config, `"version"`, `"more": 1, "version"`, 1) }, `unknown field "more"`},
		{func(f *file) { f.config = strings.Replace(f.config, `"version"`, `"version": "1.0", "version"`, 1) }, `"version" occurs twice`},
		{func(f *file) { delete(f.meta, "lm.plan") }, "gate.lowrank.u is a part of a compressed matrix, and metadata lm.plan has none that it belongs to"},
		{func(f *file) { f.meta["lm.plan"] = "[]" }, "metadata lm.plan: want an object"},
		{func(f *file) { f.meta["lm.plan"] += "{" }, "something follows the object"},
		{func(f *file) { f.meta["lm.plan"] = strings.Repeat(`{"a":`, 100) }, "more than 64 deep"},
		{func(f *file) { f.meta["lm.plan"] = `{"stored": [` }, "unexpected EOF"},
		{plan(`"down"`, `"q"`), `metadata lm.plan: "q" occurs twice`},
		{plan(`"bits": 3`, `"bits": 3, "bits": 4`), `"bits" occurs twice`},
		{plan(`"bits": 3`, `"bit": 3`), `unknown field "bit"`},
		{plan(`"bits": 3`, `"bits": 5`), "grouped matrix of 5 bits"},
		{plan(`"bits": 3`, `"bits": 4`), "q.grouped.codes has type U8 and shape [2 2], want U8 and [2 3]"},
		{plan(`"bits": 3`, `"rank": 1, "bits": 3`), "q: kind grouped: it has a field that is none of this kind"},
		{plan(`"bits": 3, "group": 32`, `"bits": 3, "group": 33`), "groups of 33 columns"},
		{plan(`"bits": 3, "group": 32`, `"bits": 3, "group": 1099511627776`), "group is 1099511627776"},
		{plan(`"type": "F32", "bits": 3`, `"type": "I8", "bits": 3`), `type of scales is "I8"`},
		{plan(`"type": "F32", "bits": 3`, `"type": "F16", "bits": 3`), "q.grouped.scales has type F32 and shape [2 1], want F16"},
		{plan(`[2, 5]`, `[2, 0]`), "shape is [2 0]"},
		{plan(`[2, 5]`, `[0, 5]`), "shape is [0 5]"},
		{plan(`[2, 5]`, `[-1, 5]`), "shape is [-1 5]"},
		{plan(`[2, 5]`, `[2, 4294967296]`), "shape is [2 4294967296], want two numbers between 1 and"},
		{plan(`[2, 5]`, `[2, 5, 1]`), "shape has 3 numbers, want out and in"},
		{plan(`"kind": "grouped", "type": "F32", "bits": 3`, `"kind": "sparse", "type": "F32", "bits": 3`), `q: kind "sparse" is not known (dense, grouped,`},
		{plan(`"of": {
					"ut": {"kind": "dense", "type": "F32"}, `, `"of": {`), "the form of its matrix ut is missing"},
		{plan(`"ut": {"kind": "dense", "type": "F32"}`, `"ut": {"kind": "grouped", "type": "F32", "bits": 8, "group": 32}`), "its matrix ut is of kind \"grouped\", want dense"},
		{plan(`"u": {"kind": "grouped"`, `"x": {"kind": "dense"}, "u": {"kind": "grouped"`), `it has no matrix "x"`},
		{plan(`"kind": "pifa", "rank": 1`, `"kind": "pifa", "rank": 4`), "v: kind pifa: rank is 4, want 1 to 3"},
		{plan(`"kind": "nested", "rank": 2`, `"kind": "nested"`), "o: kind nested: rank is 0"},
		{plan(`"down": {`, `"down": {"shared": "y", `), "down: a whole matrix is shared"},
		{plan(`"kind": "lowrank", "rank": 1, "of": {
					"u": {"kind": "dense", "type": "F32"}, "v": {"kind": "dense", "type": "F32", "shared": "mlp"}}},`,
			`"kind": "lowrank", "rank": 1, "of": {
					"u": {"kind": "dense", "type": "F32"}, "v": {"kind": "dense", "type": "F16", "shared": "mlp"}}},`), "shared.mlp has type F32 and shape [1 2], want F16"},
		{plan(`"down": {`, `"": {`), "a module without a name"},
		{plan(`"a": {"kind": "dense", "type": "F32"}`, `"a": `+strings.Repeat(`{"kind": "sum", "of": {"b": {"kind": "dense", "type": "F32"}, "a": `, 5)+`{"kind": "dense", "type": "F32"}`+strings.Repeat("}}", 5)), "up.sum"},
		{drop("q.grouped.scales"), "q.grouped.scales is missing, a part of q.weight, which is stored as grouped"},
		{drop("shared.mlp"), "shared.mlp is missing"},
		{drop("down.weight"), "down.weight is missing"},
		{put("q.weight", f32([]int{2, 5}, make([]float32, 10)...)), "q.weight is there, and metadata lm.plan says that it is stored as grouped"},
		{put("q.grouped.zeros", u8([]int{2, 1}, 1, 1)), "q.grouped.zeros is a part of a compressed matrix, and metadata lm.plan has none"},
		{put("z.pifa.pivots", i32(1)), "z.pifa.pivots is a part of a compressed matrix"},
		{put("k.lowrank.v", f32([]int{2}, 1, 2)), "k.lowrank.v has type F32 and shape [2], want F32 and [1 2]"},
	} {
		f, _ := example()
		row.change(&f)
		if _, err := f.open(t); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("error is %v, want %s", err, row.want)
		}
	}
	// What needs the bytes is judged when they are read.
	for _, row := range []struct {
		change func(f *file)
		name   string
		want   string
	}{
		{put("q.grouped.scales", f32([]int{2, 1}, float32(math.NaN()), 1)), "q.weight", "q.grouped.scales in model.safetensors: element 0 is not a finite number"},
		{put("q.grouped.scales", f32([]int{2, 1}, 0, 1)), "q.weight", "the scale of group 0 is 0, want a finite number other than 0"},
		{put("q.grouped.order", i32(0, 1, 2, 3, 3)), "q.weight", "read q: order of columns has 3 at 4, out of range or twice"},
		{put("v.pifa.pivots", i32(3)), "v.weight", "read v: pivoted factors: part pivots has 3 at 0"},
		{put("o.nested.energy", f32([]int{1, 2}, 1, -1)), "o.weight", "part energy has -1 at 1"},
		{put("k.lowrank.v", f32([]int{1, 2}, 1, float32(math.Inf(1)))), "k.weight", "k.lowrank.v in model.safetensors: element 1 is not a finite number"},
	} {
		f, _ := example()
		row.change(&f)
		r, err := f.open(t)
		if err == nil {
			var w layers.Weight
			if w, _, err = r.Weight(row.name); err == nil {
				_, err = w.Dense()
			}
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("error is %v, want %s", err, row.want)
		}
	}
}

// FuzzOpen reads arbitrary metadata, config and names of parts over the example's tensors: nothing panics, nothing large
// is allocated, and what is accepted can be read and described as the plan has it.
func FuzzOpen(f *testing.F) {
	first, _ := example()
	f.Add(first.meta["lm.version"], first.meta["lm.plan"], first.config, "q.grouped.zeros")
	f.Add("1.0", `{"stored":{"k":{"shape":[3,2],"kind":"sum","of":{"a":{"kind":"dense","type":"F32","shared":"mlp"}}}}}`, "{}", "x.sum.a")
	f.Add("1.0", `{"stored":{"norm":{"shape":[1,1],"kind":"dense","type":"F32"}}}`, first.config, "shared.a.b")
	f.Add("", "", `{"quantization_config":{"quant_method":"eckart","base":{}}}`, ".sum..a")
	f.Fuzz(func(t *testing.T, version, plan, config, name string) {
		x, _ := example()
		if !json.Valid([]byte(fmt.Sprintf("%q", name))) || name == "__metadata__" {
			return
		}
		x.meta = map[string]string{"lm.version": version, "lm.plan": plan}
		x.config = config
		x.tensors[strings.ToValidUTF8(name, "?")] = f32([]int{1, 1}, 1)
		r, err := x.open(t)
		if err != nil {
			return
		}
		for _, name := range r.Matrices() {
			w, ok, err := r.Weight(name)
			if !ok {
				t.Fatalf("%s is gone", name)
			}
			if err != nil {
				continue
			}
			out, in := w.Dims()
			s := r.Stored[strings.TrimSuffix(name, ".weight")]
			if got, err := packed.Describe(w); err != nil || got.Kind != s.Kind || got.Shape != s.Shape || out*in > 1<<12 {
				t.Errorf("%s is %v, the plan says %v, error %v", name, got, s, err)
			}
			if d, err := w.Dense(); err == nil && len(d) != out*in {
				t.Errorf("%s has %d elements, want %d", name, len(d), out*in)
			}
		}
	})
}
