package translate

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// special are the registers that are read only, and the one array, whose name is its address.
var special = map[string]string{
	"%tid.x": "tid()", "%ntid.x": "nthreads()", "%ctaid.x": "bx()", "%ctaid.y": "by()", "%ctaid.z": "bz()",
	"%nctaid.x": "gx()", "%nctaid.y": "gy()", "%nctaid.z": "gz()", "tk_shared": "(u64)shared_base",
}

var arguments = regexp.MustCompile(`^[a-z0-9_]+_param_0$`)

// registerName turns %r12 into r12.
func registerName(r string) string { return strings.TrimPrefix(r, "%") }

func labelName(l string) string { return strings.ReplaceAll(l, "$", "_") }

// integers are the types among which C++ converts as PTX does.
var integers = map[string]int{"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8}

// set returns an assignment of an expression of a type to a register.
func (w *writer) set(operand, typ, expression string) (string, error) {
	name := registerName(operand)
	switch declared := w.registers[name]; {
	case declared == "":
		return "", fmt.Errorf("%s is no register", operand)
	case declared == typ, integers[declared] != 0 && integers[declared] == integers[typ]:
		return fmt.Sprintf("%s = %s;", name, expression), nil
	default:
		return fmt.Sprintf("out(%s, %s);", name, expression), nil
	}
}

// setAll assigns the n elements of an array to registers in braces.
func (w *writer) setAll(operand string, n int, typ, array string) (string, error) {
	to := vector(operand)
	if len(to) != n {
		return "", fmt.Errorf("has not %d registers in %s", n, operand)
	}
	sets := make([]string, n)
	for i, r := range to {
		var err error
		if sets[i], err = w.set(r, typ, fmt.Sprintf("%s[%d]", array, i)); err != nil {
			return "", err
		}
	}
	return strings.Join(sets, " "), nil
}

// value returns an operand, a register or a number, as a value of a type.
func (w *writer) value(operand, typ string) (string, error) {
	if name := registerName(operand); w.registers[name] != "" {
		switch declared := w.registers[name]; {
		case declared == typ:
			return name, nil
		case integers[declared] != 0 && integers[declared] == integers[typ]:
			return fmt.Sprintf("(%s)%s", typ, name), nil
		}
		return fmt.Sprintf("in<%s>(%s)", typ, name), nil
	}
	switch v, ok := special[operand]; {
	case ok && integers[typ] != 0:
		return fmt.Sprintf("(%s)%s", typ, v), nil
	case arguments.MatchString(operand) && typ == "u64":
		return "(u64)&a", nil
	case strings.HasPrefix(operand, "0f") && len(operand) == 10 && typ == "float":
		return "bits_float(0x" + operand[2:] + "u)", nil
	case strings.HasPrefix(operand, "0d") && len(operand) == 18 && typ == "double":
		return "__builtin_bit_cast(double, (u64)0x" + operand[2:] + "u)", nil
	}
	n, err := strconv.ParseInt(operand, 0, 64)
	switch {
	case err == nil && typ == "bool":
		return strconv.FormatBool(n != 0), nil
	case err == nil && integers[typ] != 0:
		return fmt.Sprintf("(%s)%#xu", typ, uint64(n)), nil
	}
	return "", fmt.Errorf("%s is no %s", operand, typ)
}

// values returns the n values in braces, for an array in C++.
func (w *writer) values(operand string, n int, typ string) (string, error) {
	from := vector(operand)
	if len(from) != n {
		return "", fmt.Errorf("has not %d values in %s", n, operand)
	}
	values := make([]string, n)
	for i, o := range from {
		var err error
		if values[i], err = w.value(o, typ); err != nil {
			return "", err
		}
	}
	return strings.Join(values, ", "), nil
}

// vector returns the operands of {a, b}, or nil.
func vector(operand string) []string {
	inner, ok := strings.CutPrefix(operand, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !ok || !closed {
		return nil
	}
	parts := strings.Split(inner, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// address returns [a], [a+4] or [a+-4] as a number.
func (w *writer) address(operand string) (string, error) {
	inner, ok := strings.CutPrefix(operand, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !ok || !closed {
		return "", fmt.Errorf("%s is no address", operand)
	}
	base, offset, _ := strings.Cut(inner, "+")
	name := registerName(base)
	switch {
	case integers[w.registers[name]] >= 4:
	case arguments.MatchString(base):
		name = "(u64)&a"
	case special[base] != "" && !strings.HasPrefix(base, "%"):
		name = special[base]
	default:
		return "", fmt.Errorf("%s is no address", operand)
	}
	if offset == "" {
		return name, nil
	}
	n, err := strconv.ParseInt(offset, 0, 64)
	if err != nil {
		return "", fmt.Errorf("%s is no address", operand)
	}
	return fmt.Sprintf("%s + (u64)%d", name, n), nil
}
