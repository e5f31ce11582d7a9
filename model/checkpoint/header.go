package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/nlpodyssey/safetensors"
)

// Limits on what a header may ask for. Both are above what published shards
// have: 384 experts in 60 layers, each of three quantized matrices in three
// parts, make 207,000 tensors, but in 62 shards, with headers of half a megabyte.
// The format itself allows 100 MB, which would hold millions of tensors of one
// byte and keep a reader busy for a quarter of a minute.
const (
	maxHeaderBytes = 16 << 20
	maxTensors     = 200_000
	// maxRank is the largest number of dimensions of a tensor. Weights have
	// at most five; 32 is what array libraries allow.
	maxRank = 32
)

// lengthBytes is the size of the little-endian length that precedes a header.
const lengthBytes = 8

// metadataKey is the one key of a header that names no tensor.
const metadataKey = "__metadata__"

// readHeader reads and checks the header of a shard of fileBytes bytes. It
// returns the tensors in the order of their bytes, with offsets counted from
// the start of the file, and the metadata. Nothing is allocated before the
// length has been checked against the limit and the file.
func readHeader(r io.ReaderAt, fileBytes int64) ([]*Tensor, map[string]string, error) {
	if fileBytes < lengthBytes {
		return nil, nil, fmt.Errorf("want at least %d bytes, the file has %d", lengthBytes, fileBytes)
	}
	var length [lengthBytes]byte
	if err := readFull(r, length[:], 0); err != nil {
		return nil, nil, fmt.Errorf("read the header's length: %w", err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch rest := uint64(fileBytes - lengthBytes); {
	case n > maxHeaderBytes || n > rest:
		if kind := disguise(r, fileBytes); kind != "" {
			return nil, nil, fmt.Errorf("want a safetensors file, have %s", kind)
		}
		if n > maxHeaderBytes {
			return nil, nil, fmt.Errorf("header says it has %d bytes, want at most %d", n, maxHeaderBytes)
		}
		return nil, nil, fmt.Errorf("header says it has %d bytes, the file has %d after the length", n, rest)
	case n < uint64(len("{}")):
		return nil, nil, fmt.Errorf("header says it has %d bytes, want at least 2", n)
	}
	header := make([]byte, n)
	if err := readFull(r, header, lengthBytes); err != nil {
		return nil, nil, fmt.Errorf("read the header: %w", err)
	}
	tensors, metadata, err := parseHeader(header)
	if err != nil {
		return nil, nil, fmt.Errorf("parse the header: %w", err)
	}
	start := lengthBytes + int64(n)
	if err := checkLayout(tensors, fileBytes-start); err != nil {
		return nil, nil, err
	}
	if err := checkAgainstLibrary(header, tensors, metadata); err != nil {
		return nil, nil, err
	}
	for _, t := range tensors {
		t.offset += start
	}
	return tensors, metadata, nil
}

// readFull fills p from offset on; a reader that ends early is an error.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseHeader reads the JSON of a header. Offsets in the tensors it returns are
// as written, counted from the end of the header.
func parseHeader(header []byte) ([]*Tensor, map[string]string, error) {
	if !utf8.Valid(header) {
		return nil, nil, errors.New("want UTF-8")
	}
	if header[0] != '{' {
		return nil, nil, fmt.Errorf("want { as the first byte, have %q", header[0])
	}
	var (
		s        = scanner{src: header}
		tensors  []*Tensor
		metadata map[string]string
		seen     = make(map[string]bool)
	)
	err := s.object(func(key []byte) error {
		name := string(key)
		if seen[name] {
			return fmt.Errorf("%s occurs twice", quote(name))
		}
		seen[name] = true
		if name == metadataKey {
			var err error
			if metadata, err = parseMetadata(&s); err != nil {
				return fmt.Errorf("%s: %w", metadataKey, err)
			}
			return nil
		}
		if len(tensors) == maxTensors {
			return fmt.Errorf("more than %d tensors", maxTensors)
		}
		t, err := parseTensor(&s)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", quote(name), err)
		}
		t.Name = name
		tensors = append(tensors, t)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if rest := bytes.TrimLeft(header[s.pos:], " "); len(rest) > 0 {
		return nil, nil, fmt.Errorf("want only spaces after the closing brace, have %q", rest[0])
	}
	return tensors, metadata, nil
}

// parseMetadata reads a map of strings to strings. Null stands for none, as the
// format's reference reader has it.
func parseMetadata(s *scanner) (map[string]string, error) {
	if s.null() {
		return nil, nil
	}
	metadata := make(map[string]string)
	err := s.object(func(key []byte) error {
		name := string(key)
		if _, ok := metadata[name]; ok {
			return fmt.Errorf("%s occurs twice", quote(name))
		}
		value, err := s.text()
		if err != nil {
			return fmt.Errorf("%s: %w", quote(name), err)
		}
		metadata[name] = string(value)
		return nil
	})
	return metadata, err
}

// parseTensor reads the three fields of a tensor and checks them against each
// other.
func parseTensor(s *scanner) (*Tensor, error) {
	var (
		t                     = new(Tensor)
		offsets               [2]int64
		hasType, hasShape, ok bool
	)
	err := s.object(func(key []byte) error {
		switch string(key) {
		case "dtype":
			if hasType {
				return errors.New("dtype occurs twice")
			}
			hasType = true
			name, err := s.text()
			if err != nil {
				return fmt.Errorf("dtype: %w", err)
			}
			if t.Type = DType(name); t.Type.BitSize() == 0 {
				return fmt.Errorf("dtype %s is unknown", quote(string(name)))
			}
			return nil
		case "shape":
			if hasShape {
				return errors.New("shape occurs twice")
			}
			hasShape = true
			var err error
			if t.Shape, err = parseShape(s); err != nil {
				return fmt.Errorf("shape: %w", err)
			}
			return nil
		case "data_offsets":
			if ok {
				return errors.New("data_offsets occurs twice")
			}
			ok = true
			var err error
			if offsets, err = parseOffsets(s); err != nil {
				return fmt.Errorf("data_offsets: %w", err)
			}
			return nil
		}
		return fmt.Errorf("field %s is unknown, want dtype, shape and data_offsets", quote(string(key)))
	})
	switch {
	case err != nil:
		return nil, err
	case !hasType:
		return nil, errors.New("dtype is missing")
	case !hasShape:
		return nil, errors.New("shape is missing")
	case !ok:
		return nil, errors.New("data_offsets is missing")
	}
	want, err := byteCount(t.Type, t.Shape)
	if err != nil {
		return nil, err
	}
	t.offset, t.bytes = offsets[0], offsets[1]-offsets[0]
	if t.bytes != want {
		return nil, fmt.Errorf("data_offsets span %d bytes, dtype %s and shape %v need %d", t.bytes, t.Type, t.Shape, want)
	}
	return t, nil
}

// parseShape reads the dimensions. The result is never nil, so that a scalar is
// told from a shape that is missing.
func parseShape(s *scanner) ([]int, error) {
	shape := []int{}
	err := s.array(func() error {
		if len(shape) == maxRank {
			return fmt.Errorf("more than %d dimensions", maxRank)
		}
		n, err := s.natural()
		if err != nil {
			return err
		}
		if n > math.MaxInt {
			return fmt.Errorf("dimension %d exceeds %d", n, math.MaxInt)
		}
		shape = append(shape, int(n))
		return nil
	})
	return shape, err
}

// parseOffsets reads where a tensor begins and ends, counted from the end of the
// header. Whether that lies in the file is for checkLayout to say.
func parseOffsets(s *scanner) (offsets [2]int64, err error) {
	count := 0
	err = s.array(func() error {
		n, err := s.natural()
		if err != nil {
			return err
		}
		if count < len(offsets) {
			offsets[count] = n
		}
		count++
		return nil
	})
	switch {
	case err != nil:
	case count != len(offsets):
		err = fmt.Errorf("want begin and end, have %d numbers", count)
	case offsets[0] > offsets[1]:
		err = fmt.Errorf("begin %d is after end %d", offsets[0], offsets[1])
	}
	return offsets, err
}

// byteCount returns the bytes of a tensor, or an error where a product overflows
// or elements of less than a byte do not fill the last one. A zero among the
// dimensions makes the count zero but excuses no overflow of the others, so that
// whoever multiplies them in another order is safe too.
func byteCount(t DType, shape []int) (int64, error) {
	elements, empty := uint64(1), false
	for _, n := range shape {
		if n < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if n == 0 {
			empty = true
			continue
		}
		hi, lo := bits.Mul64(elements, uint64(n))
		if hi != 0 || lo > math.MaxInt {
			return 0, fmt.Errorf("shape %v has a product that overflows", shape)
		}
		elements = lo
	}
	hi, lo := bits.Mul64(elements, uint64(t.BitSize()))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, fmt.Errorf("shape %v of %s has more bytes than can be counted", shape, t)
	}
	switch {
	case empty:
		return 0, nil
	case lo%8 != 0:
		return 0, fmt.Errorf("shape %v of %s ends within a byte", shape, t)
	}
	return int64(lo / 8), nil
}

// checkLayout puts tensors in the order of their bytes and checks that they
// cover dataBytes exactly.
func checkLayout(tensors []*Tensor, dataBytes int64) error {
	slices.SortFunc(tensors, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.Name, b.Name))
	})
	end := int64(0)
	for i, t := range tensors {
		switch {
		case t.offset < end:
			return fmt.Errorf("tensors %s and %s overlap by %d bytes", quote(tensors[i-1].Name), quote(t.Name), end-t.offset)
		case t.offset > end:
			return fmt.Errorf("hole of %d bytes before tensor %s", t.offset-end, quote(t.Name))
		}
		// The sum cannot overflow: it was written as one number. Since every
		// tensor begins where the last one ended, end only grows.
		end = t.offset + t.bytes
	}
	switch {
	case end > dataBytes:
		return fmt.Errorf("the file is cut: its tensors need %d bytes after the header, it has %d", end, dataBytes)
	case end < dataBytes:
		return fmt.Errorf("the file is too long: its tensors need %d bytes after the header, it has %d", end, dataBytes)
	}
	return nil
}

// checkAgainstLibrary has the safetensors library read a header that our own
// check has passed, and compares. A file that two readers see differently is one
// to refuse. The library knows 13 types; a header with others has our check
// alone. It runs last since it takes time and memory in proportion to any
// number of tensors, and does not notice names that occur twice.
func checkAgainstLibrary(header []byte, tensors []*Tensor, metadata map[string]string) error {
	for _, t := range tensors {
		if !t.Type.classic() {
			return nil
		}
	}
	// ReadMetadata wants the whole file in memory; the header alone will do.
	var other safetensors.Metadata
	if err := other.UnmarshalJSON(header); err != nil {
		return fmt.Errorf("read the header a second time: %w", err)
	}
	infos := other.Tensors()
	if len(infos) != len(tensors) {
		return fmt.Errorf("read the header a second time: %d tensors, then %d", len(tensors), len(infos))
	}
	for _, t := range tensors {
		info := infos[t.Name]
		if info == nil || info.DType.String() != string(t.Type) ||
			info.DataOffsets != [2]uint64{uint64(t.offset), uint64(t.offset + t.bytes)} ||
			!slices.EqualFunc(info.Shape, t.Shape, func(a uint64, b int) bool { return a == uint64(b) }) {
			return fmt.Errorf("read the header a second time: tensor %s differs", quote(t.Name))
		}
	}
	strings := other.Metadata()
	if len(strings) != len(metadata) {
		return fmt.Errorf("read the header a second time: metadata differs")
	}
	for key, value := range metadata {
		if strings[key] != value {
			return fmt.Errorf("read the header a second time: metadata %s differs", quote(key))
		}
	}
	return nil
}

// disguise names the kind of file that r holds where it is one that people
// mistake for safetensors, and is empty otherwise. It is asked only about files
// whose first eight bytes are no possible length: "PK" or a pickle's 0x80 could
// begin a legal one.
func disguise(r io.ReaderAt, fileBytes int64) string {
	head := make([]byte, min(fileBytes, 64))
	if readFull(r, head, 0) != nil {
		return ""
	}
	kinds := []struct{ magic, kind string }{
		{"GGUF", "a GGUF file: name the original Hugging Face checkpoint instead"},
		{"PK\x03\x04", "a zip archive, as torch.save writes a pickle: " + convertHint},
		{"\x80\x02", "a pickle: " + convertHint},
		{"\x80\x03", "a pickle: " + convertHint},
		{"\x80\x04", "a pickle: " + convertHint},
		{"\x80\x05", "a pickle: " + convertHint},
		{"\x1f\x8b", "a gzip archive: unpack it first"},
		{"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"},
		{"\x89HDF", "an HDF5 file: " + convertHint},
		{"version https://git-lfs", "a git-lfs pointer: run git lfs pull to fetch the file itself"},
		{"<!DOCTYPE", "a web page: download the file again"},
		{"<html", "a web page: download the file again"},
	}
	for _, k := range kinds {
		if bytes.HasPrefix(head, []byte(k.magic)) {
			return k.kind
		}
	}
	return ""
}
