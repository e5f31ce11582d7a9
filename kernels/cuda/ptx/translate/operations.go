package translate

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// types are the C++ types of what instructions work on, by their type in PTX.
var types = map[string]string{
	"u8": "u8", "b8": "u8", "s8": "i8", "u16": "u16", "b16": "u16", "s16": "i16", "u32": "u32", "b32": "u32", "s32": "i32",
	"u64": "u64", "b64": "u64", "s64": "i64", "f32": "float", "f64": "double", "pred": "bool",
}

// plain are the instructions that compute one result from registers: what their operands are, t of the instruction's type, u
// u32, p a predicate. The type ends the mnemonic.
var plain = map[string]string{
	"mov": "t", "add": "tt", "sub": "tt", "mul.lo": "tt", "mul.wide": "tt", "mad.lo": "ttt", "div": "tt", "rem": "tt", "neg": "t",
	"min": "tt", "max": "tt", "and": "tt", "or": "tt", "xor": "tt", "not": "t", "shl": "tu", "shr": "tu", "popc": "t", "clz": "t",
	"bfe": "tuu", "selp": "ttp",
	"add.rn": "tt", "sub.rn": "tt", "mul.rn": "tt", "div.rn": "tt", "fma.rn": "ttt", "rcp.rn": "t", "sqrt.rn": "t", "ex2.approx": "t",
}

// names are those of plain that C++ has taken.
var names = map[string]string{"and": "and_", "or": "or_", "xor": "xor_", "not": "not_"}

// forms are the other instructions, by what their mnemonic begins with; the longest that fits is taken.
var forms = map[string]func(s statement, rest string) (string, error){
	"setp.": setp, "cvt.": cvt, "cvta.": cvta, "ld.": load, "st.": store, "mov.": move,
	"cp.async.": copyAsync, "ldmatrix.": loadMatrices, "mma.": multiply, "shfl.sync.": shuffle,
	"vote.sync.ballot.b32":            exactly("out(%s, ballot(%s)); ", "dp!"),
	"bar.sync":                        exactly("block_sync();", "0"),
	"bar.warp.sync":                   exactly("warp_sync();", "!"),
	"fence.acq_rel.gpu":               exactly("fence();", ""),
	"dp4a.s32.s32":                    exactly("out(%s, dp4a(%s, %s, %s));", "diii"),
	"atom.relaxed.gpu.global.add.u32": exactly("out(%s, atomic_add(global<u32>(%s), %s));", "dau"),
	"ld.acquire.gpu.global.u32":       exactly("out(%s, ld_acquire(global<u32>(%s)));", "da"),
	"st.release.gpu.global.u32":       exactly("st_release(global<u32>(%s), %s);", "au"),
	"bra":                             branch,
	"bra.uni":                         branch,
	"ret":                             exactly("return;", ""),
}

// cxx returns the instruction as C++.
func (s statement) cxx() (string, error) {
	base, typ := s.op, ""
	if i := strings.LastIndexByte(s.op, '.'); i >= 0 {
		base, typ = s.op[:i], types[s.op[i+1:]]
	}
	if shape, ok := plain[base]; ok && typ != "" && !(base == "mov" && strings.ContainsAny(s.String(), "{")) {
		return s.plain(base, typ, shape)
	}
	longest := ""
	for prefix := range forms {
		exact := !strings.HasSuffix(prefix, ".")
		if len(prefix) > len(longest) && (s.op == prefix || !exact && strings.HasPrefix(s.op, prefix)) {
			longest = prefix
		}
	}
	if longest == "" {
		return "", fmt.Errorf("is an instruction that is not known")
	}
	return forms[longest](s, s.op[len(longest):])
}

// takes says that an instruction has n operands, or what is wrong.
func (s statement) takes(n int) error {
	if len(s.operands) != n {
		return fmt.Errorf("has %d operands and not %d", len(s.operands), n)
	}
	return nil
}

func (s statement) plain(base, typ, shape string) (string, error) {
	if err := s.takes(1 + len(shape)); err != nil {
		return "", err
	}
	args := make([]string, len(shape))
	for i, c := range shape {
		t := map[rune]string{'t': typ, 'u': "u32", 'p': "bool"}[c]
		var err error
		if args[i], err = value(s.operands[1+i], t); err != nil {
			return "", err
		}
	}
	name, ok := names[base]
	if !ok {
		name = strings.ReplaceAll(base, ".", "_")
	}
	d, err := register(s.operands[0])
	return fmt.Sprintf("out(%s, ptx::%s(%s));", d, name, strings.Join(args, ", ")), err
}

// exactly is a form of one mnemonic: shape says what its operands are, each of which format takes, d a register for the result, a
// an address in global memory, u, i and p values; 0 is the number 0 and ! all lanes, of which it takes none.
func exactly(format, shape string) func(statement, string) (string, error) {
	return func(s statement, rest string) (string, error) {
		if err := s.takes(len(shape)); err != nil {
			return "", err
		}
		var args []any
		for i, c := range shape {
			o := s.operands[i]
			var text string
			var err error
			switch c {
			case '0', '!':
				if want := map[rune]string{'0': "0", '!': "-1"}[c]; o != want {
					return "", fmt.Errorf("has operand %s, and only %s is known", o, want)
				}
				continue
			case 'd':
				text, err = register(o)
			case 'a':
				text, err = address(o)
			case 'u', 'i', 'p':
				text, err = value(o, map[rune]string{'u': "u32", 'i': "i32", 'p': "bool"}[c])
			}
			if err != nil {
				return "", err
			}
			args = append(args, text)
		}
		return fmt.Sprintf(format, args...), nil
	}
}

func branch(s statement, _ string) (string, error) {
	if err := s.takes(1); err != nil {
		return "", err
	}
	return "goto " + labelName(s.operands[0]) + ";", nil
}

var comparisons = regexp.MustCompile(`^(eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan)\.([a-z0-9]+)$`)

func setp(s statement, rest string) (string, error) {
	m := comparisons.FindStringSubmatch(rest)
	if m == nil || types[m[2]] == "" {
		return "", fmt.Errorf("is a comparison that is not known")
	}
	return s.plain("setp."+m[1], types[m[2]], "tt")
}

// cvt converts: cvt[.rounding].to.from.
func cvt(s statement, rest string) (string, error) {
	if to, from, ok := strings.Cut(rest, "."); ok && types[to] != "" && types[from] != "" && !strings.ContainsAny(from, ".") {
		integer := !strings.HasPrefix(to, "f") && !strings.HasPrefix(from, "f")
		if integer || rest == "f64.f32" {
			return s.convert("cvt", types[to], types[from])
		}
	}
	for prefix, function := range map[string]string{"rn.": "cvt_rn", "rzi.": "cvt_rzi"} {
		pair, ok := strings.CutPrefix(rest, prefix)
		to, from, _ := strings.Cut(pair, ".")
		if ok && types[to] != "" && types[from] != "" {
			return s.convert(function, types[to], types[from])
		}
	}
	switch rest {
	case "f32.f16":
		return s.call("from_f16", "u16")
	case "rn.f16.f32":
		return s.call("to_f16", "float")
	case "rn.bf16x2.f32", "rn.f16x2.f32": // the first operand goes to the upper half
		if err := s.takes(3); err != nil {
			return "", err
		}
		s.operands = []string{s.operands[0], s.operands[2], s.operands[1]}
		return s.call(map[string]string{"rn.bf16x2.f32": "pack_bf16", "rn.f16x2.f32": "pack_f16"}[rest], "float", "float")
	}
	return "", fmt.Errorf("is a conversion that is not known")
}

func (s statement) convert(function, to, from string) (string, error) {
	return s.call(fmt.Sprintf("ptx::%s<%s>", function, to), from)
}

// call is a function of values of the types.
func (s statement) call(function string, typs ...string) (string, error) {
	if err := s.takes(1 + len(typs)); err != nil {
		return "", err
	}
	args := make([]string, len(typs))
	for i, t := range typs {
		var err error
		if args[i], err = value(s.operands[1+i], t); err != nil {
			return "", err
		}
	}
	d, err := register(s.operands[0])
	return fmt.Sprintf("out(%s, %s(%s));", d, function, strings.Join(args, ", ")), err
}

// cvta is no work: addresses of global memory are the same in both spaces.
func cvta(s statement, rest string) (string, error) {
	if rest != "to.global.u64" && rest != "global.u64" {
		return "", fmt.Errorf("is a space of addresses that is not known")
	}
	return s.plain("mov", "u64", "t")
}

// move is a mov that packs registers into a wider one, or takes one apart.
func move(s statement, rest string) (string, error) {
	if err := s.takes(2); err != nil {
		return "", err
	}
	whole, part := map[string]string{"b32": "u32", "b64": "u64"}[rest], map[string]string{"b32": "u16", "b64": "u32"}[rest]
	into, from := vector(s.operands[0]), vector(s.operands[1])
	switch {
	case whole == "":
	case len(into) == 2 && from == nil:
		v, err := value(s.operands[1], whole)
		return fmt.Sprintf("%s v = %s; out(%s, (%s)v); out(%s, (%s)(v >> %d));", whole, v, registerName(into[0]), part, registerName(into[1]), part,
			map[string]int{"b32": 16, "b64": 32}[rest]), err
	case into == nil && len(from) == 2:
		lo, err := value(from[0], part)
		if err != nil {
			return "", err
		}
		hi, err := value(from[1], part)
		return fmt.Sprintf("out(%s, (%s)((%s)%s | (%s)%s << %d));", registerName(s.operands[0]), whole, whole, lo, whole, hi,
			map[string]int{"b32": 16, "b64": 32}[rest]), err
	}
	return "", fmt.Errorf("is a move that is not known")
}

// memory matches what follows ld or st: space, cache hints, which change nothing here, number and type of elements.
var memory = regexp.MustCompile(`^(global|shared|param)(?:\.nc)?(?:\.L1::no_allocate)?(?:\.v([24]))?\.([a-z0-9]+)$`)

// place returns type, number of elements and pointer of an access.
func place(s statement, rest, operand string) (typ string, n int, pointer string, err error) {
	m := memory.FindStringSubmatch(rest)
	if m == nil || types[m[3]] == "" {
		return "", 0, "", fmt.Errorf("is an access that is not known")
	}
	typ, n = types[m[3]], 1
	if m[2] != "" {
		n = int(m[2][0] - '0')
	}
	a, err := address(operand)
	if err != nil {
		return "", 0, "", err
	}
	element := typ
	if n > 1 {
		element = fmt.Sprintf("vec<%s, %d>", typ, n)
	}
	if m[1] == "param" {
		return typ, n, fmt.Sprintf("param<%s>(&a, sizeof a, %s)", element, a), nil
	}
	return typ, n, fmt.Sprintf("%s<%s>(%s)", m[1], element, a), nil
}

func load(s statement, rest string) (string, error) {
	if err := s.takes(2); err != nil {
		return "", err
	}
	_, n, pointer, err := place(s, rest, s.operands[1])
	if err != nil {
		return "", err
	}
	call := map[byte]string{'g': "ld(%s)", 's': "sld(%s)", 'p': "%s"}[rest[0]]
	call = fmt.Sprintf(call, pointer)
	if n == 1 {
		d, err := register(s.operands[0])
		return fmt.Sprintf("out(%s, %s);", d, call), err
	}
	to := vector(s.operands[0])
	if len(to) != n {
		return "", fmt.Errorf("has not %d registers", n)
	}
	text := "auto v = " + call + ";"
	for i, r := range to {
		text += fmt.Sprintf(" out(%s, v.v[%d]);", registerName(r), i)
	}
	return text, nil
}

func store(s statement, rest string) (string, error) {
	if err := s.takes(2); err != nil {
		return "", err
	}
	typ, n, pointer, err := place(s, rest, s.operands[0])
	if err != nil {
		return "", err
	}
	call, ok := map[byte]string{'g': "st", 's': "sst"}[rest[0]]
	if !ok {
		return "", fmt.Errorf("writes arguments")
	}
	from := vector(s.operands[1])
	if n == 1 {
		v, err := value(s.operands[1], typ)
		return fmt.Sprintf("%s(%s, %s);", call, pointer, v), err
	}
	values, err := list(from, n, typ)
	return fmt.Sprintf("vec<%s, %d> v = {{%s}}; %s(%s, v);", typ, n, values, call, pointer), err
}

func copyAsync(s statement, rest string) (string, error) {
	switch {
	case rest == "cg.shared.global" && (len(s.operands) == 3 || len(s.operands) == 4) && s.operands[2] == "16":
		to, err := address(s.operands[0])
		if err != nil {
			return "", err
		}
		from, err := address(s.operands[1])
		if err != nil {
			return "", err
		}
		bytes, err := value(s.operands[len(s.operands)-1], "u32")
		return fmt.Sprintf("cp_async(%s, %s, %s);", to, from, bytes), err
	case rest == "commit_group" && len(s.operands) == 0:
		return "cp_commit();", nil
	case rest == "wait_group" && len(s.operands) == 1:
		n, err := value(s.operands[0], "u32")
		return fmt.Sprintf("tk::cp_wait_groups(%s, Site::current());", n), err
	}
	return "", fmt.Errorf("is a copy that is not known")
}

var matrices = regexp.MustCompile(`^sync\.aligned\.m8n8\.x([24])(\.trans)?\.shared\.b16$`)

func loadMatrices(s statement, rest string) (string, error) {
	if err := s.takes(2); err != nil {
		return "", err
	}
	m := matrices.FindStringSubmatch(rest)
	to := vector(s.operands[0])
	if m == nil || len(to) != int(m[1][0]-'0') {
		return "", fmt.Errorf("is an ldmatrix that is not known")
	}
	a, err := address(s.operands[1])
	t := ""
	if m[2] != "" {
		t = "t"
	}
	text := fmt.Sprintf("u32 m[%s]; ldm%s%s(m, shared<u8>(%s));", m[1], m[1], t, a)
	for i, r := range to {
		text += fmt.Sprintf(" out(%s, m[%d]);", registerName(r), i)
	}
	return text, err
}

// multiply is an mma: d = a·b + c, in the fragments that tk.h describes.
func multiply(s statement, rest string) (string, error) {
	if err := s.takes(4); err != nil {
		return "", err
	}
	function, typ := "", ""
	switch rest {
	case "sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32":
		function, typ = "mma_bf16", "float"
	case "sync.aligned.m16n8k16.row.col.f32.f16.f16.f32":
		function, typ = "mma_f16", "float"
	case "sync.aligned.m16n8k32.row.col.s32.s8.s8.s32":
		function, typ = "mma_s8", "i32"
	default:
		return "", fmt.Errorf("is an mma that is not known")
	}
	a, err := list(vector(s.operands[1]), 4, "u32")
	if err != nil {
		return "", err
	}
	b, err := list(vector(s.operands[2]), 2, "u32")
	if err != nil {
		return "", err
	}
	c, err := list(vector(s.operands[3]), 4, typ)
	if err != nil {
		return "", err
	}
	d := vector(s.operands[0])
	if len(d) != 4 {
		return "", fmt.Errorf("has not 4 registers for its result")
	}
	return fmt.Sprintf("%s c[4] = {%s}; u32 a[4] = {%s}, b[2] = {%s}; %s(c, a, b); out(%s, c[0]); out(%s, c[1]); out(%s, c[2]); out(%s, c[3]);",
		typ, c, a, b, function, registerName(d[0]), registerName(d[1]), registerName(d[2]), registerName(d[3])), nil
}

func shuffle(s statement, rest string) (string, error) {
	mode, typ, _ := strings.Cut(rest, ".")
	function, ok := map[string]string{"up": "shfl_up", "down": "shfl_down", "bfly": "shfl_bfly", "idx": "shfl_idx"}[mode]
	if !ok || typ != "b32" {
		return "", fmt.Errorf("is a shuffle that is not known")
	}
	if err := s.takes(5); err != nil {
		return "", err
	}
	if s.operands[4] != "-1" {
		return "", fmt.Errorf("is for some of the lanes")
	}
	s.operands = s.operands[:4]
	return s.call("ptx::"+function, "u32", "u32", "u32")
}

// vector returns the registers of {a, b}, or nil.
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

// list returns n values, for a list in braces.
func list(operands []string, n int, typ string) (string, error) {
	if len(operands) != n {
		return "", fmt.Errorf("has not %d values", n)
	}
	values := make([]string, n)
	for i, o := range operands {
		var err error
		if values[i], err = value(o, typ); err != nil {
			return "", err
		}
	}
	return strings.Join(values, ", "), nil
}

// special are the registers that are read only, and arrays, whose names are addresses.
var special = map[string]string{
	"%tid.x": "tid()", "%ntid.x": "nthreads()", "%ctaid.x": "bx()", "%ctaid.y": "by()", "%ctaid.z": "bz()",
	"%nctaid.x": "gx()", "%nctaid.y": "gy()", "%nctaid.z": "gz()", "tk_shared": "(u64)shared_base",
}

var (
	registers = regexp.MustCompile(`^%?[a-z]+[0-9]*$`)
	arguments = regexp.MustCompile(`^[a-z0-9_]+_param_0$`)
)

// register returns the name of a register that a result goes to.
func register(operand string) (string, error) {
	if special[operand] != "" || !registers.MatchString(operand) {
		return "", fmt.Errorf("%s is no register", operand)
	}
	return registerName(operand), nil
}

// value returns an operand, a register or a number, as a value of a C++ type.
func value(operand, typ string) (string, error) {
	v, ok := special[operand]
	switch {
	case ok:
	case arguments.MatchString(operand):
		v = "(u64)&a"
	case registers.MatchString(operand):
		v = registerName(operand)
	case strings.HasPrefix(operand, "0f") && len(operand) == 10 && typ == "float":
		return "bits_float(0x" + operand[2:] + "u)", nil
	case strings.HasPrefix(operand, "0d") && len(operand) == 18 && typ == "double":
		return "__builtin_bit_cast(double, (u64)0x" + operand[2:] + "u)", nil
	default:
		n, err := strconv.ParseInt(operand, 0, 64)
		if err != nil || typ == "float" || typ == "double" {
			return "", fmt.Errorf("%s is no %s", operand, typ)
		}
		if typ == "bool" {
			return strconv.FormatBool(n != 0), nil
		}
		return fmt.Sprintf("(%s)%#xu", typ, uint64(n)), nil
	}
	return fmt.Sprintf("in<%s>(%s)", typ, v), nil
}

// address returns [a], [a+4] or [a+-4] as a number.
func address(operand string) (string, error) {
	inner, ok := strings.CutPrefix(operand, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !ok || !closed {
		return "", fmt.Errorf("%s is no address", operand)
	}
	base, offset, _ := strings.Cut(inner, "+")
	v, known := special[base]
	switch {
	case known:
	case arguments.MatchString(base):
		v = "(u64)&a"
	case registers.MatchString(base):
		v = "(u64)" + registerName(base)
	default:
		return "", fmt.Errorf("%s is no address", operand)
	}
	if offset == "" {
		return v, nil
	}
	n, err := strconv.ParseInt(offset, 0, 64)
	if err != nil {
		return "", fmt.Errorf("%s is no address", operand)
	}
	return fmt.Sprintf("%s + (u64)%d", v, n), nil
}
