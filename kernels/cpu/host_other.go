//go:build !linux && !darwin

package cpu

import (
	"math"
	"runtime"
)

// processor returns the architecture; this system has no common way to ask for more.
func processor() string { return runtime.GOARCH }

// cores leaves the choice to GOMAXPROCS.
func cores() int { return math.MaxInt }

// memory does not know.
func memory() (free, total int64) { return 0, 0 }

// lastLevelCache does not know.
func lastLevelCache() int64 { return 0 }
