package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"eckart/kernels/cuda"
)

// A Result is what a part has found, as it is kept in the folder of the results under the part's name.
type Result struct {
	Part    string    `json:"part"`
	Done    bool      `json:"done"`             // to its end, and all as it must be
	Failed  string    `json:"failed,omitempty"` // why it did not come to its end
	Skipped string    `json:"skipped,omitempty"`
	Shim    bool      `json:"shim,omitempty"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Machine Machine   `json:"machine"`
	Figures []Figure  `json:"figures,omitempty"`
	Notes   []string  `json:"notes,omitempty"` // for the reader of the report
	Log     []string  `json:"log,omitempty"`   // for whom the report is not enough
}

// A Machine is what figures are of.
type Machine struct {
	GPU    string `json:"gpu"` // with the driver's version
	Memory int64  `json:"memory"`
	Cache  int    `json:"cache"` // bytes, the second level
	SMs    int    `json:"sms"`
	Host   string `json:"host"`
	Commit string `json:"commit"`
}

// A Figure is a number in a table of the report: group, row and column say where.
type Figure struct {
	Group   string  `json:"group"`
	Row     string  `json:"row"`
	Column  string  `json:"column"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Seconds float64 `json:"seconds,omitempty"` // of a call or a step: the median
	Spread  float64 `json:"spread,omitempty"`  // of its samples: from the least to the most, over the median
	Share   float64 `json:"share,omitempty"`   // of the ceiling that the group names
	Wrong   string  `json:"wrong,omitempty"`   // what is not as it must be
	Quiet   bool    `json:"quiet,omitempty"`   // not in the report, unless it is wrong
}

// Wrong returns what is not as it must be.
func (r *Result) Wrong() []string {
	var all []string
	for _, f := range r.Figures {
		if f.Wrong != "" {
			all = append(all, fmt.Sprintf("%s, %s, %s: %s", f.Group, f.Row, f.Column, f.Wrong))
		}
	}
	return all
}

// state says in a line how the part ended.
func (r *Result) state() string {
	took := time.Duration(r.Seconds * float64(time.Second)).Round(time.Second / 10)
	switch wrong := r.Wrong(); {
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case r.Failed != "":
		return fmt.Sprintf("FAILED after %v with %d figures: %s", took, len(r.Figures), brief(r.Failed, 200))
	case len(wrong) > 0:
		return fmt.Sprintf("WRONG, %d of %d figures, in %v: %s", len(wrong), len(r.Figures), took, brief(wrong[0], 200))
	case !r.Done:
		return "not done"
	}
	return fmt.Sprintf("passed, %d figures in %v", len(r.Figures), took)
}

// brief returns at most n bytes of text.
func brief(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n] + " ..."
}

func resultFile(out, part string) string { return filepath.Join(out, part+".json") }

// load returns the result of a part that lies in a folder.
func load(out, part string) (*Result, error) {
	text, err := os.ReadFile(resultFile(out, part))
	if err != nil {
		return nil, err
	}
	r := &Result{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", resultFile(out, part), err)
	}
	return r, nil
}

// save writes the result into a folder.
func (r *Result) save(out string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return write(resultFile(out, r.Part), text)
}

// write replaces a file as a whole, so that whoever is ended meanwhile leaves the old one.
func write(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// machineOf describes a GPU and the host.
func machineOf(info cuda.Info) Machine {
	return Machine{
		GPU: info.String(), Memory: info.Memory, Cache: info.Cache, SMs: info.Multiprocessors,
		Host: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), Commit: commit(),
	}
}

// revision is what the program was built from, where the linker was told (make gpu-bundle).
var revision string

// commit returns the revision that the program was built from.
func commit() string {
	if revision != "" {
		return revision
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	from, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			from = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	return from + changed
}
