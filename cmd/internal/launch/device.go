package launch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"eckart/cmd/internal/command"
	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/kernels/cuda"
)

// DeviceAuto is the choice of whoever makes none: the first GPU that can be used, or else the processor.
const DeviceAuto = "auto"

// libraryVariable names the environment variable with the path of the driver's library, where it is in no usual place.
const libraryVariable = "ECKART_LIBCUDA"

// A DeviceChoice says what runs the model. Its zero value stands for DeviceAuto.
type DeviceChoice struct {
	kind    string // "", "cpu" or "cuda"
	ordinal int    // of the GPU
}

// String returns the choice as ParseDevice reads it.
func (c DeviceChoice) String() string {
	switch c.kind {
	case "":
		return DeviceAuto
	case "cuda":
		return fmt.Sprintf("cuda:%d", c.ordinal)
	}
	return c.kind
}

// ParseDevice reads auto, cpu, cuda or cuda:N; "" is auto.
func ParseDevice(s string) (DeviceChoice, error) {
	switch s {
	case "", DeviceAuto:
		return DeviceChoice{}, nil
	case "cpu", "cuda":
		return DeviceChoice{kind: s}, nil
	}
	if number, ok := strings.CutPrefix(s, "cuda:"); ok {
		if n, err := strconv.ParseUint(number, 10, 8); err == nil {
			return DeviceChoice{kind: "cuda", ordinal: int(n)}, nil
		}
	}
	return DeviceChoice{}, &command.UsageError{Err: fmt.Errorf("--device must be auto, cpu, cuda or cuda:N, got %q", s)}
}

// openDevice opens the device that o asks for. Where that is for us to choose and there is no GPU, passed says why.
func openDevice(o Options) (d kernels.Device, passed error, err error) {
	if o.Threads == 0 {
		o.Threads = cpu.DefaultThreads()
	}
	c, library := o.Device, os.Getenv(libraryVariable)
	if c.kind == "" {
		if c, passed = firstGPU(library); passed != nil {
			c.kind = "cpu"
		}
	}
	if c.kind == "cpu" {
		host, err := cpu.Open(cpu.Options{Threads: o.Threads, Activations: o.Activations})
		if err != nil {
			return nil, nil, err
		}
		return host, passed, nil
	}
	gpu, err := cuda.Open(cuda.Options{Ordinal: c.ordinal, Library: library})
	if err != nil {
		return nil, nil, fmt.Errorf("--device %s: %w (--device cpu runs on the processor)", c, err)
	}
	return gpu, nil, nil
}

// firstGPU returns the first GPU that can be used.
func firstGPU(library string) (DeviceChoice, error) {
	all, err := cuda.List(cuda.Options{Library: library})
	if err != nil {
		return DeviceChoice{}, err
	}
	for _, gpu := range all {
		if gpu.Usable() {
			return DeviceChoice{kind: "cuda", ordinal: gpu.Ordinal}, nil
		}
	}
	return DeviceChoice{}, fmt.Errorf("%s is too old", all[0])
}

// WithDevice opens the device that o asks for, and closes it when use has returned.
func WithDevice(o Options, use func(kernels.Device) error) error {
	d, _, err := openDevice(o)
	if err != nil {
		return err
	}
	return errors.Join(use(d), d.Close())
}
