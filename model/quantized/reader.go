package quantized

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
)

// ErrUnsupported marks what a checkpoint asks for and this runtime does not do.
var ErrUnsupported = errors.New("not supported")

// A Reader gives the quantized matrices of a checkpoint, which must stay open while they are read. It may be used by
// several goroutines at once.
type Reader struct {
	names    []string
	matrices map[string]matrix // by the name of the weight
	notes    []string
	settings []byte
}

// A matrix is a quantized weight that was found in a checkpoint.
type matrix struct {
	weight           layers.Weight
	text             string // how it was stored, and what it is computed as
	elements         int
	stored, computed int64 // bytes of both
	tensors          []string
}

// A method is what config.json says of the quantized modules of a checkpoint.
type method interface {
	// layouts lists those that modules may have.
	layouts() []layout
	// read takes the tensors that the module's matrix consists of.
	read(m *module) (matrix, error)
}

// methods maps quant_method to the function that reads the rest of its object. wide is the type of a matrix that is
// widened.
var methods = map[string]func(text []byte, wide kernels.DType) (method, error){
	"awq":                newAWQ,
	"bitsandbytes":       newBitsAndBytes,
	"compressed-tensors": newCompressed,
	"fp8":                newFP8,
	"gptq":               newGPTQ,
	"mxfp4":              newMXFP4,
}

// Methods returns the values of quant_method that are read, sorted.
func Methods() []string { return slices.Sorted(maps.Keys(methods)) }

// maxConfigBytes bounds quantize_config.json, which has less than 1 KB.
const maxConfigBytes = 1 << 20

// Open finds the quantized matrices among the tensors of c, by what config.json (config) says of them. Without any, the
// Reader's names are those of the tensors.
func Open(c *checkpoint.Checkpoint, config []byte) (*Reader, error) {
	text, wide, err := settings(config)
	if err != nil {
		return nil, fmt.Errorf("read config.json: %w", err)
	}
	file := "config.json"
	if text == nil {
		// AutoGPTQ wrote its settings beside config.json before transformers knew them.
		file = "quantize_config.json"
		text, err = c.ReadFile(file, maxConfigBytes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open model: %w", err)
		}
	}
	modules := find(c)
	if text == nil {
		if len(modules) > 0 {
			m := modules[0]
			return nil, fmt.Errorf("%s is laid out as %s, and config.json has no quantization_config", m.what(), m.layout)
		}
		return &Reader{names: c.Names()}, nil
	}
	name, how, err := parse(text, wide, file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	r, err := read(c, name, how, modules)
	if err != nil {
		return nil, err
	}
	r.settings, err = named(text, name)
	return r, err
}

// named returns the object text with its method's name in the place where transformers looks for it.
func named(text []byte, method string) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	err := json.Unmarshal(text, &fields)
	if err != nil {
		return nil, err
	}
	if fields["quant_method"], err = json.Marshal(method); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// settings returns the quantization_config of config.json, nil for none, and the type to widen matrices to: that which
// the model is said to run in.
func settings(config []byte) (text []byte, wide kernels.DType, err error) {
	var raw struct {
		Quantization json.RawMessage `json:"quantization_config"`
		Compression  json.RawMessage `json:"compression_config"` // its name in older files of compressed-tensors
		DType        string          `json:"dtype"`
		TorchDType   string          `json:"torch_dtype"`
	}
	if err := json.Unmarshal(config, &raw); err != nil {
		return nil, 0, err
	}
	for _, t := range []json.RawMessage{raw.Quantization, raw.Compression} {
		if !neutral(t) && text == nil {
			text = t
		}
	}
	switch cmp.Or(raw.DType, raw.TorchDType) {
	case "float32":
		wide = kernels.F32
	case "float16":
		wide = kernels.F16
	default:
		wide = kernels.BF16
	}
	return text, wide, nil
}

// neutral reports whether a field says nothing.
func neutral(v json.RawMessage) bool {
	switch string(bytes.TrimSpace(v)) {
	case "", "null", "false", "{}", "[]", `""`:
		return true
	}
	return false
}

// parse returns the method that text describes and its name.
func parse(text []byte, wide kernels.DType, file string) (string, method, error) {
	var raw struct {
		QuantMethod string `json:"quant_method"`
		Method      string `json:"method"` // GPTQModel's name for the same
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return "", nil, fmt.Errorf("quantization_config: %w", err)
	}
	name := cmp.Or(raw.QuantMethod, raw.Method)
	if name == "" && file == "quantize_config.json" {
		name = "gptq"
	}
	construct, ok := methods[name]
	if !ok {
		return "", nil, fmt.Errorf("quant_method %q: %w (supported: %s)", name, ErrUnsupported, strings.Join(Methods(), ", "))
	}
	how, err := construct(text, wide)
	if err != nil {
		return "", nil, fmt.Errorf("quantization_config of %s: %w", name, err)
	}
	return name, how, nil
}

// read reads all modules, and makes one name of those of a module's tensors.
func read(c *checkpoint.Checkpoint, name string, how method, modules []*module) (*Reader, error) {
	if len(modules) == 0 {
		return nil, fmt.Errorf("config.json says quant_method %q, and no tensor is laid out as %s", name, list(how.layouts()))
	}
	r := &Reader{matrices: map[string]matrix{}}
	hidden := map[string]bool{}
	alike := map[string]sum{}
	for _, m := range modules {
		if !slices.Contains(how.layouts(), m.layout) {
			return nil, fmt.Errorf("config.json says quant_method %q, and %s is laid out as %s", name, m.what(), m.layout)
		}
		x, err := how.read(m)
		if err != nil {
			return nil, err
		}
		x.tensors = m.taken
		r.matrices[m.name+".weight"] = x
		for _, t := range m.taken {
			hidden[t] = true
		}
		s := alike[x.text]
		alike[x.text] = sum{s.matrices + 1, s.stored + x.stored, s.computed + x.computed}
	}
	for _, n := range c.Names() {
		if !hidden[n] {
			r.names = append(r.names, n)
		}
	}
	r.names = append(r.names, slices.Collect(maps.Keys(r.matrices))...)
	slices.Sort(r.names)
	r.names = slices.Compact(r.names)
	for _, text := range slices.Sorted(maps.Keys(alike)) {
		s := alike[text]
		note := fmt.Sprintf("%s, %.1fx the bytes", text, float64(s.computed)/float64(s.stored))
		if len(alike) > 1 {
			note += fmt.Sprintf(" (%d of %d matrices)", s.matrices, len(modules))
		}
		r.notes = append(r.notes, note)
	}
	return r, nil
}

// A sum is of matrices that one note describes.
type sum struct {
	matrices         int
	stored, computed int64
}

func list(all []layout) string {
	var names []string
	for _, l := range all {
		names = append(names, string(l))
	}
	return strings.Join(names, " or ")
}

// Names returns the names of all weights and vectors, sorted: those of the checkpoint, with one in place of those of a
// matrix's tensors. The caller must not change it.
func (r *Reader) Names() []string { return r.names }

// Weight returns the quantized matrix name, and whether there is one.
func (r *Reader) Weight(name string) (layers.Weight, bool) {
	m, ok := r.matrices[name]
	return m.weight, ok
}

// Elements returns the elements of the quantized matrix name, and whether there is one.
func (r *Reader) Elements(name string) (int, bool) {
	m, ok := r.matrices[name]
	return m.elements, ok
}

// Tensors returns the names of the tensors that the quantized matrix name consists of; nil where there is none.
func (r *Reader) Tensors(name string) []string { return r.matrices[name].tensors }

// Settings returns what config.json says of the quantized matrices, its quantization_config; nil where there are none.
func (r *Reader) Settings() []byte { return r.settings }

// Notes says in a line for each kind of quantized matrix what becomes of it.
func (r *Reader) Notes() []string { return r.notes }
