package model_test

import (
	"os"
	"path/filepath"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/model/modeltest"
)

func openCPU(t testing.TB) kernels.Device {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// TestGolden compares every checkpoint in testdata with its reference.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/golden.safetensors")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no goldens in testdata: %v", err)
	}
	dev := openCPU(t)
	for _, f := range dirs {
		dir := filepath.Dir(f)
		t.Run(filepath.Base(dir), func(t *testing.T) { modeltest.RunGolden(t, dev, dir) })
	}
}

// TestSharedGolden does the same with the goldens beside the project, where they are.
func TestSharedGolden(t *testing.T) {
	const shared = "../../shared/golden/models"
	if _, err := os.Stat(shared); err != nil {
		t.Skip("no shared goldens")
	}
	dev := openCPU(t)
	for _, name := range []string{"llama", "llama3-rope", "mistral-window", "qwen2", "qwen3"} {
		t.Run(name, func(t *testing.T) { modeltest.RunGolden(t, dev, filepath.Join(shared, name)) })
	}
}
