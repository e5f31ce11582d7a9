package compress

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"eckart/internal/linalg"
)

// A file of statistics is written from front to back while a survey goes on, so what is where stands at its end:
//
//	sites   for each: the mean, in float64; the lower triangle of the Gram matrix, row by row, in F32
//	index   JSON, a fileIndex
//	trailer the index's offset (8 bytes), its length (4), its checksum (4), and fileMagic (8)
//
// All numbers are little-endian, all checksums CRC-32C. Nothing of a file is believed before its checksum was compared.
const (
	fileMagic     = "eckstats"
	trailerBytes  = 24
	maxIndexBytes = 64 << 20
	// maxSiteColumns bounds what a file can ask to be allocated, beside its own length.
	maxSiteColumns = 1 << 17
	// statisticsVersion changes with the layout, and with whatever makes statistics differ that a Key does not tell.
	statisticsVersion = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fileIndex says what a file holds.
type fileIndex struct {
	Version   int         `json:"version"`
	Digest    string      `json:"digest"`
	Source    string      `json:"source"`
	Tokens    int         `json:"tokens"`
	Influence []float64   `json:"influence"`
	Sites     []indexSite `json:"sites"`
}

// indexSite says where a site's moments are.
type indexSite struct {
	Name   string `json:"name"`
	In     int    `json:"in"`
	Tokens int    `json:"tokens"`
	Chosen int    `json:"chosen"`
	Offset int64  `json:"offset"`
	CRC    uint32 `json:"crc32c"`
}

// bytes returns what a site takes.
func (s *indexSite) bytes() int64 { return 8*int64(s.In) + 4*int64(s.In)*(int64(s.In)+1)/2 }

// A DamagedError is about a file that does not hold the statistics, or the note, that it should. They have to be made anew.
type DamagedError struct {
	Path     string
	What     string
	Obsolete bool // nothing is damaged, but another version of the program wrote it, for a layout or meaning of its own
}

// Error names the file and what is wrong with it.
func (e *DamagedError) Error() string { return fmt.Sprintf("read statistics %s: %s", e.Path, e.What) }

// A Writer writes statistics to a file of a Store. Close it in any case.
type Writer struct {
	store Store
	path  string // where the file goes
	file  *os.File
	to    *bufio.Writer
	at    int64
	index fileIndex
}

func newWriter(s Store, path string, f *os.File, digest, source string) *Writer {
	return &Writer{
		store: s, path: path, file: f, to: bufio.NewWriterSize(f, 1<<20),
		index: fileIndex{Version: statisticsVersion, Digest: digest, Source: source},
	}
}

// Add writes the statistics of the next block.
func (w *Writer) Add(b BlockStatistics) error {
	w.index.Influence = append(w.index.Influence, b.Influence)
	return w.add(b)
}

func (w *Writer) add(b BlockStatistics) error {
	for _, name := range slices.Sorted(maps.Keys(b.Sites)) {
		if err := w.site(name, b.Sites[name]); err != nil {
			return fmt.Errorf("write statistics of %s: %w", name, err)
		}
	}
	return nil
}

func (w *Writer) site(name string, m *Moments) error {
	s := indexSite{Name: name, In: m.Gram.Rows, Tokens: m.Tokens, Chosen: m.Chosen, Offset: w.at}
	sum := crc32.New(castagnoli)
	to := io.MultiWriter(w.to, sum)
	row := make([]byte, 8*s.In)
	for j, v := range m.Mean {
		binary.LittleEndian.PutUint64(row[8*j:], math.Float64bits(v))
	}
	if _, err := to.Write(row); err != nil {
		return err
	}
	for i := range s.In {
		for j, v := range m.Gram.Row(i)[:i+1] {
			binary.LittleEndian.PutUint32(row[4*j:], math.Float32bits(float32(v)))
		}
		if _, err := to.Write(row[:4*(i+1)]); err != nil {
			return err
		}
	}
	s.CRC = sum.Sum32()
	w.at += s.bytes()
	w.index.Sites = append(w.index.Sites, s)
	return nil
}

// Commit makes what was added, the statistics of so many tokens, one of the store's files, and removes others if together
// they take more than the store may.
func (w *Writer) Commit(tokens int) error {
	w.index.Tokens = tokens
	if err := w.commit(); err != nil {
		return fmt.Errorf("write statistics: %w", err)
	}
	return nil
}

func (w *Writer) commit() error {
	index, err := json.Marshal(w.index)
	if err != nil {
		return err
	}
	tail := binary.LittleEndian.AppendUint64(index, uint64(w.at))
	tail = binary.LittleEndian.AppendUint32(tail, uint32(len(index)))
	tail = binary.LittleEndian.AppendUint32(tail, crc32.Checksum(index, castagnoli))
	tail = append(tail, fileMagic...)
	if _, err := w.to.Write(tail); err != nil {
		return err
	}
	if err := w.to.Flush(); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := w.store.makeRoom(w.at+int64(len(tail)), filepath.Base(w.path)); err != nil {
		return err
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return err
	}
	err = w.file.Close()
	w.file = nil
	return err
}

// Close ends writing. What was not committed is gone.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	name := w.file.Name()
	_ = w.file.Close()
	w.file = nil
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("remove unfinished statistics: %w", err)
	}
	return nil
}

// A Reader reads statistics site by site.
type Reader struct {
	path  string
	file  *os.File
	index fileIndex
}

// openStatistics opens a file and holds its index against it.
func openStatistics(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read statistics: %w", err)
	}
	r := &Reader{path: path, file: f}
	if err := r.readIndex(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) damaged(format string, args ...any) error {
	return &DamagedError{Path: r.path, What: fmt.Sprintf(format, args...)}
}

// obsolete returns the error of a file of a version that is not the one wanted.
func obsolete(path string, version, want int) error {
	return &DamagedError{Path: path, What: fmt.Sprintf("it has version %d, want %d", version, want), Obsolete: true}
}

func (r *Reader) readIndex() error {
	info, err := r.file.Stat()
	if err != nil {
		return fmt.Errorf("read statistics: %w", err)
	}
	var trailer [trailerBytes]byte
	end := info.Size() - trailerBytes
	if end < 0 {
		return r.damaged("the file has %d bytes, too few to hold any", info.Size())
	}
	if _, err := r.file.ReadAt(trailer[:], end); err != nil {
		return fmt.Errorf("read statistics: %w", err)
	}
	if string(trailer[16:]) != fileMagic {
		return r.damaged("it does not end as statistics do: it is cut short, or something else")
	}
	at, n := int64(binary.LittleEndian.Uint64(trailer[:])), int64(binary.LittleEndian.Uint32(trailer[8:]))
	if n > maxIndexBytes || at != end-n {
		return r.damaged("its index of %d bytes does not end where the file does", n)
	}
	index := make([]byte, n)
	if _, err := r.file.ReadAt(index, at); err != nil {
		return fmt.Errorf("read statistics: %w", err)
	}
	if crc32.Checksum(index, castagnoli) != binary.LittleEndian.Uint32(trailer[12:]) {
		return r.damaged("its index is damaged")
	}
	if err := json.Unmarshal(index, &r.index); err != nil {
		return r.damaged("its index is not one: %v", err)
	}
	if v := r.index.Version; v != statisticsVersion {
		return obsolete(r.path, v, statisticsVersion)
	}
	// Sites lie one behind another, so that no two of them can ask for the same bytes.
	next := int64(0)
	for i := range r.index.Sites {
		s := &r.index.Sites[i]
		if s.In < 1 || s.In > maxSiteColumns || s.Tokens < 1 || s.Offset != next {
			return r.damaged("site %s has %d columns, %d tokens, and begins at byte %d, want %d", s.Name, s.In, s.Tokens, s.Offset, next)
		}
		next += s.bytes()
		if next > at {
			break
		}
	}
	if next != at {
		return r.damaged("its sites take %d bytes and more, and there are %d", next, at)
	}
	return nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// Sites returns the names of the sites, as they were written.
func (r *Reader) Sites() []string {
	var names []string
	for _, s := range r.index.Sites {
		names = append(names, s.Name)
	}
	return names
}

// Statistics returns all but the moments: Sites is empty.
func (r *Reader) Statistics() *Statistics {
	return &Statistics{
		Tokens: r.index.Tokens, Sites: map[string]*Moments{}, Influence: slices.Clone(r.index.Influence),
		Source: r.index.Source, Digest: r.index.Digest,
	}
}

// Moments reads those of one site.
func (r *Reader) Moments(site string) (*Moments, error) {
	at := slices.IndexFunc(r.index.Sites, func(s indexSite) bool { return s.Name == site })
	if at < 0 {
		return nil, r.damaged("it has no site %s", site)
	}
	s := &r.index.Sites[at]
	raw := io.NewSectionReader(r.file, s.Offset, s.bytes())
	sum := crc32.New(castagnoli)
	m := &Moments{Tokens: s.Tokens, Chosen: s.Chosen, Gram: linalg.New(s.In, s.In), Mean: make([]float64, s.In)}
	buffer := make([]byte, max(8*s.In, 1<<20))
	next := func(n int) error {
		if _, err := io.ReadFull(raw, buffer[:n]); err != nil {
			return fmt.Errorf("read statistics %s: %w", r.path, err)
		}
		sum.Write(buffer[:n])
		return nil
	}
	if err := next(8 * s.In); err != nil {
		return nil, err
	}
	for j := range m.Mean {
		m.Mean[j] = math.Float64frombits(binary.LittleEndian.Uint64(buffer[8*j:]))
	}
	for i := 0; i < s.In; {
		// Rows of the triangle, as many as next has room for, one behind the other.
		rows, elements := 1, i+1
		for ; i+rows < s.In && 4*(elements+i+rows+1) <= len(buffer); rows++ {
			elements += i + rows + 1
		}
		if err := next(4 * elements); err != nil {
			return nil, err
		}
		linalg.EachRow(rows, i+rows, func(r int) {
			from := buffer[4*(r*(i+1)+r*(r-1)/2):]
			for j := range i + r + 1 {
				m.Gram.Data[(i+r)*s.In+j] = float64(math.Float32frombits(binary.LittleEndian.Uint32(from[4*j:])))
			}
		})
		i += rows
	}
	linalg.Mirror(m.Gram)
	if sum.Sum32() != s.CRC {
		return nil, r.damaged("the numbers of site %s are damaged", site)
	}
	return m, nil
}
