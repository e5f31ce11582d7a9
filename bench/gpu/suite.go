package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"eckart/kernels/cuda"
)

// suite runs the tests of package cuda that are for a GPU, from their own program, which was built elsewhere.
func suite(s *session) error {
	pattern := "OnGPU"
	if s.shim {
		pattern = "^TestSuite$"
	}
	return s.tested(exec.CommandContext(s.ctx, s.tests, "-test.run", pattern, "-test.v", "-test.count=1"), "Kernel suite")
}

// tested runs a test program and counts what passed.
func (s *session) tested(cmd *exec.Cmd, group string) error {
	if !exists(cmd.Path) {
		return fmt.Errorf("there is no test program %s", cmd.Path)
	}
	cmd.Env = append(append(withoutLibrary(os.Environ()), "REQUIRE_CUDA=1"), cmd.Env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	output, err := cmd.CombinedOutput()
	fmt.Printf("%s\n%s", cmd, output) // to the log of the part
	passed, failed, skipped := count(output)
	s.describe()
	f := Figure{Group: group, Row: "tests", Column: "passed", Value: float64(passed), Seconds: time.Since(start).Seconds()}
	switch {
	case len(failed) > 0:
		f.Wrong = fmt.Sprintf("%d failed: %s", len(failed), brief(strings.Join(failed, "; "), 600))
	case err != nil:
		f.Wrong = fmt.Sprintf("%v: %s", err, brief(lastLines(output), 600))
	case passed == 0:
		f.Wrong = "no test has run"
	}
	return errors.Join(
		s.add(f),
		s.add(Figure{Group: group, Row: "tests", Column: "failed", Value: float64(len(failed))}),
		s.add(Figure{Group: group, Row: "tests", Column: "skipped", Value: float64(skipped)}),
	)
}

// gorgonia runs the tests of interop/gorgoniacu, which launch the kernels through a driver binding that others wrote. It is
// linked to the driver and to the C library of the machine where it was built, and left out where it cannot start for that.
func gorgonia(s *session) error {
	if !exists(s.cu) {
		s.result.Skipped = "there is no program " + s.cu
		return nil
	}
	cmd := exec.CommandContext(s.ctx, s.cu, "-test.v", "-test.count=1")
	if s.shim {
		links, err := os.MkdirTemp("", "eckart-gpu-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(links)
		if err := os.Symlink(s.library, filepath.Join(links, "libcuda.so.1")); err != nil {
			return err
		}
		cmd.Env = []string{"LD_LIBRARY_PATH=" + links}
	}
	// A loader that finds no library, or an older one, says so and ends the program before it begins.
	list := exec.CommandContext(s.ctx, s.cu, "-test.list", ".")
	list.Env = append(os.Environ(), cmd.Env...)
	if output, err := list.CombinedOutput(); err != nil {
		s.result.Skipped = brief(lastLines(output), 200)
		return nil
	}
	return s.tested(cmd, "gorgonia.org/cu")
}

// describe names the machine where the part has not opened the GPU itself.
func (s *session) describe() {
	if list, err := cuda.List(cuda.Options{Library: s.library}); err == nil && s.ordinal < len(list) {
		s.result.Machine = machineOf(list[s.ordinal])
	}
}

// withoutLibrary returns an environment in which the driver is the machine's own.
func withoutLibrary(environment []string) []string {
	var kept []string
	for _, v := range environment {
		if !strings.HasPrefix(v, "ECKART_LIBCUDA=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// count reads the output of a test program: tests and subtests that passed, those that failed with the first line of what
// they say, and those skipped.
func count(output []byte) (passed int, failed []string, skipped int) {
	said := ""
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "--- PASS:"):
			passed++
		case strings.HasPrefix(line, "--- SKIP:"):
			skipped++
		case strings.HasPrefix(line, "--- FAIL:"):
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "--- FAIL: "), " ")
			failed = append(failed, strings.TrimSpace(name+" "+said))
			said = ""
		case said == "" && strings.Contains(line, "_test.go:"), said == "" && strings.Contains(line, "suite"):
			said = brief(line, 160)
		case strings.HasPrefix(line, "panic:"), strings.HasPrefix(line, "fatal error:"):
			failed = append(failed, brief(line, 200))
		}
	}
	return passed, failed, skipped
}

// lastLines returns the last lines of an output, in one.
func lastLines(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " / ")
}

// sanitizer runs a part of the suite below NVIDIA's checker of memory accesses and races. Machines with a driver alone have
// none.
func sanitizer(s *session) error {
	program := findSanitizer()
	if program == "" {
		s.result.Skipped = "there is no compute-sanitizer"
		return nil
	}
	if s.shim {
		s.result.Skipped = "compute-sanitizer knows no shim"
		return nil
	}
	var errs []error
	for _, tool := range []string{"memcheck", "racecheck"} {
		cmd := exec.CommandContext(s.ctx, program, "--tool", tool, "--error-exitcode", "3",
			s.tests, "-test.run", "^TestSuiteOnGPU$/^(RMSNorm|MatMul|GroupedMatMul|Attend|Store|Rotate)", "-test.short", "-test.v", "-test.count=1")
		errs = append(errs, s.tested(cmd, "compute-sanitizer, "+tool))
	}
	return errors.Join(errs...)
}

func findSanitizer() string {
	for _, name := range []string{"compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer", "/usr/local/cuda/compute-sanitizer/compute-sanitizer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
