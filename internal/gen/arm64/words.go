package arm64

// The instructions that Go's assembler does not know, by their names in the manual (Arm Architecture Reference Manual for
// A-profile, C7.2). Operands come in the manual's order, the destination first.

// three writes an instruction of three registers of one arrangement.
func (f *Func) three(word uint32, name, arrangement string, d, n, m V) {
	f.word(word|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s, v%d.%s", name, d, arrangement, n, arrangement, m, arrangement)
}

// two writes an instruction of two registers.
func (f *Func) two(word uint32, name, to, from string, d, n V) {
	f.word(word|uint32(n)<<5|uint32(d), "%s v%d.%s, v%d.%s", name, d, to, n, from)
}

// element returns the bits of element i of a vector of four.
func element(m V, i int) uint32 { return uint32(m)<<16 | uint32(i&1)<<21 | uint32(i>>1)<<11 }

// Arithmetic on four F32.

func (f *Func) FADD(d, n, m V)  { f.three(0x4e20d400, "fadd", "4s", d, n, m) }
func (f *Func) FSUB(d, n, m V)  { f.three(0x4ea0d400, "fsub", "4s", d, n, m) }
func (f *Func) FMUL(d, n, m V)  { f.three(0x6e20dc00, "fmul", "4s", d, n, m) }
func (f *Func) FDIV(d, n, m V)  { f.three(0x6e20fc00, "fdiv", "4s", d, n, m) }
func (f *Func) FMAX(d, n, m V)  { f.three(0x4e20f400, "fmax", "4s", d, n, m) }
func (f *Func) FMIN(d, n, m V)  { f.three(0x4ea0f400, "fmin", "4s", d, n, m) }
func (f *Func) FADDP(d, n, m V) { f.three(0x6e20d400, "faddp", "4s", d, n, m) }
func (f *Func) FMAXV(d, n V)    { f.word(0x6e30f800|uint32(n)<<5|uint32(d), "fmaxv s%d, v%d.4s", d, n) }
func (f *Func) FCMEQ(d, n, m V) { f.three(0x4e20e400, "fcmeq", "4s", d, n, m) }
func (f *Func) FRINTN(d, n V)   { f.two(0x4e218800, "frintn", "4s", "4s", d, n) }
func (f *Func) FCVTNS(d, n V)   { f.two(0x4e21a800, "fcvtns", "4s", "4s", d, n) }
func (f *Func) SCVTF(d, n V)    { f.two(0x4e21d800, "scvtf", "4s", "4s", d, n) }

// FMLAElement adds the products of n with element i of m to d, FMULElement sets d to them.
func (f *Func) FMLAElement(d, n, m V, i int) {
	f.word(0x4f801000|element(m, i)|uint32(n)<<5|uint32(d), "fmla v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, i)
}

func (f *Func) FMULElement(d, n, m V, i int) {
	f.word(0x4f809000|element(m, i)|uint32(n)<<5|uint32(d), "fmul v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, i)
}

// Conversions between halves and F32; those that end in 2 take, or fill, the upper half of the vector of halves.

func (f *Func) FCVTL(d, n V)  { f.two(0x0e217800, "fcvtl", "4s", "4h", d, n) }
func (f *Func) FCVTL2(d, n V) { f.two(0x4e217800, "fcvtl2", "4s", "8h", d, n) }
func (f *Func) FCVTN(d, n V)  { f.two(0x0e216800, "fcvtn", "4h", "4s", d, n) }
func (f *Func) FCVTN2(d, n V) { f.two(0x4e216800, "fcvtn2", "8h", "4s", d, n) }

// SHLL widens halves to words and shifts them left by 16, which makes BF16 F32.
func (f *Func) SHLL(d, n V) {
	f.word(0x2e613800|uint32(n)<<5|uint32(d), "shll v%d.4s, v%d.4h, #16", d, n)
}

func (f *Func) SHLL2(d, n V) {
	f.word(0x6e613800|uint32(n)<<5|uint32(d), "shll2 v%d.4s, v%d.8h, #16", d, n)
}

// LoadHalf loads 2 bytes at r into the lowest element, clears the others, and moves r on.
func (f *Func) LoadHalf(r X, d V) {
	f.word(0x7c402400|uint32(r)<<5|uint32(d), "ldr h%d, [x%d], #2", d, r)
}
