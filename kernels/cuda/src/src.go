// Package src holds the sources of the CUDA kernels: tk.h, the primitives, and a .cu file for each family of verbs. They are
// compiled twice: to PTX for GPUs (kernels/cuda/ptx), and into the shim, which runs them on a CPU (kernels/cuda/shim).
package src

import (
	"embed"
	"io/fs"
)

//go:embed *
var files embed.FS

// Files holds the sources by name.
func Files() fs.FS { return files }

// Kernels returns the names of the .cu files, sorted. Each is one module of PTX.
func Kernels() []string {
	names, err := fs.Glob(files, "*.cu")
	if err != nil {
		panic("BUG: " + err.Error()) // the pattern is fixed
	}
	return names
}
