// Package translate makes C++ of the text of PTX, instruction by instruction, which kernels/cuda/shim compiles and runs on a
// CPU. So what ships is run where there is no GPU: what clang made of a kernel, and the instructions that a kernel writes itself.
// It knows the language as far as our kernels use it, and refuses the rest. What an instruction means stands in
// kernels/cuda/shim/engine/ptx.h.
package translate

import (
	"bytes"
	"fmt"
	"strings"
)

// maxLines is what the shim has bits for (kernels/cuda/shim/engine/engine.h: max_line).
const maxLines = 1<<16 - 1

// CXX returns C++ for the kernels of a module of PTX. Places in it are those of the lines of text, in a file called name.
func CXX(name string, text []byte) (cxx []byte, err error) {
	if lines := bytes.Count(text, []byte("\n")); lines > maxLines {
		return nil, fmt.Errorf("translate %s: it has %d lines, and the shim tells %d apart", name, lines, maxLines)
	}
	statements, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("translate %s: %w", name, err)
	}
	w := &writer{file: name}
	w.printf("#include \"../shim/engine/ptx.h\"\n\nusing namespace ptx;\n")
	for _, s := range statements {
		if err := w.statement(s); err != nil {
			return nil, fmt.Errorf("translate %s:%d: %s: %w", name, s.line, s, err)
		}
	}
	if w.kernel != "" {
		return nil, fmt.Errorf("translate %s: kernel %s does not end", name, w.kernel)
	}
	return w.out.Bytes(), nil
}

// writer writes the C++ of one module.
type writer struct {
	out    bytes.Buffer
	file   string
	kernel string // that is being written, or ""
	depth  int    // of braces within it

	registers map[string]string // types of the kernel's, by name
}

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.out, format, args...) }

// statement writes what one statement means.
func (w *writer) statement(s statement) error {
	if s.kind != entry && w.kernel == "" {
		if s.kind == directive && outside[s.op] {
			return nil
		}
		return fmt.Errorf("stands outside of a kernel")
	}
	switch s.kind {
	case entry:
		if w.kernel != "" {
			return fmt.Errorf("stands within kernel %s", w.kernel)
		}
		if s.threads == 0 || s.bytes == 0 {
			return fmt.Errorf("does not say how many threads or arguments it has")
		}
		w.kernel, w.registers = s.op, map[string]string{}
		w.printf("\nstruct %s_args {\n    alignas(8) u8 bytes[%d];\n};\nKERNEL(%s, %s_args, %d)", s.op, s.bytes, s.op, s.op, s.threads)
	case open:
		w.depth++
		w.printf("{\n")
	case closing:
		w.printf("}\n")
		if w.depth--; w.depth == 0 {
			w.kernel = ""
		}
	case label:
		w.printf("%s: __attribute__((unused));\n", labelName(s.op))
	case directive:
		return w.directive(s)
	case instruction:
		return w.instruction(s)
	}
	return nil
}

// outside are the directives around kernels, whose meaning is plain: there is one array, which is the shared memory.
var outside = map[string]bool{".version": true, ".target": true, ".address_size": true, ".extern": true}

// registerTypes are the C++ types of registers, by their type in PTX.
var registerTypes = map[string]string{
	".pred": "bool", ".b16": "u16", ".b32": "u32", ".b64": "u64", ".f32": "float", ".f64": "double",
}

// directive writes declarations of registers.
func (w *writer) directive(s statement) error {
	if s.op == ".pragma" {
		return nil
	}
	kind, ok := registerTypes[s.typ]
	if s.op != ".reg" || !ok {
		return fmt.Errorf("is a directive that is not known")
	}
	for _, name := range s.operands {
		base, count, array := strings.Cut(name, "<")
		var names []string
		if !array {
			names = []string{registerName(base)}
		} else {
			var n int
			if _, err := fmt.Sscanf(count, "%d>", &n); err != nil {
				return fmt.Errorf("declares %q", name)
			}
			for i := 1; i < n; i++ {
				names = append(names, fmt.Sprintf("%s%d", registerName(base), i))
			}
		}
		for _, n := range names {
			// Until it is written, a register of a GPU holds anything: here, what shows.
			w.registers[n] = kind
			w.printf("[[maybe_unused]] %s %s = undefined<%s>();\n", kind, n, kind)
		}
	}
	return nil
}

// instruction writes an instruction, with its guard.
func (w *writer) instruction(s statement) error {
	body, err := w.operation(s)
	if err != nil {
		return err
	}
	w.printf("#line %d \"%s\"\n", s.line, w.file)
	if s.guard != "" {
		not := ""
		guard, negated := strings.CutPrefix(s.guard, "!")
		if negated {
			not = "!"
		}
		w.printf("if (%s%s) ", not, registerName(guard))
	}
	w.printf("{ %s }\n", body)
	return nil
}
