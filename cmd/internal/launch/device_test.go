package launch_test

import (
	"strings"
	"testing"

	"eckart/cmd/internal/launch"
	"eckart/kernels"
	"eckart/kernels/cuda"
)

func TestParseDevice(t *testing.T) {
	for s, want := range map[string]string{"": "auto", "auto": "auto", "cpu": "cpu", "cuda": "cuda:0", "cuda:3": "cuda:3"} {
		c, err := launch.ParseDevice(s)
		if err != nil || c.String() != want {
			t.Errorf("device %q is %q, %v, want %q", s, c, err, want)
		}
	}
	for _, s := range []string{"gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1000", "CPU"} {
		if _, err := launch.ParseDevice(s); err == nil || !strings.Contains(err.Error(), "--device") {
			t.Errorf("device %q: %v, want an error that names --device", s, err)
		}
	}
}

func TestDeviceThatIsNotThere(t *testing.T) {
	c, err := launch.ParseDevice("cuda:200")
	if err != nil {
		t.Fatal(err)
	}
	err = launch.WithDevice(launch.Options{Device: c}, func(kernels.Device) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "--device cuda:200: ") || !strings.Contains(err.Error(), "--device cpu") {
		t.Errorf("got %v, want an error that names what was asked for and what else there is", err)
	}
}

func TestDeviceAuto(t *testing.T) {
	err := launch.WithDevice(launch.Options{}, func(d kernels.Device) error {
		_, noGPU := cuda.List(cuda.Options{})
		if cpu := strings.HasPrefix(d.Name(), "cpu: "); cpu != (noGPU != nil) {
			t.Errorf("auto took %s, and the GPUs say %v", d.Name(), noGPU)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
