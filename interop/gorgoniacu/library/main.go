// Command library prints the path of the shim's libcuda, which it builds first.
package main

import (
	"fmt"
	"os"

	"eckart/kernels/cuda/shim"
)

func main() {
	path, err := shim.Build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
