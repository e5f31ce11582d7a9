package jinja

// This file resolves names to slots, by the rules of jinja2's idtracking and
// compiler modules. Their invariants:
//
//   - A name that a scope stores is the scope's own from the scope's start: it
//     begins as a copy of the outer variable (loadAlias) or without a value, and
//     the outer one is untouched. So a set in a loop does not leak.
//   - if is no scope: what its branches store belongs to the scope around it.
//   - A name that no scope stores is looked up in the context when the innermost
//     scope that mentions it is entered (loadResolve).
//   - Macros, call blocks and recursive loops are functions with slots of their
//     own, and see the slots of the function they stand in as they are at the
//     time of the call.

// function is an activation's shape: how many slots, inside which function.
type function struct {
	slots  int
	parent *function
}

// ref is a resolved name: a slot of the function that is hops levels out.
type ref struct{ hops, slot int }

type loadKind uint8

const (
	loadParameter loadKind = iota // set by whoever enters the scope
	loadResolve                   // from the context
	loadAlias                     // from an outer scope
	loadUndefined                 // no value yet
)

// load fills a slot when its scope is entered.
type load struct {
	kind loadKind
	slot int
	name string // of loadResolve
	from ref    // of loadAlias
}

// symbols are the names of a scope. Copies made for the branches of an if share
// the slots.
type symbols struct {
	resolver *resolver
	parent   *symbols
	function *function
	slots    map[string]int
	order    []string // of loads, which must not depend on the order of a Go map
	loads    map[string]symbolLoad
	stores   map[string]bool
}

type symbolLoad struct {
	kind  loadKind
	outer *symbols // of loadAlias
}

func newSymbols(v *resolver, parent *symbols, f *function) *symbols {
	return &symbols{resolver: v, parent: parent, function: f, slots: map[string]int{}, loads: map[string]symbolLoad{}, stores: map[string]bool{}}
}

func (s *symbols) copy() *symbols {
	c := newSymbols(s.resolver, s.parent, s.function)
	c.slots = s.slots
	s.resolver.spend(len(s.order))
	for _, name := range s.order {
		c.define(name, s.loads[name])
	}
	for name := range s.stores {
		c.stores[name] = true
	}
	return c
}

func (s *symbols) define(name string, l symbolLoad) {
	if _, ok := s.slots[name]; !ok {
		s.slots[name] = s.function.slots
		s.function.slots++
	}
	if _, ok := s.loads[name]; !ok {
		s.order = append(s.order, name)
	}
	s.loads[name] = l
}

// find returns the scope that a name belongs to, or nil.
func (s *symbols) find(name string) *symbols {
	for ; s != nil; s = s.parent {
		s.resolver.spend(1)
		if _, ok := s.loads[name]; ok {
			return s
		}
	}
	return nil
}

func (s *symbols) parameter(name string) int {
	s.stores[name] = true
	s.define(name, symbolLoad{kind: loadParameter})
	return s.slots[name]
}

func (s *symbols) load(name string) {
	if s.find(name) == nil {
		s.define(name, symbolLoad{kind: loadResolve})
	}
}

func (s *symbols) store(name string) {
	s.stores[name] = true
	if _, ok := s.loads[name]; ok {
		return
	}
	if outer := s.parent.find(name); outer != nil {
		s.define(name, symbolLoad{kind: loadAlias, outer: outer})
		return
	}
	s.define(name, symbolLoad{kind: loadUndefined})
}

// merge takes over what the branches of an if store and load. A name that only
// branches store has, before they run, the value it has outside.
func (s *symbols) merge(branches []*symbols) {
	var stored []string
	for _, b := range branches {
		s.resolver.spend(len(b.order))
		for _, name := range b.order {
			if b.stores[name] && !s.stores[name] {
				stored = append(stored, name)
			}
		}
	}
	for _, b := range branches {
		for _, name := range b.order {
			s.define(name, b.loads[name])
		}
		for name := range b.stores {
			s.stores[name] = true
		}
	}
	for _, name := range stored {
		if outer := s.parent.find(name); outer != nil {
			s.define(name, symbolLoad{kind: loadAlias, outer: outer})
			continue
		}
		s.define(name, symbolLoad{kind: loadResolve})
	}
}

// program returns what entering the scope does.
func (s *symbols) program() []load {
	var loads []load
	for _, name := range s.order {
		switch l := s.loads[name]; l.kind {
		case loadParameter:
		case loadAlias:
			loads = append(loads, load{kind: loadAlias, slot: s.slots[name], from: s.refTo(l.outer, name)})
		default:
			loads = append(loads, load{kind: l.kind, slot: s.slots[name], name: name})
		}
	}
	return loads
}

// refTo is the ref, from this scope, of a name that belongs to owner.
func (s *symbols) refTo(owner *symbols, name string) ref {
	hops := 0
	for f := s.function; f != owner.function; f = f.parent {
		hops++
	}
	return ref{hops: hops, slot: owner.slots[name]}
}
