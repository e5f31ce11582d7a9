package translate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// types are the C++ types of what instructions work on, by their type in PTX.
var types = map[string]string{
	"u8": "u8", "b8": "u8", "s8": "i8", "u16": "u16", "b16": "u16", "s16": "i16", "u32": "u32", "b32": "u32", "s32": "i32",
	"u64": "u64", "b64": "u64", "s64": "i64", "f32": "float", "f64": "double", "pred": "bool",
}

// plain are the instructions that compute one result from registers, by their mnemonic without the type that ends it: what
// their operands are, t of that type, u u32, p a predicate.
var plain = map[string]string{
	"mov": "t", "add": "tt", "sub": "tt", "mul.lo": "tt", "mul.wide": "tt", "mad.lo": "ttt", "div": "tt", "rem": "tt", "neg": "t",
	"min": "tt", "max": "tt", "and": "tt", "or": "tt", "xor": "tt", "not": "t", "shl": "tu", "shr": "tu", "popc": "t", "clz": "t",
	"bfe": "tuu", "selp": "ttp", "cvta.global": "t", "cvta.to.global": "t",
	"add.rn": "tt", "sub.rn": "tt", "mul.rn": "tt", "div.rn": "tt", "fma.rn": "ttt", "rcp.rn": "t", "sqrt.rn": "t", "ex2.approx": "t",
	"setp.eq": "tt", "setp.ne": "tt", "setp.lt": "tt", "setp.le": "tt", "setp.gt": "tt", "setp.ge": "tt",
	"setp.equ": "tt", "setp.neu": "tt", "setp.ltu": "tt", "setp.leu": "tt", "setp.gtu": "tt", "setp.geu": "tt",
	"setp.num": "tt", "setp.nan": "tt",
}

// operators are those of plain that C++ has an operator for, with the same meaning for every type that they come with: integers
// are taken as unsigned for them, so that they may wrap. It makes the C++ quicker to compile.
var operators = map[string]string{
	"add": "+", "sub": "-", "mul.lo": "*", "and": "&", "or": "|", "xor": "^", "add.rn": "+", "sub.rn": "-", "mul.rn": "*", "div.rn": "/",
}

// forms are the other instructions, by what their mnemonic begins with; the longest that fits is taken.
var forms = map[string]func(w *writer, s statement, rest string) (string, error){
	"cvt.": convert, "ld.": load, "st.": store, "mov.": pack, "ldmatrix.": loadMatrices, "mma.": multiply, "shfl.sync.": shuffle,
	"bra": branch, "bra.uni": branch, "ret": call("return", ""),
	"bar.sync": call("block_sync()", "0"), "bar.warp.sync": call("warp_sync()", "!"), "fence.acq_rel.gpu": call("fence()", ""),
	"vote.sync.ballot.b32": result("u32", "ballot(%s)", "p!"), "dp4a.s32.s32": result("i32", "dp4a(%s, %s, %s)", "iii"),
	"atom.relaxed.gpu.global.add.u32": result("u32", "atomic_add(global<u32>(%s), %s)", "au"),
	"ld.acquire.gpu.global.u32":       result("u32", "ld_acquire(global<u32>(%s))", "a"),
	"st.release.gpu.global.u32":       call("st_release(global<u32>(%s), %s)", "au"),
	"cp.async.cg.shared.global":       copyAsync,
	"cp.async.commit_group":           call("cp_commit()", ""),
	"cp.async.wait_group":             call("tk::cp_wait_groups(%s, Site::current())", "u"),
}

var errUnknown = errors.New("is not known")

// operation returns an instruction as C++.
func (w *writer) operation(s statement) (string, error) {
	base, typ := s.op, ""
	if i := strings.LastIndexByte(s.op, '.'); i >= 0 {
		base, typ = s.op[:i], types[s.op[i+1:]]
	}
	if shape, ok := plain[base]; ok && typ != "" && !s.packs() {
		return w.plain(s, base, typ, shape)
	}
	longest := ""
	for prefix := range forms {
		fits := s.op == prefix || strings.HasSuffix(prefix, ".") && strings.HasPrefix(s.op, prefix)
		if fits && len(prefix) > len(longest) {
			longest = prefix
		}
	}
	if longest == "" {
		return "", errUnknown
	}
	return forms[longest](w, s, s.op[len(longest):])
}

// packs says whether an instruction has {a, b} for an operand.
func (s statement) packs() bool {
	for _, o := range s.operands {
		if vector(o) != nil {
			return true
		}
	}
	return false
}

// takes says that an instruction has n operands, or what is wrong.
func (s statement) takes(n int) error {
	if len(s.operands) != n {
		return fmt.Errorf("has %d operands and not %d", len(s.operands), n)
	}
	return nil
}

// plain writes an instruction of that map.
func (w *writer) plain(s statement, base, typ, shape string) (string, error) {
	operator := operators[base]
	if unsigned := map[string]string{"i16": "u16", "i32": "u32", "i64": "u64"}[typ]; operator != "" && unsigned != "" {
		typ = unsigned
	}
	if operator != "" {
		return w.apply(s, typ, operator, typ+" "+typ)
	}
	to, function := typ, "ptx::"+strings.ReplaceAll(base, ".", "_")
	switch {
	case base == "mov", strings.HasPrefix(base, "cvta."): // a global address is the same among all addresses
		function = ""
	case base == "not": // a word of C++
		function = "ptx::invert"
	case base == "mul.wide":
		to = map[string]string{"u16": "u32", "i16": "i32", "u32": "u64", "i32": "i64"}[typ]
	case strings.HasPrefix(base, "setp."):
		to = "bool"
	}
	return w.apply(s, to, function, strings.NewReplacer("t", typ+" ", "u", "u32 ", "p", "bool ").Replace(shape))
}

// apply writes a function of values, or an operator between two, as the first operand; their types are separated by spaces.
func (w *writer) apply(s statement, to, function, from string) (string, error) {
	typs := strings.Fields(from)
	if err := s.takes(1 + len(typs)); err != nil {
		return "", err
	}
	args := make([]string, len(typs))
	for i, t := range typs {
		var err error
		if args[i], err = w.value(s.operands[1+i], t); err != nil {
			return "", err
		}
	}
	if len(function) == 1 {
		return w.set(s.operands[0], to, fmt.Sprintf("(%s)(%s %s %s)", to, args[0], function, args[1]))
	}
	return w.set(s.operands[0], to, fmt.Sprintf("%s(%s)", function, strings.Join(args, ", ")))
}

// call is an instruction without a result. shape says what its operands are, which format takes: a an address in global memory,
// u, i and p values; 0 is the number 0 and ! all lanes, of which it takes none.
func call(format, shape string) func(*writer, statement, string) (string, error) {
	return func(w *writer, s statement, _ string) (string, error) {
		if err := s.takes(len(shape)); err != nil {
			return "", err
		}
		var args []any
		for i, c := range shape {
			o := s.operands[i]
			if want, fixed := map[rune]string{'0': "0", '!': "-1"}[c]; fixed {
				if o != want {
					return "", fmt.Errorf("has operand %s, and only %s is known", o, want)
				}
				continue
			}
			text, err := w.address(o)
			if c != 'a' {
				text, err = w.value(o, map[rune]string{'u': "u32", 'i': "i32", 'p': "bool"}[c])
			}
			if err != nil {
				return "", err
			}
			args = append(args, text)
		}
		return fmt.Sprintf(format, args...) + ";", nil
	}
}

// result is a call whose result goes to the first operand.
func result(typ, format, shape string) func(*writer, statement, string) (string, error) {
	return func(w *writer, s statement, rest string) (string, error) {
		if len(s.operands) == 0 {
			return "", s.takes(1 + len(shape))
		}
		to := s.operands[0]
		s.operands = s.operands[1:]
		text, err := call(format, shape)(w, s, rest)
		if err != nil {
			return "", err
		}
		return w.set(to, typ, strings.TrimSuffix(text, ";"))
	}
}

func branch(_ *writer, s statement, _ string) (string, error) {
	if err := s.takes(1); err != nil {
		return "", err
	}
	return "goto " + labelName(s.operands[0]) + ";", nil
}

// convert is cvt[.rounding].to.from.
func convert(w *writer, s statement, rest string) (string, error) {
	switch rest {
	case "f32.f16":
		return w.apply(s, "float", "from_f16", "u16")
	case "rn.f16.f32":
		return w.apply(s, "u16", "to_f16", "float")
	case "rn.bf16x2.f32", "rn.f16x2.f32": // the first operand goes to the upper half
		if err := s.takes(3); err != nil {
			return "", err
		}
		s.operands = []string{s.operands[0], s.operands[2], s.operands[1]}
		return w.apply(s, "u32", map[string]string{"rn.bf16x2.f32": "pack_bf16", "rn.f16x2.f32": "pack_f16"}[rest], "float float")
	}
	function, pair := "cvt", rest
	for _, rounding := range []string{"rn", "rzi"} {
		if p, ok := strings.CutPrefix(rest, rounding+"."); ok {
			function, pair = "cvt_"+rounding, p
		}
	}
	to, from, _ := strings.Cut(pair, ".")
	floats := strings.Count(pair, "f")
	if types[to] == "" || types[from] == "" || (function == "cvt") != (floats == 0 || pair == "f64.f32") {
		return "", errUnknown
	}
	return w.apply(s, types[to], fmt.Sprintf("ptx::%s<%s>", function, types[to]), types[from])
}

// pack is a mov that makes one register of two, or two of one.
func pack(w *writer, s statement, rest string) (string, error) {
	whole, part := map[string]string{"b32": "u32", "b64": "u64"}[rest], map[string]string{"b32": "u16", "b64": "u32"}[rest]
	if err := s.takes(2); err != nil || whole == "" {
		return "", errors.Join(err, errUnknown)
	}
	bits := map[string]int{"b32": 16, "b64": 32}[rest]
	into, from := vector(s.operands[0]), vector(s.operands[1])
	switch {
	case len(into) == 2 && from == nil:
		v, err := w.value(s.operands[1], whole)
		if err != nil {
			return "", err
		}
		lo, err := w.set(into[0], part, fmt.Sprintf("(%s)v", part))
		if err != nil {
			return "", err
		}
		hi, err := w.set(into[1], part, fmt.Sprintf("(%s)(v >> %d)", part, bits))
		return fmt.Sprintf("%s v = %s; %s %s", whole, v, lo, hi), err
	case into == nil && len(from) == 2:
		lo, err := w.value(from[0], part)
		if err != nil {
			return "", err
		}
		hi, err := w.value(from[1], part)
		if err != nil {
			return "", err
		}
		return w.set(s.operands[0], whole, fmt.Sprintf("(%s)(%s | (%s)%s << %d)", whole, lo, whole, hi, bits))
	}
	return "", errUnknown
}

// memory matches what follows ld or st: space, .nc for what the launch does not write; a cache hint, which changes nothing here; number
// and type of elements.
var memory = regexp.MustCompile(`^(global(?:\.nc)?|shared|param)(?:\.L1::no_allocate)?(?:\.v([24]))?\.([a-z0-9]+)$`)

// place is what an access touches.
type place struct {
	space   string
	element string // type
	n       int    // elements
	pointer string
}

func (w *writer) place(rest, operand string) (p place, err error) {
	m := memory.FindStringSubmatch(rest)
	if m == nil || types[m[3]] == "" {
		return p, errUnknown
	}
	p.space, p.element, p.n = m[1], types[m[3]], 1
	whole := p.element
	if m[2] != "" {
		p.n = int(m[2][0] - '0')
		whole = fmt.Sprintf("vec<%s, %d>", p.element, p.n)
	}
	a, err := w.address(operand)
	p.pointer = fmt.Sprintf("%s<%s>(%s)", strings.TrimSuffix(p.space, ".nc"), whole, a)
	if p.space == "param" {
		p.pointer = fmt.Sprintf("param<%s>(&a, sizeof a, %s)", whole, a)
	}
	return p, err
}

func load(w *writer, s statement, rest string) (string, error) {
	if err := s.takes(2); err != nil {
		return "", err
	}
	p, err := w.place(rest, s.operands[1])
	if err != nil {
		return "", err
	}
	read := fmt.Sprintf(map[string]string{"global": "ld(%s)", "global.nc": "ld_stream(%s)", "shared": "sld(%s)", "param": "%s"}[p.space], p.pointer)
	if p.n == 1 {
		return w.set(s.operands[0], p.element, read)
	}
	sets, err := w.setAll(s.operands[0], p.n, p.element, "v.v")
	return fmt.Sprintf("auto v = %s; %s", read, sets), err
}

func store(w *writer, s statement, rest string) (string, error) {
	if err := s.takes(2); err != nil {
		return "", err
	}
	p, err := w.place(rest, s.operands[0])
	if err != nil {
		return "", err
	}
	function, ok := map[string]string{"global": "st", "shared": "sst"}[p.space]
	if !ok {
		return "", errUnknown
	}
	if p.n == 1 {
		v, err := w.value(s.operands[1], p.element)
		return fmt.Sprintf("%s(%s, %s);", function, p.pointer, v), err
	}
	values, err := w.values(s.operands[1], p.n, p.element)
	return fmt.Sprintf("vec<%s, %d> v = {{%s}}; %s(%s, v);", p.element, p.n, values, function, p.pointer), err
}

// copyAsync copies 16 bytes, or fills with zeros if a last operand says so.
func copyAsync(w *writer, s statement, _ string) (string, error) {
	if n := len(s.operands); n != 3 && n != 4 || s.operands[2] != "16" {
		return "", errUnknown
	}
	to, err := w.address(s.operands[0])
	if err != nil {
		return "", err
	}
	from, err := w.address(s.operands[1])
	if err != nil {
		return "", err
	}
	bytes, err := w.value(s.operands[len(s.operands)-1], "u32")
	return fmt.Sprintf("cp_async(%s, %s, %s);", to, from, bytes), err
}

var matrices = regexp.MustCompile(`^sync\.aligned\.m8n8\.x([24])(\.trans)?\.shared\.b16$`)

func loadMatrices(w *writer, s statement, rest string) (string, error) {
	if err := s.takes(2); err != nil {
		return "", err
	}
	m := matrices.FindStringSubmatch(rest)
	if m == nil {
		return "", errUnknown
	}
	row, err := w.address(s.operands[1])
	if err != nil {
		return "", err
	}
	function := "ldm" + m[1]
	if m[2] != "" {
		function += "t"
	}
	sets, err := w.setAll(s.operands[0], int(m[1][0]-'0'), "u32", "m")
	return fmt.Sprintf("u32 m[%s]; %s(m, shared<u8>(%s)); %s", m[1], function, row, sets), err
}

// multiply is an mma: d = a·b + c, in the fragments that tk.h describes.
func multiply(w *writer, s statement, rest string) (string, error) {
	if err := s.takes(4); err != nil {
		return "", err
	}
	function, typ := "", "float"
	switch rest {
	case "sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32":
		function = "mma_bf16"
	case "sync.aligned.m16n8k16.row.col.f32.f16.f16.f32":
		function = "mma_f16"
	case "sync.aligned.m16n8k32.row.col.s32.s8.s8.s32":
		function, typ = "mma_s8", "i32"
	default:
		return "", errUnknown
	}
	a, err := w.values(s.operands[1], 4, "u32")
	if err != nil {
		return "", err
	}
	b, err := w.values(s.operands[2], 2, "u32")
	if err != nil {
		return "", err
	}
	c, err := w.values(s.operands[3], 4, typ)
	if err != nil {
		return "", err
	}
	sets, err := w.setAll(s.operands[0], 4, typ, "c")
	return fmt.Sprintf("%s c[4] = {%s}; u32 a[4] = {%s}, b[2] = {%s}; %s(c, a, b); %s", typ, c, a, b, function, sets), err
}

func shuffle(w *writer, s statement, rest string) (string, error) {
	mode, typ, _ := strings.Cut(rest, ".")
	if typ != "b32" || !slices.Contains([]string{"up", "down", "bfly", "idx"}, mode) {
		return "", errUnknown
	}
	return result("u32", "ptx::shfl_"+mode+"(%s, %s, %s)", "uuu!")(w, s, "")
}
