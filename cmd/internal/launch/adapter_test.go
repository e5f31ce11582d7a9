package launch

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeAdapter writes an adapter of one matrix of the built-in model, of rank 1 and all ones.
func writeAdapter(t *testing.T, config map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	const q = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
	header, err := json.Marshal(map[string]any{
		q + "A.weight": map[string]any{"dtype": "F32", "shape": []int{1, 256}, "data_offsets": []int{0, 1024}},
		q + "B.weight": map[string]any{"dtype": "F32", "shape": []int{256, 1}, "data_offsets": []int{1024, 2048}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for range 512 {
		file = binary.LittleEndian.AppendUint32(file, math.Float32bits(1))
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{adapterFile: file, "adapter_config.json": text, "other.safetensors": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestAdapterFlag adds an adapter to the rounded built-in model, and names the flag where that cannot be.
func TestAdapterFlag(t *testing.T) {
	open := func(dir string) (*Model, error) {
		return (&ModelFlags{QuantizeFlags: QuantizeFlags{Quantize: "int8"}, Adapter: dir}).Open()
	}
	m, err := open(writeAdapter(t, map[string]any{"peft_type": "LORA", "r": 1, "lora_alpha": 0.5}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !strings.HasSuffix(m.Adapter, ", matrices added to: 1") {
		t.Errorf("said of the adapter: %s", m.Adapter)
	}
	dense := func(m *Model) []float32 {
		t.Helper()
		w, err := m.Source.Weight("model.layers.0.self_attn.q_proj.weight")
		if err != nil {
			t.Fatal(err)
		}
		d, err := w.Dense()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	plain, err := open("")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	want := dense(plain)
	for i, v := range dense(m) {
		if v != want[i]+0.5 {
			t.Fatalf("element %d is %g, want %g", i, v, want[i]+0.5)
		}
	}
	for _, row := range []struct{ dir, want string }{
		{filepath.Join(t.TempDir(), "none"), "open --adapter: "},
		{writeAdapter(t, map[string]any{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": true}), "DoRA: not supported"},
		{writeAdapter(t, map[string]any{"peft_type": "LORA", "r": 2, "lora_alpha": 1}), "rank 2"},
	} {
		if _, err := open(row.dir); err == nil || !strings.HasPrefix(err.Error(), "open --adapter") || !strings.Contains(err.Error(), row.want) {
			t.Errorf("error is %v, want %s", err, row.want)
		}
	}
}
