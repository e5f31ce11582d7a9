// Package amd64 holds what the generators of assembly for amd64 share: words of package avo's that each of them would say alike.
package amd64

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

// Text begins a function that keeps no pointer it is given. Its documentation is its name, a space and doc.
func Text(name, signature, doc string) {
	build.TEXT(name, build.NOSPLIT, signature)
	build.Doc(name + " " + doc)
	build.Pragma("noescape")
}

// Param loads a parameter of 64 bits into a register.
func Param(name string) reg.GPVirtual {
	r := build.GP64()
	build.Load(build.Param(name), r)
	return r
}

// Return ends a function that has used vectors.
func Return() {
	build.VZEROUPPER()
	build.RET()
}

// Log2 returns the least b for which 2 to the power of b is at least n.
func Log2(n int) uint64 {
	var b uint64
	for 1<<b < n {
		b++
	}
	return b
}
