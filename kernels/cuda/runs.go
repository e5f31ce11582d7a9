package cuda

import "fmt"

// runs are those of programs whose times Options.Programs is to be told: at most two, as many as are under way when a step
// is started before the one before it is finished.
type runs struct {
	clocks [4]cuEvent // beginning and end of one, and of the other
	turn   int        // of the next run: 0 or 1
	count  int        // runs that were not told, which ended with the last one
}

// timed reports whether Options.Programs is to be told how long programs run.
func (s *stream) timed() bool { return s.device.options.Programs != nil }

// begin has the clock of a run begin.
func (s *stream) begin() {
	r := &s.runs
	if r.count == 2 { // the older of them is never told
		r.count--
		s.at.runs = max(0, s.at.runs-1)
	}
	s.record(r.clocks[2*r.turn])
}

// end has the clock of the run that begin was called for end.
func (s *stream) end() {
	r := &s.runs
	s.record(r.clocks[2*r.turn+1])
	r.turn = 1 - r.turn
	r.count++
}

// tell tells Options.Programs of the first n runs, which are over.
func (s *stream) tell(n int) {
	for r := &s.runs; n > 0; n-- {
		i := 2 * ((r.turn + r.count) % 2)
		r.count--
		took, err := s.driver.elapsed(r.clocks[i], r.clocks[i+1])
		if err != nil {
			s.fail(fmt.Errorf("read the time of a program: %w", err))
			return
		}
		s.device.options.Programs(took)
	}
}
