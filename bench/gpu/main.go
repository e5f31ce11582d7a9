// Command gpu checks and measures the CUDA device in the few minutes in which there is a GPU: what the driver makes of the
// kernels, the kernel suite, a model's replies against the processor's, each kernel against the machine's own rates, and
// whole steps of models with random weights. README.md beside it says how to run it and how to read what it writes.
//
// Each part runs in a process of its own, as a fault of a kernel ends its process's GPU, and is ended when its time is
// over. What a part has found until then is kept.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"eckart/kernels/cuda"
	"eckart/kernels/cuda/shim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "gpu: %v\n", err)
		os.Exit(1)
	}
}

// A part is one of the things that are found out.
type part struct {
	name  string
	about string
	limit time.Duration // after which it is ended; on the shim there is none but the total
	run   func(*session) error
}

// parts lists all of them, checks first.
func parts() []part {
	return []part{
		{"device", "driver, compilation of the kernels, registers", 4 * time.Minute, device},
		{"suite", "the kernel suite", 4 * time.Minute, suite},
		{"gorgonia", "kernels through gorgonia.org/cu, where the bundle has it", time.Minute, gorgonia},
		{"repeat", "the same bits in any run", time.Minute, repeat},
		{"golden", "a model's replies against the processor's", 2 * time.Minute, golden},
		{"roofline", "kernels against the machine's rates", 4 * time.Minute, roofline},
		{"steps", "whole steps, random weights", 6 * time.Minute, steps},
		{"cold", "start to first token", 2 * time.Minute, cold},
		{"sanitizer", "compute-sanitizer, where there is one", 2 * time.Minute, sanitizer},
	}
}

// Options of a run, the same for the process that runs the parts and for those that are one.
type options struct {
	out     string
	ordinal int
	shim    bool // on the shim, at small sizes
	library string
	tests   string
	cu      string
	eckart  string
	model   string
}

func command(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	flags := flag.NewFlagSet("gpu", flag.ContinueOnError)
	flags.StringVar(&o.out, "out", "bench/out/gpu", "`folder` of the results; what is done there is not done again")
	flags.IntVar(&o.ordinal, "gpu", 0, "`number` of the GPU, as the driver counts")
	flags.BoolVar(&o.shim, "shim", false, "run on the shim, at small sizes: a test of this program, not of a GPU")
	flags.StringVar(&o.tests, "tests", beside("cuda.test"), "test `program` of kernels/cuda")
	flags.StringVar(&o.cu, "gorgonia", beside("gorgoniacu.test"), "test `program` of interop/gorgoniacu")
	flags.StringVar(&o.eckart, "eckart", beside("eckart"), "eckart `program`")
	flags.StringVar(&o.model, "model", demoFolder(), "`folder` of the checkpoint that replies")
	only := flags.String("parts", "", "`names` of the parts to run, with commas; all without it")
	again := flags.Bool("again", false, "run parts again that are done")
	limit := flags.Duration("limit", 25*time.Minute, "`time` for everything, after which no part is begun")
	listed := flags.Bool("list", false, "list the GPUs and do no more; an error if there is none")
	one := flags.String("part", "", "`name` of a part to run in this process")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: gpu takes flags alone", flags.Arg(0))
	}
	if *listed {
		all, err := cuda.List(cuda.Options{})
		for _, gpu := range all {
			fmt.Fprintln(os.Stderr, gpu)
		}
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if o.shim {
		var err error
		if o.library, err = shim.Build(); err != nil {
			return err
		}
	}
	if *one != "" {
		p, err := choose(*one)
		if err != nil {
			return err
		}
		return runHere(ctx, p[0], o)
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	return runAll(ctx, chosen, o, *again, *limit, stdout)
}

// beside returns the path of a file beside this program.
func beside(name string) string {
	program, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(program), name)
}

// demoFolder returns where the demo model lies: beside this program in a bundle, or in the repository.
func demoFolder() string {
	if folder := beside("gopher-dense"); exists(folder) {
		return folder
	}
	return "cmd/internal/demo/gopher-dense"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// choose returns the parts of a list of names, all of them for none.
func choose(names string) ([]part, error) {
	all := parts()
	if names == "" {
		return all, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no part %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// runHere runs a part in this process. What goes wrong in it is part of its result.
func runHere(ctx context.Context, p part, o options) error {
	s := newSession(ctx, p, o)
	if err := s.save(); err != nil {
		return err
	}
	err := p.run(s)
	if err = errors.Join(err, s.close()); err != nil {
		s.result.Failed = err.Error()
	}
	s.result.Done = err == nil && len(s.result.Wrong()) == 0
	return s.save()
}

// runAll runs parts one after the other, each in a process, and writes the report after each. It fails only where that
// cannot be done: a part that fails is reported.
func runAll(ctx context.Context, chosen []part, o options, again bool, limit time.Duration, stdout io.Writer) error {
	deadline := time.Now().Add(limit)
	gpu := "" // what was found on another one, or by another version of the kernels, is found anew
	if list, err := cuda.List(cuda.Options{Library: o.library}); err == nil && o.ordinal < len(list) {
		gpu = list[o.ordinal].String()
	}
	for _, p := range chosen {
		r, err := load(o.out, p.name)
		if err == nil && r.Done && !again && r.Shim == o.shim && r.Machine.Commit == commit() && (r.Machine.GPU == "" || r.Machine.GPU == gpu) {
			fmt.Fprintf(stdout, "%-10s done before\n", p.name)
			continue
		}
		left := time.Until(deadline)
		if ctx.Err() != nil || left <= 0 {
			fmt.Fprintf(stdout, "%-10s not begun: the time is over\n", p.name)
			continue
		}
		if !o.shim {
			left = min(left, p.limit)
		}
		if err := os.Remove(resultFile(o.out, p.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		start := time.Now()
		failed := runProcess(ctx, p, o, left)
		r, err = load(o.out, p.name)
		if err != nil {
			r = &Result{Part: p.name, Started: start, Shim: o.shim}
		}
		r.Seconds = time.Since(start).Seconds()
		if failed != nil && r.Failed == "" {
			r.Failed, r.Done = failed.Error(), false
		}
		if err := r.save(o.out); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%-10s %s\n", p.name, r.state())
		if err := report(o.out); err != nil {
			return err
		}
	}
	if err := report(o.out); err != nil {
		return err
	}
	return show(o.out, stdout)
}

// runProcess runs a part in a process of its own, whose output goes to a log in the folder of the results.
func runProcess(ctx context.Context, p part, o options, limit time.Duration) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(o.out, p.name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := []string{"-part", p.name, "-out", o.out, "-gpu", fmt.Sprint(o.ordinal), "-tests", o.tests, "-gorgonia", o.cu, "-eckart", o.eckart, "-model", o.model}
	if o.shim {
		args = append(args, "-shim")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second // then it is killed
	err = cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("ended when its %v were over", limit.Round(time.Second))
	case err != nil:
		return fmt.Errorf("%w: %s", err, tail(log.Name(), 400))
	}
	return nil
}

// tail returns the last n bytes of a file, in one line.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(text) > n {
		text = text[len(text)-n:]
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "")), " ")
}
