package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// indexName is the file that says in which shard each tensor lies.
const indexName = "model.safetensors.index.json"

// maxIndexBytes bounds the index. One of 207,000 tensors, which is a large model
// (see maxHeaderBytes), has about 25 MB.
const maxIndexBytes = 64 << 20

// index is the content of a model.safetensors.index.json.
type index struct {
	shardOf   map[string]string
	totalSize int64 // sum of the tensors' bytes, or -1 if it does not say
}

// names reports whether some tensor lies in the shard.
func (x *index) names(shard string) bool {
	for _, s := range x.shardOf {
		if s == shard {
			return true
		}
	}
	return false
}

func readIndex(f folder) (*index, error) {
	data, err := f.read(indexName, maxIndexBytes)
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", indexName, err)
	}
	return x, nil
}

// parseIndex reads an index. Fields that say nothing about where tensors lie
// are skipped.
func parseIndex(data []byte) (*index, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("want UTF-8")
	}
	var (
		x             = &index{shardOf: make(map[string]string), totalSize: -1}
		s             = scanner{src: data}
		hasMap, hasMd bool
	)
	err := s.object(func(key []byte) error {
		switch string(key) {
		case "weight_map":
			if hasMap {
				return errors.New("weight_map occurs twice")
			}
			hasMap = true
			return x.parseMap(&s)
		case "metadata":
			if hasMd {
				return errors.New("metadata occurs twice")
			}
			hasMd = true
			if s.peek() != '{' {
				return s.skip(0)
			}
			return s.object(func(key []byte) error {
				if string(key) == "total_size" {
					return x.parseTotal(&s)
				}
				return s.skip(0)
			})
		}
		return s.skip(0)
	})
	switch {
	case err != nil:
		return nil, err
	case s.peek() != 0 || s.pos < len(data):
		return nil, s.fail("the end")
	case !hasMap:
		return nil, errors.New("weight_map is missing")
	case len(x.shardOf) == 0:
		return nil, errors.New("weight_map is empty")
	}
	return x, nil
}

// parseMap reads the weight map.
func (x *index) parseMap(s *scanner) error {
	shards := make(map[string]string) // so that equal names share memory
	err := s.object(func(key []byte) error {
		name := string(key)
		value, err := s.text()
		if err != nil {
			return fmt.Errorf("tensor %s: %w", quote(name), err)
		}
		shard, ok := shards[string(value)]
		if !ok {
			shard = string(value)
			if err := checkShardName(shard); err != nil {
				return fmt.Errorf("tensor %s: %w", quote(name), err)
			}
			shards[shard] = shard
		}
		if other, ok := x.shardOf[name]; ok {
			return fmt.Errorf("tensor %s occurs twice, in shard %s and in shard %s", quote(name), other, shard)
		}
		x.shardOf[name] = shard
		return nil
	})
	if err != nil {
		return fmt.Errorf("weight_map: %w", err)
	}
	return nil
}

// parseTotal reads the total size where it is a natural number. Some tools write
// a fraction or a string, which is as good as none.
func (x *index) parseTotal(s *scanner) error {
	s.peek()
	start := s.pos
	if n, err := s.natural(); err == nil {
		x.totalSize = n
		return nil
	}
	s.pos = start
	return s.skip(0)
}

// checkShardName lets through the plain names of files and nothing that could
// lead out of the folder on any system.
func checkShardName(name string) error {
	switch {
	case strings.ContainsAny(name, `/\:`) || name == "" || name[0] == '.':
		return fmt.Errorf("shard %s leaves the folder, want the name of a file in it", quote(name))
	case !strings.HasSuffix(name, suffix):
		return fmt.Errorf("shard %s does not end in %s", quote(name), suffix)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("shard %s has a control character in its name", quote(name))
	}
	return nil
}

// addIndexed adds the shards of an index and checks that index and shards agree
// on every tensor, in both directions.
func (c *Checkpoint) addIndexed(x *index) error {
	shards := make(map[string]bool)
	for _, shard := range x.shardOf {
		shards[shard] = true
	}
	for _, name := range slices.Sorted(maps.Keys(shards)) {
		if err := c.addShard(name); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w (named in %s)", err, indexName)
		} else if err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.shardOf)) {
		shard := x.shardOf[name]
		switch t, ok := c.tensors[name]; {
		case !ok:
			return fmt.Errorf("read shard %s: tensor %s, which %s places there, is missing", shard, quote(name), indexName)
		case t.Shard != shard:
			return fmt.Errorf("read shard %s: tensor %s is in shard %s instead, but %s places it there", shard, quote(name), t.Shard, indexName)
		}
	}
	if len(c.tensors) > len(x.shardOf) {
		for _, name := range slices.Sorted(maps.Keys(c.tensors)) {
			if _, ok := x.shardOf[name]; !ok {
				return fmt.Errorf("read shard %s: tensor %s is not in %s", c.tensors[name].Shard, quote(name), indexName)
			}
		}
	}
	// A wrong total is told and forgiven: no byte is read on its word, every
	// tensor is accounted for already, and published checkpoints have it wrong.
	// It counted shared tensors twice, was left as it was when tensors were taken
	// out, or counts the headers in.
	if x.totalSize >= 0 && x.totalSize != c.bytes {
		c.notices = append(c.notices, fmt.Sprintf("ignore total_size in %s: it says %d bytes, the shards' tensors have %d", indexName, x.totalSize, c.bytes))
	}
	return nil
}
