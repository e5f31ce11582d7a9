package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Spawned is a server that was started for the measurement.
type Spawned struct {
	URL    string
	cmd    *exec.Cmd
	exited chan error
}

// stopTimeout is how long a server may take to end.
const stopTimeout = 40 * time.Second

// Spawn starts a program, with arguments that make it serve on a free port of loopback, and returns once it says where
// it listens. Stop ends it.
func Spawn(ctx context.Context, program string, args ...string) (*Spawned, error) {
	s := &Spawned{cmd: exec.Command(program, args...), exited: make(chan error, 1)}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	// What it says before it listens is of interest only if it does not.
	found := make(chan string, 1)
	go func() {
		var said string
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if url, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
				found <- url
				break
			}
			said = lines.Text()
		}
		io.Copy(io.Discard, stderr)
		err := s.cmd.Wait()
		if err == nil {
			err = errors.New("it has ended")
		}
		s.exited <- fmt.Errorf("%s (%w)", said, err)
	}()
	select {
	case s.URL = <-found:
		return s, nil
	case err := <-s.exited:
		return nil, fmt.Errorf("start a server: %w", err)
	case <-ctx.Done():
		return nil, errors.Join(errors.New("interrupted while the server starts"), s.Stop())
	}
}

// Stop ends the server, which may take a moment for requests under way, and then by force.
func (s *Spawned) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.cmd.Process.Kill() // a system without signals
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(stopTimeout):
		s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("stop the server: it did not end within %v and was killed", stopTimeout)
	}
}
