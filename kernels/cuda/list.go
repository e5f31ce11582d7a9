package cuda

import "fmt"

// oldestMajor is the first compute capability that has the instructions of the kernels: Ampere's.
const oldestMajor = 8

// Info describes a GPU.
type Info struct {
	Ordinal         int    // its number with the driver
	Product         string // as in "NVIDIA H100 80GB HBM3"
	Major, Minor    int    // compute capability
	Multiprocessors int
	Memory          int64 // bytes
	Cache           int   // bytes of the second-level cache
	Driver          int   // the version of CUDA that the driver brings: 12040 is 12.4
	Integrated      bool  // its memory is the host's, as in a Jetson

	sharedPerBlock int // bytes of shared memory that a block may ask for
}

// String describes the GPU in a line, as in "cuda:0: NVIDIA H100 80GB HBM3 (sm_90, driver 13.0), 132 SMs".
func (i Info) String() string {
	return fmt.Sprintf("cuda:%d: %s (sm_%d%d, driver %s), %d SMs", i.Ordinal, i.Product, i.Major, i.Minor, version(i.Driver), i.Multiprocessors)
}

// Capability returns the compute capability in one number, as ptx.Images takes it: 90 is 9.0.
func (i Info) Capability() int { return 10*i.Major + i.Minor }

// Usable reports whether Open takes the GPU.
func (i Info) Usable() bool { return i.Major >= oldestMajor }

// List returns the GPUs that the driver sees, those that cannot be used included. The error wraps ErrNoDevice if there is
// no driver or no GPU. Of the options, Library alone counts.
func List(o Options) ([]Info, error) {
	d, err := openDriver(o.Library)
	if err != nil {
		return nil, err
	}
	count, err := d.deviceCount()
	if err != nil {
		return nil, fmt.Errorf("%w: count GPUs: %w", ErrNoDevice, err)
	}
	if count == 0 {
		return nil, fmt.Errorf("%w: the driver sees no GPU", ErrNoDevice)
	}
	list := make([]Info, count)
	for i := range list {
		if list[i], err = d.describeDevice(i); err != nil {
			return nil, fmt.Errorf("%w: describe cuda:%d: %w", ErrNoDevice, i, err)
		}
	}
	return list, nil
}

func (d *driver) describeDevice(ordinal int) (Info, error) {
	i := Info{Ordinal: ordinal, Driver: d.version}
	dev, err := d.device(ordinal)
	if err != nil {
		return i, err
	}
	if i.Product, err = d.deviceName(dev); err != nil {
		return i, err
	}
	if i.Memory, err = d.totalMemory(dev); err != nil {
		return i, err
	}
	integrated := 0
	for _, a := range []struct {
		attribute int
		value     *int
	}{
		{attributeIntegrated, &integrated},
		{attributeMajor, &i.Major},
		{attributeMinor, &i.Minor},
		{attributeMultiprocessors, &i.Multiprocessors},
		{attributeCache, &i.Cache},
		{attributeSharedPerBlock, &i.sharedPerBlock},
	} {
		if *a.value, err = d.attribute(dev, a.attribute); err != nil {
			return i, err
		}
	}
	i.Integrated = integrated != 0
	return i, nil
}
