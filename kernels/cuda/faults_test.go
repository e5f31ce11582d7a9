//go:build linux && (amd64 || arm64)

package cuda

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"

	"eckart/kernels"
	"eckart/kernels/cuda/shim"
)

// The driver of these tests is the shim's with some entry points replaced by functions of Go, so that it goes wrong where
// and when a test wants.

// fakes are entry points by their symbols: functions of uintptr, or nil for one that the library lacks.
type fakes map[string]any

// driver returns the shim's driver with the fakes in place.
func (f fakes) driver(t testing.TB) (*driver, error) {
	t.Helper()
	handle, err := openLibrary(shim.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	return newDriver(func(name string) uintptr {
		fake, ok := f[name]
		switch {
		case !ok:
			return lookup(handle, name)
		case fake == nil:
			return 0
		}
		return purego.NewCallback(fake)
	})
}

// original returns an entry point of the shim's driver.
func original(t testing.TB, name string) func(args ...uintptr) uintptr {
	t.Helper()
	handle, err := openLibrary(shim.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	e := entry{lookup(handle, name), name}
	return func(args ...uintptr) uintptr { return uintptr(e.call(args...)) }
}

// open returns a device with the fakes in place, which is closed at the end of the test.
func (f fakes) open(t testing.TB, o Options) *Device {
	t.Helper()
	driver, err := f.driver(t)
	if err != nil {
		t.Fatal(err)
	}
	d, err := open(o, driver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// stream returns a stream of a device with the fakes in place.
func (f fakes) stream(t testing.TB, o Options) *stream {
	t.Helper()
	s, err := f.open(t, o).NewStream()
	if err != nil {
		t.Fatal(err)
	}
	return s.(*stream)
}

// memory returns a matrix of bytes and a function that gives it back.
func memory(t testing.TB, d *Device, n int) (kernels.Mat, func() error) {
	t.Helper()
	a, err := d.NewArena(kernels.ArenaBytes(1, n, kernels.U8))
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Alloc(1, n, kernels.U8)
	if err != nil {
		t.Fatal(err)
	}
	return m, a.Close
}

// put writes v to an address that the driver was given.
func put[T any](addr uintptr, v T) { **(**T)(unsafe.Pointer(&addr)) = v }

// get reads a value at an address that the driver was given.
func get[T any](addr uintptr) T { return **(**T)(unsafe.Pointer(&addr)) }

// expect holds an error against what it is and what it says.
func expect(t testing.TB, err, is error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", says)
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("%q is no %q", err, is)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("got %q, want it to say %q", err, s)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than a line", err)
	}
}

func TestNoDriver(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "libcuda.so.1")
	_, err := Open(Options{Library: missing})
	expect(t, err, ErrNoDevice, "open driver library "+missing)
	_, err = List(Options{Library: missing})
	expect(t, err, ErrNoDevice, missing)
	if err := os.WriteFile(missing, []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Library: missing})
	expect(t, err, ErrNoDevice, missing)
}

// TestUsualPlaces looks for the machine's own driver: with one there are GPUs or a reason, without one there is a reason.
func TestUsualPlaces(t *testing.T) {
	list, err := List(Options{})
	if err != nil {
		expect(t, err, ErrNoDevice)
	} else if len(list) == 0 {
		t.Error("neither GPUs nor an error")
	}
}

func TestDriverRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		fakes fakes
		says  string
	}{
		{
			"old",
			fakes{"cuDriverGetVersion": func(v uintptr) uintptr { put(v, int32(11040)); return 0 }},
			"the NVIDIA driver is for CUDA 11.4, and 11.8 or later is needed: update the driver",
		},
		{
			"old and lacking",
			fakes{
				"cuDriverGetVersion": func(v uintptr) uintptr { put(v, int32(10020)); return 0 }, "cuGraphLaunch": nil,
			},
			"CUDA 10.2, and 11.8",
		},
		{
			"lacking",
			fakes{"cuMemHostAlloc": nil, "cuGraphLaunch": nil, "cuEventQuery": nil},
			"the NVIDIA driver's library lacks cuEventQuery, cuGraphLaunch, cuMemHostAlloc",
		},
		{
			"no GPU",
			fakes{"cuInit": func(uintptr) uintptr { return uintptr(errNoDevice) }},
			"sees no GPU",
		},
		{
			"broken",
			fakes{"cuInit": func(uintptr) uintptr { return uintptr(errUnknown) }},
			"start the NVIDIA driver",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.fakes.driver(t)
			expect(t, err, ErrNoDevice, c.says)
		})
	}
}

// attribute answers for one attribute of devices, and with what suits most for the others.
func attribute(which, value int) func(v, attribute, dev uintptr) uintptr {
	return func(v, attribute, _ uintptr) uintptr {
		answer := map[int]int{attributeMajor: 8, attributeMinor: 6, attributeMultiprocessors: 4, attributeSharedPerBlock: 101376}
		answer[which] = value
		put(v, int32(answer[int(attribute)]))
		return 0
	}
}

func TestGPURefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		fakes   fakes
		options Options
		is      error
		says    string
	}{
		{"too old", fakes{"cuDeviceGetAttribute": attribute(attributeMajor, 7)}, Options{}, ErrNoDevice, "compute capability 7.6, and 8.0 or later is needed"},
		{"not there", nil, Options{Ordinal: 64}, ErrNoDevice, "cuda:64 was asked for, and the driver sees one GPU, cuda:0"},
		{"negative", nil, Options{Ordinal: -1}, ErrNoDevice, "cuda:-1 was asked for"},
		{
			"none",
			fakes{"cuDeviceGetCount": func(n uintptr) uintptr { put(n, int32(0)); return 0 }},
			Options{},
			ErrNoDevice,
			"cuda:0 was asked for, and the driver sees no GPU",
		},
		{
			"taken",
			fakes{"cuDevicePrimaryCtxRetain": func(_, _ uintptr) uintptr { return uintptr(errOutOfMemory) }},
			Options{},
			nil,
			"start cuda:0",
		},
		{
			"gone",
			fakes{"cuDevicePrimaryCtxRetain": func(_, _ uintptr) uintptr { return uintptr(errDeviceUnavailable) }},
			Options{},
			ErrLost,
			"start cuda:0",
		},
		{"options", nil, Options{Timeout: -time.Second}, nil, "timeout is -1s"},
		{"options", nil, Options{Workspace: -1}, nil, "workspace -1 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			driver, err := c.fakes.driver(t)
			if err != nil {
				t.Fatal(err)
			}
			_, err = open(c.options, driver)
			expect(t, err, c.is, c.says)
		})
	}
}

// TestKernelsRefused has the driver's compiler refuse the PTX, with something to say.
func TestKernelsRefused(t *testing.T) {
	const said = "ptxas application ptx input, line 9; fatal   : Unsupported .version 7.8; current version is '7.0'"
	for _, c := range []struct {
		code result
		is   error
		says []string
	}{
		{errUnsupportedPTX, ErrNoDevice, []string{"too old for the kernels, update it", "line 9; fatal : Unsupported .version 7.8"}},
		{errInvalidPTX, ErrNoDevice, []string{"the driver refuses the kernels", "line 9"}},
		{errNoBinaryForGPU, ErrNoDevice, []string{"the driver refuses the kernels"}},
		{errJITCompilerMissing, ErrNoDevice, []string{"libnvidia-ptxjitcompiler.so.1"}},
		{errOutOfMemory, nil, []string{"compile kernels"}},
	} {
		driver, err := fakes{"cuModuleLoadDataEx": func(_, _, n, options, values uintptr) uintptr {
			for i := range n {
				if get[uint32](options+4*i) != jitErrorLog {
					continue
				}
				for j, c := range []byte(said + "\n\x00") {
					put(get[uintptr](values+8*i)+uintptr(j), c)
				}
			}
			return uintptr(c.code)
		}}.driver(t)
		if err != nil {
			t.Fatal(err)
		}
		_, err = open(Options{}, driver)
		expect(t, err, c.is, append(c.says, "start cuda:0")...)
	}
}

func TestOutOfMemory(t *testing.T) {
	full := false
	alloc := original(t, "cuMemAlloc_v2")
	d := fakes{"cuMemAlloc_v2": func(addr, n uintptr) uintptr {
		if full {
			return uintptr(errOutOfMemory)
		}
		return alloc(addr, n)
	}}.open(t, Options{})
	full = true
	_, err := d.NewArena(1 << 20)
	expect(t, err, nil, "allocate 1048576 bytes of cuda:0's memory: ", "bytes are free: ")
	_, err = d.NewStream()
	expect(t, err, nil, "make stream on cuda:0")
	full = false
	_, free := memory(t, d, 1<<20)
	if err := free(); err != nil {
		t.Error(err)
	}
}

// TestLaunchFails has a launch fail in a way that leaves the device as it was: the fault stays until Sync, what follows it
// does not run, and after Sync all is well.
func TestLaunchFails(t *testing.T) {
	const outOfResources = 701
	fails, launches := true, 0
	s := fakes{"cuLaunchKernel": func(_, _, _, _, _, _, _, _, _, _, _ uintptr) uintptr {
		launches++
		if fails {
			return outOfResources
		}
		return 0
	}}.stream(t, Options{})
	run := func() { launch(s, function{1, "matmul_wide"}, dim{7, 2, 1}, 256, 1<<10, &struct{ n uint64 }{1}) }
	run()
	run()
	if launches != 1 {
		t.Errorf("%d launches, want none after one that failed", launches)
	}
	_, err := s.Record(run)
	expect(t, err, nil, "record verbs: the stream is at fault", "matmul_wide")
	expect(t, s.Sync(), nil, "launch kernel matmul_wide on 7 x 2 x 1 blocks of 256 threads with 1024 bytes of shared memory")
	if err := s.Sync(); err != nil {
		t.Errorf("second Sync: %v", err)
	}
	_, err = s.Record(run)
	expect(t, err, nil, "record verbs: launch kernel matmul_wide")
	if err := s.Sync(); err != nil {
		t.Errorf("Sync after a recording that failed: %v", err)
	}
	fails = false
	run()
	if err := s.Sync(); err != nil {
		t.Errorf("after the fault: %v", err)
	}
}

// Faults that end a context: every later use of the device gives the first error, and Close returns.
func TestLostDevice(t *testing.T) {
	for _, c := range []struct {
		name  string
		fakes func(r result) fakes
		code  result
	}{
		{"illegal address", func(r result) fakes { return fakes{"cuEventQuery": func(uintptr) uintptr { return uintptr(r) }} }, errIllegalAddress},
		{"off the bus", func(r result) fakes { return fakes{"cuEventQuery": func(uintptr) uintptr { return uintptr(r) }} }, errUnknown},
		{"off the bus at an upload", func(r result) fakes {
			return fakes{"cuMemcpyHtoDAsync_v2": func(_, _, _, _ uintptr) uintptr { return uintptr(r) }}
		}, errDeviceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.fakes(c.code)
			s := f.stream(t, Options{})
			d := s.device
			m, free := memory(t, d, 1000)
			s.Upload(m, make([]byte, 1000))
			s.Upload(m, make([]byte, 1000))
			got := bytes.Repeat([]byte{7}, 1000)
			s.Download(got, m)
			err := s.Sync()
			expect(t, err, ErrLost, "(upload")
			if code(err) != c.code {
				t.Errorf("%v: code %d, want %d", err, code(err), c.code)
			}
			if got[0] != 7 {
				t.Error("a download that failed has delivered")
			}
			s.Upload(m, make([]byte, 1000))
			if again := s.Sync(); again == nil || again.Error() != err.Error() {
				t.Errorf("second Sync: %v, want %v", again, err)
			}
			_, err = d.NewArena(64)
			expect(t, err, ErrLost)
			_, err = d.NewStream()
			expect(t, err, ErrLost)
			_, err = s.Record(func() {})
			expect(t, err, ErrLost)
			if err := free(); err != nil {
				t.Errorf("free: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close stream: %v", err)
			}
		})
	}
}

// TestBlocking holds that a device that waits after every launch names the kernel at fault.
func TestBlocking(t *testing.T) {
	fault := success
	s := fakes{
		"cuEventQuery":   func(uintptr) uintptr { return uintptr(fault) },
		"cuLaunchKernel": func(_, _, _, _, _, _, _, _, _, _, _ uintptr) uintptr { return 0 },
	}.stream(t, Options{Blocking: true})
	for _, name := range []string{"first", "second", "third"} {
		if name == "second" {
			fault = errIllegalAddress
		}
		launch(s, function{1, name}, dim{1, 1, 1}, 32, 0, &emptyArgs{})
	}
	expect(t, s.Sync(), ErrLost, "in one operation (second)")
}

// TestSilentDevice has a kernel never end: whoever waits is told so in time.
func TestSilentDevice(t *testing.T) {
	never := fakes{
		"cuEventQuery":   func(uintptr) uintptr { return uintptr(errNotReady) },
		"cuLaunchKernel": func(_, _, _, _, _, _, _, _, _, _, _ uintptr) uintptr { return 0 },
	}
	run := func(s *stream, name string) {
		launch(s, function{1, name}, dim{1, 1, 1}, 32, 0, &struct{ n uint64 }{1})
	}
	for _, c := range []struct {
		name string
		do   func(s *stream, m kernels.Mat)
		says string
	}{
		{"Sync", func(s *stream, _ kernels.Mat) { run(s, "first"); run(s, "second") }, "wait for 2 operations (first to second): cuda:0 has not answered for 300ms"},
		{"one", func(s *stream, _ kernels.Mat) { run(s, "first") }, "wait for one operation (first): cuda:0"},
		{"Upload", func(s *stream, m kernels.Mat) {
			for range 4 {
				s.Upload(m, make([]byte, m.Bytes()))
			}
		}, "operations (upload to upload)"},
		{"Download", func(s *stream, m kernels.Mat) {
			for range 4 {
				s.Download(make([]byte, m.Bytes()), m)
			}
		}, "wait for one operation (download)"},
		{"full queue", func(s *stream, _ kernels.Mat) {
			for range 10 * throttle {
				run(s, "again")
			}
			if s.operations > 3*throttle {
				t.Errorf("%d operations are enqueued", s.operations)
			}
		}, "operations (again to again)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := never.stream(t, Options{})
			m, free := memory(t, s.device, uploadBytes)
			s.device.options.Timeout = 300 * time.Millisecond // the shim itself may take longer on a busy machine
			c.do(s, m)
			expect(t, s.Sync(), ErrLost, c.says)
			if err := free(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSilentDriver has calls of the driver never return.
func TestSilentDriver(t *testing.T) {
	const limit = 100 * time.Millisecond
	for _, name := range []string{"cuMemAlloc_v2", "cuModuleLoadDataEx", "cuStreamCreate", "cuMemFree_v2"} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			block := func(_ uintptr) uintptr { <-release; return uintptr(errUnknown) }
			driver, err := fakes{name: block}.driver(t)
			if err != nil {
				t.Fatal(err)
			}
			d, err := open(Options{Timeout: limit}, driver)
			if err != nil {
				expect(t, err, ErrLost, "start cuda:0", "has not answered for 1s")
				return
			}
			a, err := d.NewArena(100)
			if err == nil {
				err = a.Close()
			}
			expect(t, err, ErrLost, "has not answered for 100ms")
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
