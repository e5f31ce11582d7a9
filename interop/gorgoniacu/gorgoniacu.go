// Package gorgoniacu lets a program use a GPU through gorgonia.org/cu and through Eckart at once. Both run in the primary
// context of the GPU, so that memory of one is memory of the other, without a copy; and the kernels of Eckart run through
// cu as well, which is a driver binding written apart from ours (cgo, not purego) and so a check of it.
//
// It is a module of its own: cu needs cgo and the headers of CUDA 11.8 to 12, and a program with it needs libcuda to start.
package gorgoniacu

import (
	"errors"
	"fmt"
	"runtime"

	"eckart/kernels"

	"gorgonia.org/cu"
)

// A Driver is a GPU as cu sees it, with kernels of Eckart. It is for one goroutine at a time.
type Driver struct {
	device    cu.Device
	context   cu.CUContext
	modules   []cu.Module
	functions map[string]cu.Function
}

// Open returns the GPU of that number. It shares the primary context with a cuda.Device of the same number, if there is
// one. Close gives it back.
func Open(ordinal int) (*Driver, error) {
	device, err := cu.GetDevice(ordinal)
	if err != nil {
		return nil, fmt.Errorf("open cuda:%d through cu: %w", ordinal, err)
	}
	context, err := device.RetainPrimaryCtx()
	if err != nil {
		return nil, fmt.Errorf("open cuda:%d through cu: retain its primary context: %w", ordinal, err)
	}
	return &Driver{device: device, context: context, functions: map[string]cu.Function{}}, nil
}

// Do calls use with the context current, on one thread: what it calls of cu works on this GPU.
func (d *Driver) Do(use func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		return fmt.Errorf("make context current: %w", err)
	}
	return use()
}

// Load has the driver compile PTX, such as the images of package ptx.
func (d *Driver) Load(ptx string) error {
	return d.Do(func() error {
		m, err := cu.LoadData(ptx)
		if err != nil {
			return fmt.Errorf("load PTX of %d bytes through cu: %w", len(ptx), err)
		}
		d.modules = append(d.modules, m)
		return nil
	})
}

// function returns a kernel of a loaded module.
func (d *Driver) function(name string) (cu.Function, error) {
	if f, ok := d.functions[name]; ok {
		return f, nil
	}
	var err error
	for _, m := range d.modules {
		var f cu.Function
		if f, err = m.Function(name); err == nil {
			d.functions[name] = f
			return f, nil
		}
	}
	return cu.Function{}, fmt.Errorf("find kernel %s: %w", name, err)
}

// Close gives modules and context back.
func (d *Driver) Close() error {
	err := d.Do(func() error {
		var all []error
		for _, m := range d.modules {
			all = append(all, m.Unload())
		}
		return errors.Join(all...)
	})
	d.modules = nil
	return errors.Join(err, d.device.ReleasePrimaryCtx())
}

// Pointer returns where m lies on the GPU, for use with cu.
func Pointer(m kernels.Mat) cu.DevicePtr { return cu.DevicePtr(m.Addr) }

// Mat returns the packed matrix that lies at p, for use with the verbs of a stream of the same GPU.
func Mat(p cu.DevicePtr, rows, cols int, t kernels.DType) kernels.Mat {
	return kernels.Mat{Span: kernels.Span{Addr: uint64(p)}, Rows: rows, Cols: cols, Stride: cols, Type: t}
}
