package kernels

// A Recorder is a stream that can run a sequence of verbs again for less than it takes to ask for each: a graph of a GPU.
type Recorder interface {
	// Record calls verbs, in which verbs of this stream are called, and returns them as a program; they do not run. The
	// stream must not be at fault. Every argument is kept as it is: where matrices lie, their shapes, counts and scalars.
	// What matrices hold is read when the program runs. Verbs must not call Upload, Download, Pack or Sync, nor Record:
	// what changes from run to run is uploaded before Run.
	Record(verbs func()) (Program, error)
}

// A Program is a recorded sequence of verbs.
type Program interface {
	// Run enqueues the verbs on the stream that recorded them, with the same results as if they were called. A fault stays
	// in the stream until Sync.
	Run()
	// Close gives back what the program takes up, when the device has finished its runs. It must not be used any more.
	Close() error
}
