package main

import (
	"bytes"
	"errors"
	"fmt"

	"eckart/kernels"
	"eckart/layers"
)

// repeat runs verbs again and again over the same numbers and compares the bits of the results, which were overwritten in
// between. That a row has the same bits in any company is for the suite.
func repeat(s *session) error {
	if err := s.open(); err != nil {
		return err
	}
	r := newRandom()
	m := s.matrices[0]
	var errs []error
	for _, kind := range kinds {
		w, err := kind.weight(r, 0, m)
		if err != nil {
			return err
		}
		for _, tokens := range s.grouped {
			errs = append(errs, s.repeatProduct(r, kind.name, w, m, tokens))
		}
	}
	for _, depth := range s.depths {
		for _, rows := range []int{1, s.prompt} {
			errs = append(errs, s.repeatAttend(depth, rows))
		}
	}
	return errors.Join(errs...)
}

func (s *session) repeatProduct(r *random, kind string, w layers.Weight, m matrix, tokens int) (err error) {
	p, err := s.product([]layers.Weight{w}, m, tokens, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.arena.Close()) }()
	return s.compare("product, "+kind, fmt.Sprintf("%d tokens", tokens), p.y, func() { p.apply(0) })
}

func (s *session) repeatAttend(depth, rows int) (err error) {
	a, err := s.attention(max(depth, rows), 1, rows, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.arena.Close()) }()
	return s.compare(fmt.Sprintf("attention, %d tokens deep", max(depth, rows)), fmt.Sprintf("%d tokens", rows), a.y, func() { a.apply(0) })
}

// compare runs a verb and compares what it writes to y.
func (s *session) compare(row, column string, y kernels.Mat, verb func()) error {
	poison := bytes.Repeat([]byte{0xff}, int(y.Bytes())) // no number
	first, other := make([]byte, len(poison)), make([]byte, len(poison))
	differ := 0
	for i := range s.repeats {
		s.stream.Upload(y, poison)
		verb()
		to := other
		if i == 0 {
			to = first
		}
		s.stream.Download(to, y)
		if err := s.stream.Sync(); err != nil {
			return fmt.Errorf("%s of %s: %w", row, column, err)
		}
		if i > 0 && !bytes.Equal(first, other) {
			differ++
		}
	}
	f := Figure{Group: "Runs with the same bits", Row: row, Column: column, Value: float64(s.repeats - differ), Quiet: true}
	switch {
	case differ > 0:
		f.Wrong = fmt.Sprintf("%d of %d runs have other bits than the first", differ, s.repeats)
	case poisoned(first):
		f.Wrong = "some of the result was not written"
	}
	return s.add(f)
}

// poisoned reports whether a word of a result is as it was before.
func poisoned(result []byte) bool {
	for words := result; len(words) >= 4; words = words[4:] {
		if words[0]&words[1]&words[2]&words[3] == 0xff {
			return true
		}
	}
	return false
}
