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

// openDevice opens the device that o asks for. A GPU that was not asked for and cannot be used is passed over.
func openDevice(o Options) (kernels.Device, error) {
	if o.Threads == 0 {
		o.Threads = cpu.DefaultThreads()
	}
	c, library := o.Device, os.Getenv(libraryVariable)
	if c.kind == "" {
		c.kind = "cpu"
		if all, err := cuda.List(cuda.Options{Library: library}); err == nil {
			for _, gpu := range all {
				if gpu.Usable() {
					c = DeviceChoice{kind: "cuda", ordinal: gpu.Ordinal}
					break
				}
			}
		}
	}
	if c.kind == "cpu" {
		return cpu.Open(cpu.Options{Threads: o.Threads, Activations: o.Activations})
	}
	d, err := cuda.Open(cuda.Options{Ordinal: c.ordinal, Library: library})
	if err != nil {
		return nil, fmt.Errorf("--device %s: %w (--device cpu runs on the processor)", c, err)
	}
	return d, nil
}

// WithDevice opens the device that o asks for, and closes it when use has returned.
func WithDevice(o Options, use func(kernels.Device) error) error {
	d, err := openDevice(o)
	if err != nil {
		return err
	}
	return errors.Join(use(d), d.Close())
}
