package cuda

import (
	"fmt"
	"time"
	"unsafe"

	"eckart/kernels"
)

// stream runs verbs in order on a device. It owns everything that a verb needs beside its arguments, so that verbs
// allocate nothing; and it lies on the heap as a whole, where nothing moves: the driver reads arguments from it.
type stream struct {
	device *Device
	driver *driver
	f      *functions
	handle cuStream
	err    error // the first fault since the last Sync

	// What was enqueued since the device was last known to be idle, for messages.
	operations  int
	first, last string

	recording bool // between beginning and end of a capture
	done      cuEvent
	full      [2]cuEvent // take turns, one every throttle operations
	runs      runs
	at        mark
	up        uploads
	down      downloads

	work    span // for partial results; its content is whatever the last verb left
	tickets span // counters of 4 bytes that are zero between kernels: whoever counts with one sets it back

	call         [12]uintptr // arguments of a call of the driver
	extra        [5]uintptr  // the list of parameters of cuLaunchKernel: where arguments are, and their size
	argumentSize uintptr
	arguments    [argumentBytes / 8]uint64
}

var _ kernels.Stream = (*stream)(nil)

// span is a stretch of the device's memory.
type span struct {
	addr  uint64
	bytes int64
}

// ticketBytes is the size of stream.tickets: a counter for each block of results that several blocks of threads work on.
const ticketBytes = 64 << 10

// NewStream returns a stream with a workspace of its own.
func (d *Device) NewStream() (kernels.Stream, error) {
	s := &stream{device: d, driver: d.driver, f: &d.functions}
	s.extra = [5]uintptr{paramBufferPointer, uintptr(unsafe.Pointer(&s.arguments)), paramBufferSize, uintptr(unsafe.Pointer(&s.argumentSize)), paramEnd}
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.streams[s] = struct{}{}
	}
	d.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("make stream: %s is closed", d.Name())
	}
	if err := d.do("make stream on "+d.label(), s.make); err != nil {
		_ = s.Close() // what was made already; the first error is the one that matters
		return nil, err
	}
	return s, nil
}

// make makes what the stream owns, in the device's context.
func (s *stream) make() (err error) {
	d := s.driver
	if s.handle, err = d.newStream(); err != nil {
		return err
	}
	for _, e := range []*cuEvent{&s.done, &s.full[0], &s.full[1], &s.at.passed, &s.up.halves[0].copied, &s.up.halves[1].copied} {
		if *e, err = d.newEvent(); err != nil {
			return err
		}
	}
	if s.timed() {
		for i := range s.runs.clocks {
			if s.runs.clocks[i], err = d.newClock(); err != nil {
				return err
			}
		}
	}
	if s.up.mem, err = d.allocHost(2 * uploadBytes); err != nil {
		return err
	}
	if s.down.mem, err = d.allocHost(downloadBytes); err != nil {
		return err
	}
	s.work.bytes = s.device.options.Workspace
	if s.work.addr, err = d.alloc(s.work.bytes); err != nil {
		return err
	}
	s.tickets.bytes = ticketBytes
	if s.tickets.addr, err = d.alloc(s.tickets.bytes); err != nil {
		return err
	}
	return d.zero(s.handle, s.tickets.addr, s.tickets.bytes)
}

// Close gives the stream's memory back when the device has finished what was asked of it. Device.Close does the same with
// streams that are still there.
func (s *stream) Close() error {
	d := s.device
	d.mu.Lock()
	_, open := d.streams[s]
	delete(d.streams, s)
	d.mu.Unlock()
	if !open || d.lost.Load() != nil {
		return nil
	}
	return d.do("free stream on "+d.label(), s.free)
}

// free gives back what make has made, in the device's context.
func (s *stream) free() error {
	d := s.driver
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	if s.handle != 0 {
		keep(d.failure(&d.streamSynchronize, d.streamSynchronize.call(uintptr(s.handle))))
		keep(d.destroyStream(s.handle))
	}
	events := []cuEvent{s.done, s.full[0], s.full[1], s.at.passed, s.up.halves[0].copied, s.up.halves[1].copied}
	for _, e := range append(events, s.runs.clocks[:]...) {
		if e != 0 {
			keep(d.destroyEvent(e))
		}
	}
	for _, mem := range [][]byte{s.up.mem, s.down.mem} {
		if mem != nil {
			keep(d.freeHost(mem))
		}
	}
	for _, m := range []span{s.work, s.tickets} {
		if m.addr != 0 {
			keep(d.free(m.addr))
		}
	}
	return first
}

// enter makes the device's context current, until Device.leave, for what calls the driver. It reports whether it may: a stream
// that is at fault does nothing more.
func (s *stream) enter() bool {
	if s.err != nil {
		return false
	}
	if err := s.device.enter(); err != nil {
		s.device.leave()
		s.fail(err)
		return false
	}
	return true
}

// fail keeps the first fault. One that ends the context ends the device.
func (s *stream) fail(err error) {
	if s.err != nil {
		return
	}
	if code(err).ends() && s.operations > 0 {
		err = fmt.Errorf("%w, in %s since the device was last idle", err, s.pending())
	}
	s.err = s.device.ended(err)
}

// pending describes what the device has been given to do.
func (s *stream) pending() string {
	switch s.operations {
	case 0:
		return "no operations"
	case 1:
		return "one operation (" + s.first + ")"
	}
	return fmt.Sprintf("%d operations (%s to %s)", s.operations, s.first, s.last)
}

// throttle is how many operations are enqueued before the stream waits for those before them. A driver's queue takes
// some 1000, and a call blocks when it is full, beyond the reach of any timeout.
const throttle = 256

// enqueue counts an operation that is about to be enqueued, in the device's context. It reports whether that may be.
func (s *stream) enqueue(name string) bool {
	if s.operations == 0 {
		s.first = name
	}
	if s.at.next == "" {
		s.at.next = name
	}
	s.last = name
	s.operations++
	if s.operations%throttle == 0 && !s.recording {
		turn := s.operations / throttle % 2
		if s.operations > throttle {
			s.await(s.full[1-turn])
		}
		s.record(s.full[turn])
	}
	return s.err == nil
}

// record has the event happen when all that was enqueued is done.
func (s *stream) record(e cuEvent) {
	s.call[0], s.call[1] = uintptr(e), uintptr(s.handle)
	if r := s.driver.eventRecord.call(s.call[:2]...); r != success {
		s.fail(fmt.Errorf("record event: %w", s.driver.failure(&s.driver.eventRecord, r)))
	}
}

// Waiting: at first by asking again and again, as most steps are waited for when they are nearly done; then asleep
// between questions, because a thread that spins takes a processor from others.
const (
	spinning = 50 * time.Microsecond
	nap      = 20 * time.Microsecond // some 50 more pass until the thread runs again
	longNap  = time.Millisecond
)

// await waits for an event, within Options.Timeout.
func (s *stream) await(e cuEvent) {
	start := time.Now()
	for s.err == nil {
		s.call[0] = uintptr(e)
		r := s.driver.eventQuery.call(s.call[:1]...)
		if r == success {
			return
		}
		if r != errNotReady {
			s.fail(fmt.Errorf("wait for %s: %w", s.device.label(), s.driver.failure(&s.driver.eventQuery, r)))
			return
		}
		switch waited := time.Since(start); {
		case waited > s.device.options.Timeout:
			s.err = s.device.lose(s.device.silent("wait for "+s.pending(), s.device.options.Timeout))
		case waited < spinning:
		case waited < 100*longNap:
			pause(nap)
		default:
			pause(longNap)
		}
	}
}

// wait waits for all that was enqueued, in the device's context.
func (s *stream) wait() {
	if s.err != nil || s.operations == 0 {
		return
	}
	s.record(s.done)
	s.await(s.done)
	if s.err == nil {
		s.operations = 0
		s.at.idle()
		s.up.idle()
		s.tell(s.runs.count)
	}
}

// Sync implements kernels.Stream. A lost device is a fault for ever.
func (s *stream) Sync() error {
	if s.recording {
		panic("BUG: Sync while recording")
	}
	err := s.err
	s.err = nil // what was enqueued before the fault is waited for as well
	s.at.set = false
	if s.enter() {
		defer s.device.leave()
		s.wait()
	}
	if err == nil {
		err = s.err
	}
	s.err = nil
	s.down.deliver(err == nil)
	return err
}
