package cuda

import (
	"fmt"
	"strings"
	"time"

	"eckart/kernels/cuda/ptx"
)

// Loaded is a module of kernels that the driver has compiled, as Options.Loaded is told of it.
type Loaded struct {
	Bytes int // of PTX
	Took  time.Duration
	Log   string // what the driver's compiler says of its kernels: registers, spills
}

// loadKernels compiles the PTX for the device and looks the kernels up, in the device's context.
func (d *Device) loadKernels() error {
	capability := d.info.Capability()
	if most := d.options.Capability; most > 0 {
		capability = min(capability, most)
	}
	images, err := ptx.Images(capability)
	if err != nil {
		return fmt.Errorf("load kernels: %w", err)
	}
	for _, image := range images {
		start := time.Now()
		m, log, err := d.driver.loadModule(image, d.options.Loaded != nil)
		if err != nil {
			return refused(err, log, d.info.Driver)
		}
		d.modules = append(d.modules, m)
		if d.options.Loaded != nil {
			d.options.Loaded(Loaded{len(image), time.Since(start), log})
		}
	}
	var missing []string
	for _, k := range d.functions.table() {
		f, err := d.find(k.name)
		if code(err) == errNotFound {
			missing = append(missing, k.name)
			continue
		}
		if err != nil {
			return fmt.Errorf("look kernel %s up: %w", k.name, err)
		}
		if err := d.driver.prepare(f, d.info.sharedPerBlock); err != nil {
			return fmt.Errorf("load kernel %s: %w", k.name, err)
		}
		*k.at = function{f, k.name}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the PTX lacks kernels %s", strings.Join(missing, ", "))
	}
	return nil
}

// find looks a kernel up in every module.
func (d *Device) find(name string) (f cuFunction, err error) {
	for _, m := range d.modules {
		if f, err = d.driver.function(m, name); code(err) != errNotFound {
			break
		}
	}
	return f, err
}

// refused says why the driver did not take PTX. A driver that cannot take it at all is as good as none.
func refused(err error, log string, driver int) error {
	said := ""
	if log != "" {
		said = ": " + strings.Join(strings.Fields(log), " ")
	}
	switch code(err) {
	case errUnsupportedPTX:
		return fmt.Errorf("%w: the driver (CUDA %s) is too old for the kernels, update it%s: %w", ErrNoDevice, version(driver), said, err)
	case errJITCompilerMissing:
		return fmt.Errorf("%w: the driver's compiler library, libnvidia-ptxjitcompiler.so.1, is missing, as in containers that were given "+
			"only parts of the driver: %w", ErrNoDevice, err)
	case errInvalidPTX, errInvalidImage, errNoBinaryForGPU:
		return fmt.Errorf("%w: the driver refuses the kernels%s: %w", ErrNoDevice, said, err)
	}
	return fmt.Errorf("compile kernels%s: %w", said, err)
}
