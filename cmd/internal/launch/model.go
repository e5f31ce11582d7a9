package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"eckart/cmd/internal/demo"
	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/compress"
	"eckart/model/tokenizer"
	"eckart/model/tokenizer/chat"
)

// maxSideFile bounds generation_config.json; published ones have less than 1 KB.
const maxSideFile = 1 << 20

// A Model is an opened checkpoint with its config understood. It holds no weights.
type Model struct {
	Name       string // to serve it under: that of its folder, or of the hub's cache
	Demo       bool   // it is the one built into the program
	Checkpoint *checkpoint.Checkpoint
	Source     model.Source
	Config     model.Config
	Generation model.Generation
	Cut        string // what --rank-share leaves, for the user; empty for all
	Adapter    string // what is added to the matrices, for the user; empty for nothing

	Report      *compress.Report // what compression did; nil without
	Compression *compress.Plan   // by which it was compressed; nil without

	stored  model.Source // as it is in the checkpoint
	how     model.Quantization
	rounded *model.QuantizedSource // Source, or what it wraps, where it is rounded; else nil
	adapter *checkpoint.Checkpoint // nil for none
}

// Open opens the checkpoint at path and reads its configuration. Close closes it.
func Open(path string) (*Model, error) {
	m, err := OpenFiles(path)
	if err != nil {
		return nil, err
	}
	if err := m.Read(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// OpenFiles opens the checkpoint at path: a folder, a .safetensors file, a Hugging Face cache folder. The empty path is
// the built-in model. Only Name, Demo and Checkpoint are set, until Read.
func OpenFiles(path string) (*Model, error) {
	m := &Model{Name: demo.Name, Demo: true}
	var err error
	if path == "" {
		m.Checkpoint, err = demo.Open()
	} else {
		m.Demo = false
		if m.Checkpoint, err = checkpoint.Open(path); err == nil {
			m.Name = nameOf(path, m.Checkpoint.Dir())
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Read reads the configuration.
func (m *Model) Read() error {
	var err error
	if m.stored, err = model.NewSource(m.Checkpoint); err != nil {
		return err
	}
	m.Source = m.stored
	if m.Config, err = model.ParseConfig(m.Source.Config()); err != nil {
		return err
	}
	text, err := m.Checkpoint.ReadFile("generation_config.json", maxSideFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open model: %w", err)
	}
	m.Generation, err = model.ParseGeneration(text)
	return err
}

// Close closes the checkpoint's files, and the adapter's.
func (m *Model) Close() error {
	err := m.Checkpoint.Close()
	if m.adapter != nil {
		err = errors.Join(err, m.adapter.Close())
	}
	return err
}

// Parameters returns the number of parameters: once the config was read, those that quantized matrices stand for; else
// the elements of all tensors in the files.
func (m *Model) Parameters() int {
	if m.Source != nil {
		return model.Parameters(m.Source)
	}
	n := 0
	for _, name := range m.Checkpoint.Names() {
		t, _ := m.Checkpoint.Tensor(name)
		n += t.Elements()
	}
	return n
}

// EOS returns the ids that end a reply: those of config.json and of generation_config.json together, for published
// models name some in only one of them.
func (m *Model) EOS() []int32 {
	ids := slices.Concat(m.Config.EOS, m.Generation.EOS)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Plan plans the memory to serve the model on a device with free bytes; 0 stands for unknown.
func (m *Model) Plan(s Sizing, free int64) (Plan, error) {
	measure := func(l model.Limits) (model.Footprint, error) { return model.Measure(m.Source, l) }
	return NewPlan(measure, m.Config.MaxPositions, s, free)
}

// Tokenizer reads tokenizer.json.
func (m *Model) Tokenizer() (*tokenizer.Tokenizer, error) {
	text, err := m.Checkpoint.ReadFile("tokenizer.json", tokenizer.MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	return tokenizer.New(text)
}

// Template reads the chat template: from file, or, where file is empty, from the checkpoint. A checkpoint without one
// gives an error that wraps chat.ErrNone.
func (m *Model) Template(file string) (*chat.Template, error) {
	return chat.Load(func(name string) ([]byte, error) {
		if file != "" && name == "chat_template.jinja" {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, &templateFileError{err}
			}
			return text, nil
		}
		return m.Checkpoint.ReadFile(name, tokenizer.MaxFileBytes)
	})
}

// A templateFileError is about the file that the user named. It does not unwrap: that the file does not exist must not
// look like a model without a template.
type templateFileError struct{ err error }

// Error names the flag, and what is wrong with its file.
func (e *templateFileError) Error() string { return fmt.Sprintf("read --chat-template: %v", e.err) }

// hubSnapshot matches the folder of a model in the Hugging Face cache.
var hubSnapshot = regexp.MustCompile(`models--([^/\\]+)--([^/\\]+)[/\\]snapshots[/\\][^/\\]+$`)

// nameOf returns the name to serve a model under: the hub's where the checkpoint lies in its cache, else that of the
// folder, or of a file that is not simply model.safetensors.
func nameOf(path, dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if m := hubSnapshot.FindStringSubmatch(dir); m != nil {
		return m[1] + "/" + m[2]
	}
	if stem, ok := strings.CutSuffix(filepath.Base(path), ".safetensors"); ok && stem != "model" {
		return stem
	}
	return filepath.Base(dir)
}
