package compress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The kinds of notes that a Store holds beside statistics.
const (
	KindText          = "text"          // windows that a model wrote
	KindSensitivities = "sensitivities" // what Sensitivities returned
	KindPredictions   = "predictions"   // what a Planner predicted
	KindCosts         = "costs"         // what MeasureCosts returned
)

// kinds are the kinds of files of a Store.
var kinds = []string{KindStatistics, KindText, KindSensitivities, KindPredictions, KindCosts}

// maxNote bounds what is read of a note: a text of a million tokens takes some megabytes.
const maxNote = 256 << 20

// noteVersion changes with the first line of notes, and with whatever makes their content differ that a Key does not tell:
// how texts are written, what is predicted for a choice, how sensitivities and costs are measured.
const noteVersion = 2

// A note is a line that says what it is, and JSON. The line holds the checksum (CRC-32C) of the JSON; nothing of it is
// believed before that was compared.
func noteHead(kind, digest string, content []byte) []byte {
	return fmt.Appendf(nil, "eckart note %d %s %s %08x\n", noteVersion, kind, digest, crc32.Checksum(content, castagnoli))
}

// Keep writes v, as JSON, under a digest, which Key returned. It removes other files if all together take more than the
// store may.
func (s Store) Keep(kind, digest string, v any) error {
	fail := func(err error) error { return fmt.Errorf("keep %s: %w", kind, err) }
	path, err := s.path(kind, digest)
	if err != nil {
		return err
	}
	content, err := json.Marshal(v)
	if err != nil {
		return fail(err)
	}
	note := append(noteHead(kind, digest, content), content...)
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fail(err)
	}
	f, err := os.CreateTemp(s.Dir, filepath.Base(path)+temporary)
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(note)
	if err := errors.Join(err, f.Close()); err != nil {
		return fail(errors.Join(err, os.Remove(f.Name())))
	}
	if err = s.makeRoom(int64(len(note)), filepath.Base(path)); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// Recall reads into v, a pointer, what Keep wrote. It reports whether there is anything: a note that is damaged, or of
// another version, is none, for what was found out once can be found out again.
func (s Store) Recall(kind, digest string, v any) (bool, error) {
	path, err := s.path(kind, digest)
	if err != nil {
		return false, err
	}
	content, err := readNote(path, kind, digest)
	var damaged *DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged):
		return false, nil
	case err != nil:
		return false, err
	}
	if err := json.Unmarshal(content, v); err != nil {
		return false, nil // its content has another layout
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // a folder that cannot be written to still serves
	return true, nil
}

// readNote returns the JSON of a note.
func readNote(path, kind, digest string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("recall %s: %w", kind, err)
	}
	if info.Size() > maxNote {
		return nil, &DamagedError{Path: path, What: fmt.Sprintf("the file has %d bytes, more than any note", info.Size())}
	}
	note, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("recall %s: %w", kind, err)
	}
	head, content, _ := bytes.Cut(note, []byte("\n"))
	var version int
	if n, _ := fmt.Sscanf(string(head), "eckart note %d ", &version); n == 1 && version != noteVersion {
		return nil, obsolete(path, version, noteVersion)
	}
	if !bytes.HasPrefix(note, noteHead(kind, digest, content)) {
		return nil, &DamagedError{Path: path, What: "its first line is not that of such a note, or its content is damaged"}
	}
	return content, nil
}
