// Package ptx holds the CUDA kernels as PTX, which a driver makes machine code of. It is made from kernels/cuda/src by
// `make kernels` (docs/cuda.md) and committed, so that building the program takes Go alone. It is kept compressed: as text it
// has six times the size, and nobody reviews it, since the manifest ties it to its sources.
package ptx

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

//go:embed manifest.json *.ptx.gz
var files embed.FS

// A Target is what PTX is made for. Drivers compile PTX for every GPU from its capability on.
type Target struct {
	Capability int    // 80 is 8.0
	ISA        string // version of the PTX language as clang names it; a driver takes its own and those before
}

// Targets lists the targets, by capability. ISA 7.4 came with CUDA 11.4 and brought cache hints, 7.8 with CUDA 11.8.
func Targets() []Target { return []Target{{80, "ptx74"}, {90, "ptx78"}} }

// Manifest says what the committed PTX was made from.
type Manifest struct {
	Compiler string            // the first line of its version
	Modules  map[string]Module // by name, as in "rows.sm_80"
}

// Module is a source compiled for a target. Digests are SHA-256, in hexadecimal.
type Module struct {
	Source string // digest of the source, all headers and the options of the compiler
	PTX    string // digest of the text
}

// Name returns a module's name: the source's, without extension, and the target's.
func (t Target) Name(source string) string { return fmt.Sprintf("%s.sm_%d", source, t.Capability) }

// Names returns the modules for a target, in the order of names.
func (m Manifest) Names(t Target) []string {
	names := slices.Sorted(maps.Keys(m.Modules))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, t.Name("")) })
}

// Read returns the manifest.
func Read() (Manifest, error) {
	var m Manifest
	text, err := files.ReadFile("manifest.json")
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read manifest of PTX: %w", err)
	}
	return m, nil
}

// Text returns the PTX of a module.
func Text(module string) ([]byte, error) {
	packed, err := files.ReadFile(module + ".ptx.gz")
	if err != nil {
		return nil, fmt.Errorf("read PTX: %w", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("read PTX %s: %w", module, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read PTX %s: %w", module, err)
	}
	return text, nil
}

// Images returns the PTX of all kernels for a GPU of a compute capability (80 is 8.0): one text for each source, in the order
// of names. A GPU older than all targets has none.
func Images(capability int) ([][]byte, error) {
	best := Target{}
	for _, t := range Targets() {
		if t.Capability <= capability {
			best = t
		}
	}
	if best.Capability == 0 {
		return nil, fmt.Errorf("there are no kernels for GPUs of compute capability %d.%d", capability/10, capability%10)
	}
	m, err := Read()
	if err != nil {
		return nil, err
	}
	var images [][]byte
	for _, name := range m.Names(best) {
		text, err := Text(name)
		if err != nil {
			return nil, err
		}
		images = append(images, text)
	}
	return images, nil
}
