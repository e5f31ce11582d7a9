package cuda

import (
	"errors"
	"fmt"

	"eckart/kernels"
)

var _ kernels.Recorder = (*stream)(nil)

// program is a graph: launches with the arguments they had when it was recorded.
type program struct {
	stream *stream
	exec   cuGraphExec
	name   string // for messages
}

// Record implements kernels.Recorder, by capture.
func (s *stream) Record(verbs func()) (kernels.Program, error) {
	if s.recording {
		panic("BUG: Record while recording")
	}
	if s.err != nil {
		return nil, fmt.Errorf("record verbs: the stream is at fault: %w", s.err)
	}
	// A capture begins and ends on one thread.
	defer s.device.leave()
	if err := s.device.enter(); err != nil {
		return nil, fmt.Errorf("record verbs: %w", err)
	}
	graph, name, err := s.capture(verbs)
	if err != nil {
		return nil, fmt.Errorf("record verbs: %w", s.device.ended(err))
	}
	p := &program{stream: s, name: name}
	// The graph may go as soon as there is something that runs; and making that may take a while.
	err = s.device.do("record verbs", func() (err error) {
		p.exec, err = s.driver.instantiate(graph)
		return errors.Join(err, s.driver.destroyGraph(graph))
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// capture has the driver take down what verbs enqueue. What was pending before is pending after.
func (s *stream) capture(verbs func()) (g cuGraph, name string, err error) {
	operations, first, last := s.operations, s.first, s.last
	defer func() { s.operations, s.first, s.last, s.recording = operations, first, last, false }()
	if err := s.driver.beginCapture(s.handle); err != nil {
		return 0, "", err
	}
	s.operations, s.recording = 0, true
	ended := false
	defer func() {
		if !ended { // verbs has panicked, and the stream must not stay in capture
			if g, err := s.driver.endCapture(s.handle); err == nil && g != 0 {
				_ = s.driver.destroyGraph(g)
			}
		}
	}()
	verbs()
	ended = true
	name = "program of " + s.pending()
	g, err = s.driver.endCapture(s.handle)
	if fault := s.err; fault != nil { // it tells more than that the capture is not valid
		s.err = nil
		if err == nil && g != 0 {
			_ = s.driver.destroyGraph(g)
		}
		return 0, "", fault
	}
	return g, name, err
}

// Run implements kernels.Program.
func (p *program) Run() {
	s := p.stream
	if p.exec == 0 || s.recording {
		panic("BUG: Run of a closed program, or while recording")
	}
	if !s.enter() {
		return
	}
	defer s.device.leave()
	if !s.enqueue(p.name) {
		return
	}
	if s.timed() {
		s.begin()
	}
	s.call[0], s.call[1] = uintptr(p.exec), uintptr(s.handle)
	if r := s.driver.graphLaunch.call(s.call[:2]...); r != success {
		s.fail(fmt.Errorf("run %s: %w", p.name, s.driver.failure(&s.driver.graphLaunch, r)))
		return
	}
	if s.timed() {
		s.end()
	}
	if s.device.options.Blocking {
		s.wait()
	}
}

// Close implements kernels.Program.
func (p *program) Close() error {
	d := p.stream.device
	exec := p.exec
	p.exec = 0
	if exec == 0 || d.lost.Load() != nil {
		return nil
	}
	return d.do("free program on "+d.label(), func() error { return d.driver.destroyGraphExec(exec) })
}
