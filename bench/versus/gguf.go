package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// ggufModel is what a GGUF file says of how much of it generating a token reads.
type ggufModel struct {
	tensors int64 // bytes of all tensors, padding included
	read    int64 // of those, read for every token
}

// A ggufReader reads the header of a GGUF file, version 2 or 3
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Its errors are sticky.
type ggufReader struct {
	r   *bufio.Reader
	at  int64
	err error
}

func (g *ggufReader) bytes(n uint64) []byte {
	if n > 1<<26 {
		g.fail(fmt.Errorf("a string of %d bytes", n))
	}
	if g.err != nil {
		return nil
	}
	b := make([]byte, n)
	_, err := io.ReadFull(g.r, b)
	g.at += int64(n)
	g.fail(err)
	return b
}

func (g *ggufReader) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

// u32 and u64 return 0 after an error.
func (g *ggufReader) u32() uint32 {
	if b := g.bytes(4); g.err == nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (g *ggufReader) u64() uint64 {
	if b := g.bytes(8); g.err == nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (g *ggufReader) text() string { return string(g.bytes(g.u64())) }

// Types of metadata values that have no fixed size.
const (
	ggufString = 8
	ggufArray  = 9
)

// valueBytes are the sizes of the other types.
var valueBytes = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// value skips a metadata value of a type and returns the number that it is, if it is an unsigned one of 32 bits.
func (g *ggufReader) value(kind uint32) (number uint32) {
	n, fixed := valueBytes[kind]
	switch {
	case kind == ggufString:
		g.text()
	case kind == ggufArray:
		kind, count := g.u32(), g.u64()
		if kind == ggufArray {
			g.fail(errors.New("an array of arrays"))
		}
		for ; count > 0 && g.err == nil; count-- {
			g.value(kind)
		}
	case kind == 4:
		return g.u32()
	case fixed:
		g.bytes(n)
	default:
		g.fail(fmt.Errorf("metadata of type %d", kind))
	}
	return 0
}

// readGGUF reads the header of a GGUF file. The size of a tensor is the distance to the next one, which spares a table
// of all their types. A token reads everything but the embedding table, unless that is the output matrix as well.
func readGGUF(name string) (ggufModel, error) {
	f, err := os.Open(name)
	if err != nil {
		return ggufModel{}, fmt.Errorf("read -gguf: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ggufModel{}, fmt.Errorf("read -gguf: %w", err)
	}
	m, err := parseGGUF(f, info.Size())
	if err != nil {
		return m, fmt.Errorf("read -gguf %s: %w", name, err)
	}
	return m, nil
}

func parseGGUF(r io.Reader, size int64) (ggufModel, error) {
	g := &ggufReader{r: bufio.NewReader(r)}
	if magic := g.bytes(4); g.err == nil && string(magic) != "GGUF" {
		return ggufModel{}, errors.New("it does not begin with GGUF")
	}
	if version := g.u32(); g.err == nil && version != 2 && version != 3 {
		return ggufModel{}, fmt.Errorf("version %d, want 2 or 3", version)
	}
	tensors, pairs := g.u64(), g.u64()
	align := int64(32)
	for ; pairs > 0 && g.err == nil; pairs-- {
		key := g.text()
		if n := g.value(g.u32()); key == "general.alignment" && n > 0 {
			align = int64(n)
		}
	}
	offsets := map[string]int64{}
	for ; tensors > 0 && g.err == nil; tensors-- {
		name := g.text()
		for dims := g.u32(); dims > 0 && g.err == nil; dims-- {
			g.u64()
		}
		g.u32() // the type
		offsets[name] = int64(g.u64())
	}
	if g.err != nil {
		return ggufModel{}, g.err
	}
	m := ggufModel{tensors: size - (g.at+align-1)/align*align}
	m.read = m.tensors
	table, ok := offsets["token_embd.weight"]
	if _, apart := offsets["output.weight"]; ok && apart {
		next := m.tensors
		var all []int64
		for _, at := range offsets {
			all = append(all, at)
		}
		slices.Sort(all)
		if i := slices.Index(all, table); i+1 < len(all) {
			next = all[i+1]
		}
		m.read -= next - table
	}
	return m, nil
}
