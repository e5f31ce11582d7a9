package cuda

import "eckart/kernels"

var _ kernels.Marker = (*stream)(nil)

// mark is a place in a stream.
type mark struct {
	passed     cuEvent
	set        bool
	operations int    // enqueued before it since the device was last known to be idle
	downloads  int    // of those, that wait to be delivered
	runs       int    // of programs, that are to be told
	next       string // the first operation after it
}

// idle says that the device has done all that was enqueued: the mark is passed.
func (m *mark) idle() { m.operations, m.runs, m.next = 0, 0, "" }

// Mark implements kernels.Marker.
func (s *stream) Mark() {
	if s.at.set || s.recording {
		panic("BUG: Mark of a stream that has one, or while recording")
	}
	s.at.set, s.at.operations, s.at.downloads, s.at.runs, s.at.next = true, s.operations, s.down.count, s.runs.count, ""
	if !s.enter() {
		return
	}
	defer s.device.leave()
	s.record(s.at.passed)
}

// Await implements kernels.Marker.
func (s *stream) Await() error {
	if !s.at.set {
		panic("BUG: Await without a mark")
	}
	s.at.set = false
	if !s.enter() {
		return s.err
	}
	defer s.device.leave()
	s.await(s.at.passed)
	if s.err != nil {
		return s.err
	}
	s.operations -= s.at.operations
	s.first = s.at.next
	s.down.deliverFirst(s.at.downloads)
	s.tell(s.at.runs)
	return s.err
}
