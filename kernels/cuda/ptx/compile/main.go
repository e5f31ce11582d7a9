// Compile makes the committed PTX from the sources of the kernels, with clang and without NVIDIA's toolkit. What has not
// changed since, by the manifest, is left as it is. With -ptxas it has NVIDIA's assembler, which checks what clang passes
// through, compile all of it, and writes down the registers that each kernel takes.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"eckart/kernels/cuda/ptx"
	"eckart/kernels/cuda/src"
)

func main() {
	clang := flag.String("clang", "clang-19", "the compiler")
	dir := flag.String("dir", "kernels/cuda/ptx", "where the PTX is kept")
	ptxas := flag.String("ptxas", "", "NVIDIA's assembler: check the PTX that there is instead of making it")
	check := flag.Bool("check", false, "with -ptxas: compare with the table that there is instead of writing it")
	flag.Parse()
	var err error
	if *ptxas != "" {
		err = assemble(*ptxas, filepath.Join(*dir, "ptxas.txt"), *check)
	} else {
		err = compile(*clang, *dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compile:", err)
		os.Exit(1)
	}
}

// options are clang's for a target. Sums are not contracted, as in the shim, so that both have the same bits.
func options(t ptx.Target) []string {
	return []string{
		"-x", "cuda", "-std=c++20", "--cuda-device-only", "-nocudainc", "-nocudalib", "-O3", "-ffp-contract=off",
		"-Wall", "-Wextra", "-Werror", "-Wno-unused-function",
		fmt.Sprintf("--cuda-gpu-arch=sm_%d", t.Capability), "-Xclang", "-target-feature", "-Xclang", "+" + t.ISA,
	}
}

// digest returns the digest of all that a module is made from.
func digest(file string, t ptx.Target) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", options(t))
	err := fs.WalkDir(src.Files(), ".", func(name string, d fs.DirEntry, err error) error {
		header := strings.HasSuffix(name, ".h") || strings.HasSuffix(name, ".cuh")
		if err != nil || d.IsDir() || !header && name != file {
			return err
		}
		text, err := fs.ReadFile(src.Files(), name)
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// compile brings the PTX in dir and its manifest up to date.
func compile(clang, dir string) error {
	version, err := exec.Command(clang, "--version").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w; docs/cuda.md says how to install it", clang, err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	before, err := ptx.Read()
	if err != nil {
		return err
	}
	tree, err := os.MkdirTemp("", "eckart-ptx-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := os.CopyFS(tree, src.Files()); err != nil {
		return err
	}
	after := ptx.Manifest{Compiler: line, Modules: map[string]ptx.Module{}}
	var mu sync.Mutex
	var errs []error
	var wait sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, file := range src.Kernels() {
		for _, t := range ptx.Targets() {
			name := t.Name(strings.TrimSuffix(file, ".cu"))
			source, err := digest(file, t)
			if err != nil {
				return err
			}
			old := before.Modules[name]
			if before.Compiler == line && old.Source == source && matches(old, name) {
				after.Modules[name] = old
				continue
			}
			wait.Go(func() {
				free <- struct{}{}
				defer func() { <-free }()
				fmt.Println(name)
				m, err := module(clang, tree, dir, file, name, t)
				m.Source = source
				mu.Lock()
				defer mu.Unlock()
				after.Modules[name] = m
				errs = append(errs, err)
			})
		}
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	stale, err := filepath.Glob(filepath.Join(dir, "*.ptx.gz"))
	if err != nil {
		return err
	}
	for _, file := range stale {
		if _, ok := after.Modules[strings.TrimSuffix(filepath.Base(file), ".ptx.gz")]; !ok {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	text, err := json.MarshalIndent(after, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), append(text, '\n'), 0o644)
}

// matches reports whether the PTX that there is is the one the manifest means.
func matches(m ptx.Module, name string) bool {
	text, err := ptx.Text(name)
	return err == nil && sum(text) == m.PTX
}

func sum(text []byte) string {
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:])
}

// module compiles a source and keeps the PTX.
func module(clang, tree, dir, file, name string, t ptx.Target) (ptx.Module, error) {
	cmd := exec.Command(clang, append(options(t), "-S", file, "-o", "-")...)
	cmd.Dir = tree
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return ptx.Module{}, fmt.Errorf("%s: %w\n%s", name, err, stderr.Bytes())
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return ptx.Module{}, err
	}
	if _, err := w.Write(text); err != nil {
		return ptx.Module{}, err
	}
	if err := w.Close(); err != nil {
		return ptx.Module{}, err
	}
	return ptx.Module{PTX: sum(text)}, os.WriteFile(filepath.Join(dir, name+".ptx.gz"), packed.Bytes(), 0o644)
}

// tolerated is the bytes of a thread that kernels of a module may store and load for want of registers; 0 for others. The
// kernels of attention are bound to the registers with which a multiprocessor holds another block: what they keep in memory
// is some words a tile, and what more blocks hide is more, until a GPU has shown otherwise. matmul_8 keeps two outside its loop.
var tolerated = map[string]int{"attention_decode": 304, "attention_prefill": 176, "matmul_few": 12}

// assemble has ptxas compile all modules and writes the table of what they take, or compares it. It fails when a kernel keeps
// more registers in memory than is tolerated.
func assemble(ptxas, file string, check bool) error {
	m, err := ptx.Read()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "eckart-ptxas-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var all []usage
	for name := range m.Modules {
		text, err := ptx.Text(name)
		if err != nil {
			return err
		}
		target := name[strings.LastIndex(name, ".")+1:]
		in := filepath.Join(dir, name+".ptx")
		if err := os.WriteFile(in, text, 0o644); err != nil {
			return err
		}
		out, err := exec.Command(ptxas, "-v", "-arch="+target, "-o", filepath.Join(dir, "cubin"), in).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ptxas %s: %w\n%s", name, err, out)
		}
		all = append(all, usages(name, out)...)
	}
	slices.SortFunc(all, func(a, b usage) int { return strings.Compare(a.module+" "+a.kernel, b.module+" "+b.kernel) })
	var table bytes.Buffer
	fmt.Fprintf(&table, "%-28s %-28s %9s %6s %6s\n", "module", "kernel", "registers", "stack", "spills")
	var spills []string
	for _, u := range all {
		fmt.Fprintf(&table, "%-28s %-28s %9d %6d %6d\n", u.module, u.kernel, u.registers, u.stack, u.spills)
		module, _, _ := strings.Cut(u.module, ".")
		if most := tolerated[module]; u.spills > most || u.stack > 0 && most == 0 {
			spills = append(spills, fmt.Sprintf("%s: %s, %d bytes, more than %d", u.module, u.kernel, u.spills, most))
		}
	}
	if check {
		committed, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !bytes.Equal(committed, table.Bytes()) {
			return fmt.Errorf("%s is stale, run make ptxas", file)
		}
	} else if err := os.WriteFile(file, table.Bytes(), 0o644); err != nil {
		return err
	}
	if len(spills) > 0 {
		return fmt.Errorf("kernels keep registers in memory:\n\t%s", strings.Join(spills, "\n\t"))
	}
	return nil
}
