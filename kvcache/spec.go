package kvcache

// A Spec says how one layer keeps one token.
type Spec struct {
	Heads            int // key heads
	KeyDim, ValueDim int // features of a head's key and value
	Window           int // tokens attended to; 0 for all
}
