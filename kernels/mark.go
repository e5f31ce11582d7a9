package kernels

// A Marker is a stream that can be waited for up to a place in it, so that a device always has something to do: what comes
// next is enqueued before what came before is waited for. Such a stream has read what Upload was given when it returns.
type Marker interface {
	// Mark marks the place behind the verbs so far. There is one mark at a time.
	Mark()
	// Await waits for the verbs before the mark and takes it away; what Download was asked for before it is valid then. It
	// returns the first fault since the last Sync, and leaves it there. Sync takes the mark away as well.
	Await() error
}
