package launch

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eckart/cmd/internal/command"
	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
)

func TestQuantizeFlags(t *testing.T) {
	int4 := layers.Rounding{Bits: 4, Group: 32, ScaleType: kernels.F16}
	with := func(r layers.Rounding, change func(*layers.Rounding)) *layers.Rounding {
		change(&r)
		return &r
	}
	int8 := with(int4, func(r *layers.Rounding) { r.Bits = 8 })
	for _, row := range []struct {
		flags QuantizeFlags
		want  *model.Quantization
	}{
		{QuantizeFlags{Quantize: "none"}, nil},
		{QuantizeFlags{}, nil},
		{QuantizeFlags{Quantize: "int8"}, &model.Quantization{Blocks: int8, Tables: int8}},
		{QuantizeFlags{Quantize: "int4"}, &model.Quantization{Blocks: &int4, Tables: int8}},
		{QuantizeFlags{Quantize: "int4", QuantizeTables: "same"}, &model.Quantization{Blocks: &int4, Tables: &int4}},
		{QuantizeFlags{Quantize: "int4", QuantizeTables: "keep"}, &model.Quantization{Blocks: &int4}},
		{QuantizeFlags{Quantize: "int4", QuantizeTables: "int2"}, &model.Quantization{
			Blocks: &int4, Tables: with(int4, func(r *layers.Rounding) { r.Bits = 2 }),
		}},
		{QuantizeFlags{Quantize: "int3", QuantizeGroup: "128", QuantizeZeros: true, QuantizeTables: "keep"}, &model.Quantization{
			Blocks: with(int4, func(r *layers.Rounding) { r.Bits, r.Group, r.Zeros = 3, 128, true }),
		}},
		{QuantizeFlags{Quantize: "int2", QuantizeGroup: "row"}, &model.Quantization{
			Blocks: with(int4, func(r *layers.Rounding) { r.Bits, r.Group = 2, 0 }),
			Tables: with(int4, func(r *layers.Rounding) { r.Bits, r.Group = 8, 0 }),
		}},
	} {
		got, err := row.flags.Quantization()
		if err != nil {
			t.Fatal(err)
		}
		same := func(a, b *layers.Rounding) bool { return a == b || a != nil && b != nil && *a == *b }
		if (got == nil) != (row.want == nil) || got != nil && (!same(got.Blocks, row.want.Blocks) || !same(got.Tables, row.want.Tables)) {
			t.Errorf("%+v: got %+v, want %+v", row.flags, got, row.want)
		}
	}
	for _, row := range []struct {
		flags QuantizeFlags
		want  string
	}{
		{QuantizeFlags{QuantizeGroup: "64"}, "--quantize-group says how --quantize rounds, and there is no --quantize"},
		{QuantizeFlags{QuantizeZeros: true}, "--quantize-zeros says"},
		{QuantizeFlags{Quantize: "none", QuantizeTables: "keep"}, "--quantize-tables says"},
	} {
		_, err := row.flags.Quantization()
		var usage *command.UsageError
		if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%+v: got %v, want %q", row.flags, err, row.want)
		}
		f := Flags{SizeFlags: SizeFlags{ModelFlags: ModelFlags{QuantizeFlags: row.flags}}}
		if _, err := f.Options(); err == nil {
			t.Errorf("%+v: options without an error", row.flags)
		}
		if _, err := f.Open(); err == nil {
			t.Errorf("%+v: opened without an error", row.flags)
		}
	}
}

// TestQuantizedStart brings the built-in model up in fewer bits: what was planned is what is bound, and the summary says
// what became of the weights.
func TestQuantizedStart(t *testing.T) {
	f := Flags{SizeFlags: SizeFlags{ModelFlags: ModelFlags{CacheType: "f16", Activations: "auto", QuantizeFlags: QuantizeFlags{Quantize: "int4"}}}}
	m, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	o, err := f.Options()
	if err != nil {
		t.Fatal(err)
	}
	o.Slots, o.StepTokens, o.Threads = 1, 16, 2
	i, err := Start(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	r := m.Rounding()
	// 1048576 elements of the table take 8 bits and half a bit for scales, the rest half as many and as much.
	const table, blocks = 4096 * 256, 8 * (256*(256+128+128+256) + 3*256*704)
	if want := int64(table*17/16 + blocks*9/16); r.After != want || r.Before != 2*(table+blocks) || r.Kept != 0 {
		t.Errorf("%+v, want %d bytes of %d", r, want, 2*(table+blocks))
	}
	if i.Plan.Weights < r.After || i.Plan.Weights > r.After+1<<16 {
		t.Errorf("%d bytes are planned for matrices of %d", i.Plan.Weights, r.After)
	}
	if want := "rounded    int4 in groups of 32, embedding and head int8 in groups of 32: 13.2 MiB became 4.2 MiB, 5.10 bits a weight\n"; !strings.Contains(i.Summary(), want) {
		t.Errorf("summary without %q:\n%s", want, i.Summary())
	}
	if got := m.loading(); got != "rounding to int4" {
		t.Errorf("loading is called %q", got)
	}
}

func TestRoundingLines(t *testing.T) {
	r := Rounding{How: "int8 by rows", Before: 2 << 20, After: 1 << 20, BitsPerWeight: 8.0625, Kept: 1}
	want := []string{"int8 by rows: 2.0 MiB became 1.0 MiB, 8.06 bits a weight", "1 matrix was stored quantized and stays as it is"}
	if got := r.Lines(); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
	r.Kept = 7
	if got := r.Lines()[1]; got != "7 matrices were stored quantized and stay as they are" {
		t.Errorf("got %q", got)
	}
	if got := roundingName(&layers.Rounding{Bits: 3, Group: 64, Zeros: true}); got != "int3 in groups of 64 with zero points" {
		t.Errorf("got %q", got)
	}
}

// TestQuantizeRefusal names the flag with the matrix whose numbers it cannot round.
func TestQuantizeRefusal(t *testing.T) {
	dir := t.TempDir()
	const data = "../../../model/testdata/llama"
	for from, name := range map[string]string{
		filepath.Join(data, "config.json"): "config.json", filepath.Join(data, "model.safetensors"): "model.safetensors",
		"testdata/tokenizer.json": "tokenizer.json",
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if name == "model.safetensors" {
			spoil(t, text, "model.layers.1.self_attn.k_proj.weight", 3e8)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	q, err := (&QuantizeFlags{Quantize: "int4"}).Quantization()
	if err != nil {
		t.Fatal(err)
	}
	m.Quantize(q)
	_, err = Start(t.Context(), m, Options{Sizing: Sizing{Slots: 1, StepTokens: 4, CacheType: kernels.F16}, Threads: 1})
	if want := "load with --quantize int4: read model.layers.1.self_attn.k_proj: row 0: group 0 has numbers"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// spoil overwrites the first number of a tensor of F32 in the text of a checkpoint.
func spoil(t *testing.T, text []byte, name string, v float32) {
	t.Helper()
	var header map[string]struct {
		Offsets []int `json:"data_offsets"`
	}
	size := int(binary.LittleEndian.Uint64(text))
	if err := json.Unmarshal(text[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(text[8+size+header[name].Offsets[0]:], math.Float32bits(v))
}
