// Package race says whether the race detector runs. It tells tests what it would be waste to compute below it, many times
// slower: what runs on one goroutine, or in code that the detector does not see, as assembly and C++ are.
package race
