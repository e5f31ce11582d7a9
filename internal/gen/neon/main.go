// Command neon writes the kernels of package kernels/cpu for arm64: a subject's assembly and its Go declarations. Run it
// through go generate.
package main

import (
	"flag"
	"fmt"
	"log"

	"eckart/internal/gen/arm64"
)

func main() {
	subject := flag.String("subject", "", "what to write: matmul, grouped, rows, attention or sweep")
	out := flag.String("out", "", "file of the assembly")
	stubs := flag.String("stubs", "", "file of the declarations")
	flag.Parse()
	write, ok := map[string]func(*arm64.File){"matmul": matMul, "grouped": grouped, "rows": rows, "attention": attention, "sweep": sweep}[*subject]
	if !ok {
		log.Fatalf("generate for arm64: unknown -subject %q", *subject)
	}
	f := arm64.NewFile(fmt.Sprintf("go run ./neon -subject %s -out %s -stubs %s", *subject, *out, *stubs))
	write(f)
	if err := f.Write(*out, *stubs); err != nil {
		log.Fatalf("generate for arm64: %v", err)
	}
}
