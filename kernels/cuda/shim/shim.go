// Package shim builds a library that answers as NVIDIA's libcuda does and runs the kernels on the CPU, so that kernels,
// and the code that launches them, are tested where there is no GPU. It is compiled by g++ from three parts: the sources
// of the kernels (kernels/cuda/src), for which tk.h has a second meaning; a SIMT engine, which runs the threads of a block
// as fibers and checks what they do; and the entry points of the driver (both in engine).
//
// A kernel that does what it may not (out of bounds, misaligned, a race on shared memory, a collective that a lane does not
// reach; see engine/simt.h) ends its launch as a GPU does, with an error that stays; the driver's text for it says which
// kernel, thread and line it was.
//
// Only tests and benchmarks import it.
package shim

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing/fstest"

	"eckart/kernels/cuda/ptx"
	"eckart/kernels/cuda/ptx/translate"
	"eckart/kernels/cuda/src"

	"golang.org/x/sys/cpu"
)

//go:embed engine
var engine embed.FS

// ErrNoCompiler says that there is no g++ to build the shim with, or that it is not made for this machine.
var ErrNoCompiler = errors.New("no C++ compiler")

// compiler is the C++ compiler; it must know C++20.
const compiler = "g++"

// Build compiles the shim with the kernels of package src and returns the path of the library. What was compiled before from
// the same sources is used again: it is kept in the user's cache directory, or that for temporary files.
//
// With ECKART_SHIM_KERNELS=ptx the kernels are those of package ptx instead, translated to C++: what a GPU would run.
func Build() (library string, err error) {
	switch from := os.Getenv("ECKART_SHIM_KERNELS"); from {
	case "", "src":
		return build(src.Files())
	case "ptx":
		kernels, err := translated(ptx.Targets()[0])
		if err != nil {
			return "", fmt.Errorf("build shim: %w", err)
		}
		return build(kernels)
	default:
		return "", fmt.Errorf("build shim: ECKART_SHIM_KERNELS is %q, and can be src or ptx", from)
	}
}

const translatedSuffix = ".ptx.cu"

// translated returns the PTX for a target as sources.
func translated(target ptx.Target) (fs.FS, error) {
	manifest, err := ptx.Read()
	if err != nil {
		return nil, err
	}
	kernels := fstest.MapFS{}
	for _, name := range manifest.Names(target) {
		text, err := ptx.Text(name)
		if err != nil {
			return nil, err
		}
		cxx, err := translate.CXX(name+".ptx", text)
		if err != nil {
			return nil, err
		}
		kernels[name+translatedSuffix] = &fstest.MapFile{Data: cxx}
	}
	return kernels, nil
}

// build compiles the shim with the kernels, *.cu, of a tree that need not hold tk.h.
func build(kernels fs.FS) (library string, err error) {
	if runtime.GOOS != "linux" || (runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64") {
		return "", fmt.Errorf("%w: the shim runs on Linux on amd64 and arm64 alone", ErrNoCompiler)
	}
	if _, err := exec.LookPath(compiler); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	version, err := exec.Command(compiler, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", compiler, err)
	}
	machine, err := exec.Command(compiler, "-dumpmachine").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its machine: %w", compiler, err)
	}
	if want := map[string]string{"amd64": "x86_64-", "arm64": "aarch64-"}[runtime.GOARCH]; !strings.HasPrefix(string(machine), want) {
		return "", fmt.Errorf("%w: %s compiles for %s, and this program is for %s", ErrNoCompiler, compiler, bytes.TrimSpace(machine), runtime.GOARCH)
	}
	b := &builder{flags: flags(), sources: map[string][]byte{}}
	if b.dir, err = cacheDir(); err != nil {
		return "", fmt.Errorf("build shim: %w", err)
	}
	for _, tree := range []struct {
		to       string
		fs       fs.FS
		compiled bool
	}{{"src", src.Files(), false}, {"src", kernels, true}, {"shim", engine, true}} {
		if err := b.add(tree.to, tree.fs, tree.compiled); err != nil {
			return "", fmt.Errorf("build shim: %w", err)
		}
	}
	// Whatever a compilation may read is part of its digest.
	b.common = sha256.New().Sum(version)
	b.common = fmt.Appendf(b.common, "%q", b.flags)
	for _, name := range b.names(".h", ".cuh") {
		b.common = fmt.Appendf(b.common, "%s %d\n%s", name, len(b.sources[name]), b.sources[name])
	}
	return b.link()
}

// flags are the options of every compilation. Kernels must not contract sums, and the engine keeps thread-local state that
// is reached often.
func flags() []string {
	f := []string{
		"-std=c++20", "-O2", "-g1", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-ftls-model=initial-exec",
		"-fstack-clash-protection", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unknown-pragmas",
	}
	if os.Getenv("REQUIRE_SHIM") != "" { // elsewhere a compiler may be newer, and find more to say
		f = append(f, "-Werror")
	}
	if runtime.GOARCH == "amd64" && cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasBMI2 {
		f = append(f, "-march=x86-64-v3")
	}
	return f
}

func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err == nil {
		dir := filepath.Join(base, "eckart", "shim")
		if err = os.MkdirAll(dir, 0o755); err == nil {
			return dir, nil
		}
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("eckart-shim-%d", os.Getuid()))
	return dir, os.MkdirAll(dir, 0o700)
}

// builder compiles sources file by file.
type builder struct {
	dir     string // where results are kept
	flags   []string
	sources map[string][]byte // by path
	common  []byte            // what goes into every digest
}

// add takes the files of a tree: headers, and what is to be compiled as well if compiled is set.
func (b *builder) add(to string, tree fs.FS, compiled bool) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch path.Ext(name) {
		case ".h", ".cuh":
		case ".cu", ".cpp":
			if !compiled {
				return nil
			}
		default:
			return nil
		}
		b.sources[path.Join(to, name)], err = fs.ReadFile(tree, name)
		return err
	})
}

// names returns the sources with one of the extensions, sorted.
func (b *builder) names(extensions ...string) []string {
	var names []string
	for name := range b.sources {
		if slices.Contains(extensions, path.Ext(name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// options are those that a source is compiled with. Translated kernels are long, and clang has optimized them already.
func (b *builder) options(name string) []string {
	if strings.HasSuffix(name, translatedSuffix) {
		return append(slices.Clone(b.flags), "-O1")
	}
	return slices.Clone(b.flags)
}

// link compiles what is missing and links all of it.
func (b *builder) link() (string, error) {
	files := b.names(".cu", ".cpp")
	objects := make([]string, len(files))
	all := sha256.New()
	for i, name := range files {
		h := sha256.New()
		h.Write(b.common)
		fmt.Fprintf(h, "%s %q\n%s", name, b.options(name), b.sources[name])
		objects[i] = filepath.Join(b.dir, hex.EncodeToString(h.Sum(nil)[:16])+".o")
		all.Write(h.Sum(nil))
	}
	library := filepath.Join(b.dir, hex.EncodeToString(all.Sum(nil)[:16])+".so")
	if _, err := os.Stat(library); err == nil {
		return library, nil
	}
	unlock, err := b.lock()
	if err != nil {
		return "", fmt.Errorf("build shim: %w", err)
	}
	defer unlock()
	tree, err := os.MkdirTemp("", "eckart-shim-")
	if err != nil {
		return "", fmt.Errorf("build shim: %w", err)
	}
	defer os.RemoveAll(tree)
	for name, text := range b.sources {
		file := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", fmt.Errorf("build shim: %w", err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return "", fmt.Errorf("build shim: %w", err)
		}
	}
	errs := make([]error, len(files))
	var wait sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, name := range files {
		if _, err := os.Stat(objects[i]); err == nil {
			continue
		}
		wait.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			errs[i] = b.run(tree, objects[i], append(b.options(name), "-x", "c++", "-c", name)...)
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return library, b.run(tree, library, append([]string{"-shared", "-pthread"}, objects...)...)
}

// run has the compiler write a file, which appears when it is whole.
func (b *builder) run(dir, file string, args ...string) error {
	f, err := os.CreateTemp(b.dir, filepath.Base(file)+"-")
	if err != nil {
		return fmt.Errorf("build shim: %w", err)
	}
	defer os.Remove(f.Name()) // unless it has been renamed
	if err := f.Close(); err != nil {
		return fmt.Errorf("build shim: %w", err)
	}
	cmd := exec.Command(compiler, append(args, "-o", f.Name())...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build shim: %s %s: %w\n%s", compiler, strings.Join(args, " "), err, out.Bytes())
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return fmt.Errorf("build shim: %w", err)
	}
	return nil
}
