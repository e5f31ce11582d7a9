package compress

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Key returns the name under which statistics are kept: a digest of what they follow from, which is the model (as
// checkpoint.Checkpoint.Digest names it), the windows of tokens, and settings that are not the usual ones, such as those of
// a Sampling.
func Key(model string, windows [][]int32, settings ...any) string {
	h := sha256.New()
	fmt.Fprintf(h, "eckart statistics %d\n%s\n%+v\n", statisticsVersion, model, settings)
	for _, ids := range windows {
		_ = binary.Write(h, binary.LittleEndian, int64(len(ids))) // a hash takes everything
		_ = binary.Write(h, binary.LittleEndian, ids)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// DefaultLimit is what a Store holds where the user says nothing, in bytes: statistics of a few models of 8 billion
// parameters.
const DefaultLimit = 10 << 30

// A Store keeps what compressing models has found out in a folder: statistics and notes, a file for each, named by their
// digest. Files appear whole, by renaming, so that several processes may use one folder.
type Store struct {
	Dir   string
	Limit int64 // bytes; the files that were not used for longest make room for new ones
}

// An Entry is a file of a Store.
type Entry struct {
	Kind   string // KindStatistics, or that of a note
	Digest string
	Bytes  int64
	Used   time.Time // when it was written, or read last
	// Of statistics; zero in a note, and where there is Damage.
	Source string
	Tokens int
	Sites  int
	// Damage says why the file cannot be used; nil if it can. A *DamagedError says whether it is only of another version.
	Damage error
}

// KindStatistics is the kind of files that hold statistics. Others are notes: see Store.Keep.
const KindStatistics = "statistics"

const (
	temporary = ".tmp-" // in the name of a file that is being written
	// abandoned is the age at which a file that was being written has been forgotten by a process that has ended.
	abandoned = 24 * time.Hour
)

// path returns the name of the file of a kind with a digest, which Key returned.
func (s Store) path(kind, digest string) (string, error) {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("find %s: %q is not a digest", kind, digest)
	}
	return filepath.Join(s.Dir, digest+"."+kind), nil
}

// Load reads statistics. Where there are none the error wraps fs.ErrNotExist; a file that is not what Save writes, or
// whose content has changed, gives a *DamagedError.
func (s Store) Load(digest string) (*Statistics, error) {
	r, err := s.Open(digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	st := r.Statistics()
	for _, site := range r.index.Sites {
		if st.Sites[site.Name], err = r.Moments(site.Name); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// Open opens statistics, to read sites one by one. Errors are those of Load.
func (s Store) Open(digest string) (*Reader, error) {
	path, err := s.path(KindStatistics, digest)
	if err != nil {
		return nil, err
	}
	r, err := openStatistics(path)
	if err != nil {
		return nil, err
	}
	if r.index.Digest != digest {
		_ = r.Close()
		return nil, &DamagedError{Path: path, What: fmt.Sprintf("it holds the statistics of digest %.12s", r.index.Digest)}
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // a folder that cannot be written to still serves
	return r, nil
}

// Save writes statistics under their digest.
func (s Store) Save(st *Statistics) error {
	w, err := s.Create(st.Digest, st.Source)
	if err != nil {
		return err
	}
	err = w.add(BlockStatistics{Sites: st.Sites})
	if err == nil {
		w.index.Influence = st.Influence
		err = w.Commit(st.Tokens)
	}
	return errors.Join(err, w.Close())
}

// Create begins to write statistics, block by block. Nothing is to be seen of them before Commit.
func (s Store) Create(digest, source string) (*Writer, error) {
	path, err := s.path(KindStatistics, digest)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("write statistics: %w", err)
	}
	f, err := os.CreateTemp(s.Dir, filepath.Base(path)+temporary)
	if err != nil {
		return nil, fmt.Errorf("write statistics: %w", err)
	}
	return newWriter(s, path, f, digest, source), nil
}

// List returns what the store holds, the file used last first.
func (s Store) List() ([]Entry, error) {
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, f := range files {
		digest, kind, _ := strings.Cut(f.name, ".")
		e := Entry{Kind: kind, Digest: digest, Bytes: f.bytes, Used: f.used}
		path := filepath.Join(s.Dir, f.name)
		switch {
		case strings.Contains(kind, temporary):
			continue // being written
		case kind != KindStatistics:
			_, e.Damage = readNote(path, kind, digest)
		default:
			r, err := openStatistics(path)
			if e.Damage = err; err == nil {
				e.Source, e.Tokens, e.Sites = r.index.Source, r.index.Tokens, len(r.index.Sites)
				_ = r.Close()
			}
		}
		all = append(all, e)
	}
	slices.Reverse(all)
	return all, nil
}

// Clear removes everything and returns how many files that were and their bytes.
func (s Store) Clear() (n int, bytes int64, err error) {
	files, err := s.files()
	for _, f := range files {
		if e := os.Remove(filepath.Join(s.Dir, f.name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
			continue
		}
		n, bytes = n+1, bytes+f.bytes
	}
	if err != nil {
		err = fmt.Errorf("clear the cache: %w", err)
	}
	return n, bytes, err
}

// storedFile is a file of a store.
type storedFile struct {
	name  string
	bytes int64
	used  time.Time
}

// files returns the store's own files, the one not used for longest first. A folder that does not exist is empty.
func (s Store) files() ([]storedFile, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the cache: %w", err)
	}
	var all []storedFile
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name(), temporary)
		info, err := e.Info()
		digest, kind, ok := strings.Cut(base, ".")
		if _, bad := s.path(kind, digest); bad != nil || !ok || !slices.Contains(kinds, kind) || err != nil || !info.Mode().IsRegular() {
			continue // not ours, or gone meanwhile
		}
		all = append(all, storedFile{e.Name(), info.Size(), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b storedFile) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.name, b.name))
	})
	return all, nil
}

// makeRoom removes files, the one not used for longest first, until so many bytes fit beside the rest. The file called
// replaced is about to be replaced and takes none.
func (s Store) makeRoom(bytes int64, replaced string) error {
	if bytes > s.Limit {
		return fmt.Errorf("a file takes %d bytes, more than the %d that all may take", bytes, s.Limit)
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	total := bytes
	var kept []storedFile
	for _, f := range files {
		switch _, _, unfinished := strings.Cut(f.name, temporary); {
		case unfinished && time.Since(f.used) > abandoned:
			_ = os.Remove(filepath.Join(s.Dir, f.name))
		case !unfinished && f.name != replaced:
			kept = append(kept, f)
			total += f.bytes
		}
	}
	for _, f := range kept {
		if total <= s.Limit {
			break
		}
		if err := os.Remove(filepath.Join(s.Dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make room in the cache: %w", err)
		}
		total -= f.bytes
	}
	return nil
}
