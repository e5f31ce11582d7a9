package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
)

// A Loader builds layers from the weights of a Source, under a prefix. Its errors are sticky: it goes on after a miss,
// so that one LoadError tells all that is wrong, and the layers it returned until then must not be used.
type Loader struct {
	*loading
	prefix string
}

// loading is what the loaders of one model share.
type loading struct {
	src      Source
	arena    kernels.Arena
	stream   kernels.Stream
	progress func(done, total int64)
	total    int64

	read  int64 // bytes that the layers bound so far read in a step, but for tables
	asked map[string]bool
	sites []Site // of the groups bound so far, in that order
	ropes []*layers.Rope
	rope  map[layers.RopeSettings]*layers.Rope
	err   LoadError
	fatal error
}

// newLoader returns a loader of all names of src.
func newLoader(src Source, a kernels.Arena, s kernels.Stream) Loader {
	return Loader{loading: &loading{
		src: src, arena: a, stream: s,
		asked: map[string]bool{}, rope: map[layers.RopeSettings]*layers.Rope{},
	}}
}

// A LoadError is everything that keeps a checkpoint from being the model its config.json describes.
type LoadError struct {
	Missing []string // tensors the architecture needs
	Wrong   []string // tensors of another shape: "name has shape [4 8], want [8 8]"
	Unused  []string // tensors nobody asked for
}

// Error lists the findings, the first of each sort.
func (e *LoadError) Error() string {
	const most = 5
	var parts []string
	for _, f := range []struct {
		what  string
		names []string
	}{{"missing", e.Missing}, {"wrong shape", e.Wrong}, {"unknown", e.Unused}} {
		if len(f.names) == 0 {
			continue
		}
		shown := f.names[:min(most, len(f.names))]
		part := fmt.Sprintf("%s: %s", f.what, strings.Join(shown, ", "))
		if more := len(f.names) - len(shown); more > 0 {
			part += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, part)
	}
	return "load weights: " + strings.Join(parts, "; ")
}

func (e *LoadError) empty() bool { return len(e.Missing)+len(e.Wrong)+len(e.Unused) == 0 }

// In returns the loader of the names below name.
func (l Loader) In(name string) Loader {
	l.prefix += name + "."
	return l
}

// At returns the loader of the i-th module of a list.
func (l Loader) At(i int) Loader { return l.In(fmt.Sprint(i)) }

// note records what went wrong with a tensor and reports whether anything did.
func (l Loader) note(err error) bool {
	var missing MissingError
	var shape *shapeError
	switch {
	case err == nil:
		return false
	case errors.As(err, &missing):
		l.err.Missing = append(l.err.Missing, string(missing))
	case errors.As(err, &shape):
		l.err.Wrong = append(l.err.Wrong, shape.Error())
	case l.fatal == nil:
		l.fatal = err
	}
	return true
}

// matrix returns the weight name (out, in), or nil after a miss.
func (l Loader) matrix(name string, out, in int) layers.Weight {
	name = l.prefix + name + ".weight"
	l.asked[name] = true
	w, err := l.src.Weight(name)
	if err == nil {
		if o, i := w.Dims(); o != out || i != in {
			err = &shapeError{name, []int{out, in}, []int{o, i}}
		}
	}
	if l.note(err) {
		return nil
	}
	return w
}

// vector returns the n elements of name, or nil after a miss.
func (l Loader) vector(name string, n int) []float32 {
	name = l.prefix + name
	l.asked[name] = true
	v, err := l.src.Vector(name)
	if err == nil && len(v) != n {
		err = &shapeError{name, []int{n}, []int{len(v)}}
	}
	if l.note(err) {
		return nil
	}
	return v
}

// ready reports whether binding still makes sense; after a miss only the rest of the findings is of interest.
func (l Loader) ready() bool { return l.err.empty() && l.fatal == nil }

// bound reports progress after a layer was bound.
func (l Loader) bound(err error) {
	l.note(err)
	if l.progress != nil && l.fatal == nil {
		l.progress(l.arena.Used(), l.total)
	}
}

// Table returns the matrix name (rows, cols) as a Linear whose rows can be looked up too.
func (l Loader) Table(name string, rows, cols int) layers.Linear {
	w := l.matrix(name, rows, cols)
	if !l.ready() {
		return nil
	}
	t, err := w.Bind(l.arena, l.stream)
	if err == nil {
		if _, ok := t.(layers.Rows); !ok {
			err = fmt.Errorf("bind %s%s: rows of a %s matrix: %w", l.prefix, name, w.Kind(), ErrUnsupported)
		}
	}
	l.bound(layers.Named(err, l.prefix+name))
	return t
}

// A Proj names a matrix of a group.
type Proj struct {
	Name string
	Out  int
	Bias bool
}

// Group returns the matrices that read one input of the given width. A model file speaks of groups also where there
// is one member, so that each input has one site.
func (l Loader) Group(in int, projs ...Proj) *layers.Group {
	members := make([]layers.Member, len(projs))
	site := Site{Name: l.prefix + projs[0].Name, In: in}
	for i, p := range projs {
		site.Weights = append(site.Weights, SiteWeight{Name: l.prefix + p.Name + ".weight", Out: p.Out})
		members[i].Name = l.prefix + p.Name
		members[i].Weight = l.matrix(p.Name, p.Out, in)
		if p.Bias {
			members[i].Bias = l.vector(p.Name+".bias", p.Out)
		}
	}
	if !l.ready() {
		return nil
	}
	g, err := layers.BindGroup(l.arena, l.stream, site.Name, members...)
	l.bound(err)
	l.sites = append(l.sites, site)
	if err == nil {
		l.read += g.Bytes()
	}
	return g
}

// RMSNorm returns the norm name over runs of n features.
func (l Loader) RMSNorm(name string, n int, eps float32) layers.RMSNorm {
	gain := l.vector(name+".weight", n)
	if !l.ready() {
		return layers.RMSNorm{}
	}
	norm, err := layers.BindRMSNorm(l.arena, l.stream, gain, eps)
	l.bound(err)
	l.read += int64(len(gain)) * 4
	return norm
}

// Rope returns the rotary embedding of heads of dim features; layers with equal settings share one.
func (l Loader) Rope(s layers.RopeSettings, dim int) *layers.Rope {
	if r, ok := l.rope[s]; ok || !l.ready() {
		return r
	}
	r, err := layers.BindRope(l.arena, l.stream, s, dim, len(l.ropes))
	l.bound(err)
	l.rope[s] = r
	l.ropes = append(l.ropes, r)
	return r
}

// finish returns what went wrong, unread tensors included.
func (l Loader) finish() error {
	for _, name := range l.src.Names() {
		// Old checkpoints carry the rotary frequencies, which follow from the config.
		if !l.asked[name] && !strings.HasSuffix(name, ".rotary_emb.inv_freq") {
			l.err.Unused = append(l.err.Unused, name)
		}
	}
	return l.failure()
}

// failure returns what went wrong with the tensors that were asked for.
func (l Loader) failure() error {
	if !l.err.empty() {
		slices.Sort(l.err.Missing)
		return &l.err
	}
	return l.fatal
}
