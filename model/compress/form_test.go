package compress

import (
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// TestFootprintMemory binds a matrix in many forms and holds what that takes to what was said before.
func TestFootprintMemory(t *testing.T) {
	const out, in = 90, 161
	rng := rand.New(rand.NewPCG(5, 5))
	x := matrixtest.Random(rng, 400, in)
	g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		"int8", "int4/64", "int3z", "int2", "lowrank@12", "lowrank@12/int8", "pifa@12", "pifa@12/int8", "nested@12", "int3+r16", "int4+r8:eora", "int2+r8/bf16",
	} {
		c, err := ParseChoice(words, true)
		if err != nil {
			t.Fatal(err)
		}
		f, err := formOf(c)
		if err != nil {
			t.Fatal(err)
		}
		target := (&Target{Name: "matrix", W: matrixtest.Random(rng, out, in), Gram: g}).in(&group{size: 1}, 0)
		made, err := f.Make(target, c)
		if err != nil {
			t.Fatalf("%s: %v", words, err)
		}
		said, err := f.Footprint(out, in, c)
		if err != nil {
			t.Fatal(err)
		}
		var bound kernels.Counter
		if _, err := made.Bind(&bound, kernels.Discard{}); err != nil {
			t.Fatalf("%s: %v", words, err)
		}
		if used := bound.Used(); used > said.Memory() || used < said.Memory()*95/100 || layers.StoredBytes(made) != said.Bytes() {
			t.Errorf("%s takes %d bytes in memory, %d were said; %d in a checkpoint, %d were said", words, bound.Used(), said.Memory(), layers.StoredBytes(made), said.Bytes())
		}
	}
}
