package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The committed files must be what the generator writes now, but for their first line, which names the command.
func TestGeneratedFilesAreFresh(t *testing.T) {
	for _, isa := range []string{"avx512", "avx512bf16", "avx2"} {
		dir := t.TempDir()
		name := "matmul_" + isa + "_amd64"
		assembly, stubs := filepath.Join(dir, name+".s"), filepath.Join(dir, name+".go")
		run := exec.Command("go", "run", ".", "-isa", isa, "-out", assembly, "-stubs", stubs, "-pkg", "cpu")
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", run.Args, err, out)
		}
		for _, fresh := range []string{assembly, stubs} {
			committed := filepath.Join("..", "..", "..", "kernels", "cpu", filepath.Base(fresh))
			if want, got := body(t, fresh), body(t, committed); !bytes.Equal(want, got) {
				t.Errorf("%s is stale: run go generate ./kernels/cpu", committed)
			}
		}
	}
}

// body returns a file without its first line.
func body(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	return rest
}
