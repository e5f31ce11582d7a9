package packed

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"eckart/layers"
	"eckart/model/checkpoint"
)

// A Reader gives the compressed matrices of a checkpoint of ours, which must stay open while they are read; of any other
// checkpoint it gives none. It may be used by several goroutines at once.
type Reader struct {
	Manifest
	packed bool
	config []byte
	places map[string]place    // of the tensors that compressed matrices consist of
	of     map[string][]string // the same by the names of matrices, "M.weight"
	shared *shared
}

// Open holds the tensors of c against what its metadata and config.json (config) say (docs/format.md, section 6): the
// parts of each module are exactly those of its form, and no tensor looks like a part that belongs to none.
func Open(c *checkpoint.Checkpoint, config []byte) (*Reader, error) {
	r := &Reader{config: config, places: map[string]place{}, of: map[string][]string{}, shared: &shared{matrices: map[string]layers.Weight{}}}
	set, rest, said, err := ours(config)
	if err != nil {
		return nil, err
	}
	_, versioned := c.Metadata()[versionKey]
	part, stray := firstPart(c, r.places)
	switch {
	case !versioned && stray:
		return nil, fmt.Errorf("%s is a part of a compressed matrix, and the metadata has no %s", part, versionKey)
	case !versioned && said:
		return nil, fmt.Errorf("config.json says quant_method %q, and the metadata has no %s", Method, versionKey)
	case !versioned:
		return r, nil
	}
	if r.Manifest, err = parseManifest(c.Metadata()); err != nil {
		return nil, err
	}
	switch {
	case !said && len(r.Stored) > 0:
		return nil, fmt.Errorf("metadata %s has compressed matrices, and %s of config.json does not say quant_method %q", planKey, configKey, Method)
	case said && set.Version != c.Metadata()[versionKey]:
		return nil, fmt.Errorf("config.json says version %.40q of %s, and metadata %s %q", set.Version, Method, versionKey, c.Metadata()[versionKey])
	}
	for _, module := range slices.Sorted(maps.Keys(r.Stored)) {
		if err := r.claim(c, module); err != nil {
			return nil, err
		}
	}
	if err := checkShared(r.Stored); err != nil {
		return nil, err
	}
	if part, stray := firstPart(c, r.places); stray {
		return nil, fmt.Errorf("%s is a part of a compressed matrix, and metadata %s has none that it belongs to", part, planKey)
	}
	r.packed, r.config = true, rest
	return r, nil
}

// claim finds the tensors that the matrix of a module consists of.
func (r *Reader) claim(c *checkpoint.Checkpoint, module string) error {
	s := r.Stored[module]
	name := module + weightSuffix
	if _, ok := c.Tensor(name); ok && s.Kind != "dense" {
		return fmt.Errorf("%s is there, and metadata %s says that it is stored as %s", name, planKey, s.Kind)
	}
	return s.walk(module, func(tensor string, a array) error {
		t, ok := c.Tensor(tensor)
		switch {
		case !ok:
			return fmt.Errorf("%s is missing, a part of %s, which is stored as %s", tensor, name, s.Kind)
		case t.Type != a.typ || !slices.Equal(t.Shape, []int{a.rows, a.cols}):
			return fmt.Errorf("%s has type %s and shape %v, want %s and [%d %d] for %s, which is stored as %s",
				tensor, t.Type, t.Shape, a.typ, a.rows, a.cols, name, s.Kind)
		}
		if _, ok := r.places[tensor]; ok && !strings.HasPrefix(tensor, sharedPrefix) {
			return fmt.Errorf("%s is a part of two matrices, the second of which is %s", tensor, name)
		}
		r.places[tensor] = place{c, t}
		r.of[name] = append(r.of[name], tensor)
		return nil
	})
}

// firstPart returns the first tensor of c that is called like a part of a compressed matrix and is not taken.
func firstPart(c *checkpoint.Checkpoint, taken map[string]place) (string, bool) {
	for _, name := range c.Names() {
		if _, ok := taken[name]; !ok && isPart(name) {
			return name, true
		}
	}
	return "", false
}

// isPart reports whether a kind, and one of its parts, follow the name of a module in that of a tensor.
func isPart(name string) bool {
	words := strings.Split(name, ".")
	for i := 1; i+1 < len(words); i++ {
		if slices.Contains(kinds[words[i]].parts, words[i+1]) {
			return true
		}
	}
	return false
}

// Packed reports whether the checkpoint is one of ours.
func (r *Reader) Packed() bool { return r.packed }

// Config returns config.json with the quantization_config that matrices have which were left as they were.
func (r *Reader) Config() []byte { return r.config }

// Matrices returns the names of the matrices, "M.weight", sorted.
func (r *Reader) Matrices() []string { return slices.Sorted(maps.Keys(r.of)) }

// Weight returns the matrix name, and whether there is one.
func (r *Reader) Weight(name string) (w layers.Weight, ok bool, err error) {
	if r.of[name] == nil {
		return nil, false, nil
	}
	module := strings.TrimSuffix(name, weightSuffix)
	s := r.Stored[module]
	w, err = build(r.places, r.shared, s.root(module), s.Form, s.Shape[0], s.Shape[1])
	return w, true, err
}

// Tensors returns the names of the tensors that the matrix name consists of; nil where there is no such matrix.
func (r *Reader) Tensors(name string) []string { return r.of[name] }

// Hidden reports whether the tensor is a part of a matrix.
func (r *Reader) Hidden(tensor string) bool {
	_, ok := r.places[tensor]
	return ok
}

// Elements returns the elements of the matrix name, and whether there is one.
func (r *Reader) Elements(name string) (int, bool) {
	if r.of[name] == nil {
		return 0, false
	}
	s := r.Stored[strings.TrimSuffix(name, weightSuffix)]
	return s.Shape[0] * s.Shape[1], true
}

// Notes says in a line what is compressed.
func (r *Reader) Notes() []string {
	if len(r.Stored) == 0 {
		return nil
	}
	count := map[string]int{}
	for _, s := range r.Stored {
		count[s.Kind]++
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(count)) {
		list = append(list, fmt.Sprintf("%d %s", count[k], k))
	}
	return []string{fmt.Sprintf("%s %s, matrices: %s", Method, Version, strings.Join(list, ", "))}
}
