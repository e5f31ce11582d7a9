package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"eckart/model"
	"eckart/model/checkpoint"
	"eckart/model/factored"
)

// adapterFile is what PEFT calls the file of an adapter's factors.
const adapterFile = "adapter_model.safetensors"

// Adapt adds the adapter in the folder dir to the matrices of m, which must have been read, and rounded if it is to be:
// what the adapter adds is not rounded. The empty name adds none.
func (m *Model) Adapt(dir string) error {
	if dir == "" {
		return nil
	}
	path := dir
	if _, err := os.Stat(filepath.Join(dir, adapterFile)); !errors.Is(err, fs.ErrNotExist) {
		path = filepath.Join(dir, adapterFile) // a folder of training may hold other files of tensors
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return fmt.Errorf("open --adapter: %w", err)
	}
	m.adapter = c
	a, err := factored.NewAdapter(c)
	if err != nil {
		return fmt.Errorf("open --adapter %s: %w", dir, err)
	}
	source, err := model.Adapt(m.Source, a)
	if err != nil {
		return fmt.Errorf("open --adapter %s: %w", dir, err)
	}
	m.Source, m.Adapter = source, fmt.Sprintf("%s, matrices added to: %d", dir, len(a.Modules()))
	return nil
}
