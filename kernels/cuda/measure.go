package cuda

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Kernel is what the driver says of a kernel that it has compiled.
type Kernel struct {
	Name      string
	Threads   int // the most of a block
	Registers int // of a thread
	Local     int // bytes of a thread that lie in memory: what registers do not hold
	Binary    int // compute capability that it was compiled for: 90 is 9.0
}

// Kernels returns what the driver says of each kernel, in the order of the families of verbs.
func (d *Device) Kernels() ([]Kernel, error) {
	var all []Kernel
	err := d.do("describe the kernels on "+d.label(), func() error {
		for _, k := range d.functions.table() {
			about := Kernel{Name: k.name}
			for _, a := range []struct {
				attribute int
				value     *int
			}{
				{functionThreads, &about.Threads},
				{functionRegisters, &about.Registers},
				{functionLocalBytes, &about.Local},
				{functionBinary, &about.Binary},
			} {
				var err error
				if *a.value, err = d.driver.functionAttribute(k.at.handle, a.attribute); err != nil {
					return fmt.Errorf("kernel %s: %w", k.name, err)
				}
			}
			all = append(all, about)
		}
		return nil
	})
	return all, err
}

// CopyRate measures the driver's own copying from memory to memory: the bytes a second that are read and written, of the
// median of some copies of n bytes. What memory is left must hold 2n bytes.
func (d *Device) CopyRate(n int64) (bytesPerSecond float64, err error) {
	const warm, counted = 2, 10
	from, err := d.NewArena(n)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := d.NewArena(n)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	times := make([]time.Duration, 0, counted)
	err = d.do("copy memory of "+d.label(), func() (err error) {
		var begun, ended cuEvent
		for _, e := range []*cuEvent{&begun, &ended} {
			if *e, err = d.driver.newClock(); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.driver.destroyEvent(*e)) }()
		}
		for i := range warm + counted {
			if err := d.driver.timeCopy(d.service, to.(*arena).addr, from.(*arena).addr, n, begun, ended); err != nil {
				return err
			}
			took, err := d.driver.elapsed(begun, ended)
			if err != nil {
				return err
			}
			if i >= warm {
				times = append(times, took)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	slices.Sort(times)
	return 2 * float64(n) / max(times[counted/2], 1).Seconds(), nil
}
