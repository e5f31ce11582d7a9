//go:build !race

package cuda

// UnderRace says that the race detector runs.
const UnderRace = false
