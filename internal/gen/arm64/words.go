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

// FMLAElement adds the products of n with element i of m to d, FMLSElement subtracts them, FMULElement sets d to them.
func (f *Func) FMLAElement(d, n, m V, i int) {
	f.word(0x4f801000|element(m, i)|uint32(n)<<5|uint32(d), "fmla v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, i)
}

func (f *Func) FMLSElement(d, n, m V, i int) {
	f.word(0x4f805000|element(m, i)|uint32(n)<<5|uint32(d), "fmls v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, i)
}

func (f *Func) FMULElement(d, n, m V, i int) {
	f.word(0x4f809000|element(m, i)|uint32(n)<<5|uint32(d), "fmul v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, i)
}

// FADDP adds neighbours: of n, then of m. FMAXV sets d to the largest. FCVTNS and FRINTN round to nearest, ties to even.

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

// Products of signed bytes.

// SDOTElement adds to each word of d the four products of its bytes in n with the four bytes of element i of m. Only
// processors with the dot products have it.
func (f *Func) SDOTElement(d, n, m V, i int) {
	f.word(0x4f80e000|element(m, i)|uint32(n)<<5|uint32(d), "sdot v%d.4s, v%d.16b, v%d.4b[%d]", d, n, m, i)
}

// SMULL and SMLAL take the lower halves of n and m, SMULL2 and SMLAL2 the upper ones; products have 16 bits.
func (f *Func) SMULL(d, n, m V)  { f.long(0x0e20c000, "smull", "8b", d, n, m) }
func (f *Func) SMULL2(d, n, m V) { f.long(0x4e20c000, "smull2", "16b", d, n, m) }
func (f *Func) SMLAL(d, n, m V)  { f.long(0x0e208000, "smlal", "8b", d, n, m) }
func (f *Func) SMLAL2(d, n, m V) { f.long(0x4e208000, "smlal2", "16b", d, n, m) }

func (f *Func) long(word uint32, name, from string, d, n, m V) {
	f.word(word|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s v%d.8h, v%d.%s, v%d.%s", name, d, n, from, m, from)
}

// SADDLP adds neighbours of 16 bits to words; SADALP adds them to d.
func (f *Func) SADDLP(d, n V) { f.two(0x4e602800, "saddlp", "4s", "8h", d, n) }
func (f *Func) SADALP(d, n V) { f.two(0x4e606800, "sadalp", "4s", "8h", d, n) }

// MULElement sets d to n times element i of m, in words; MLAElement adds it.
func (f *Func) MULElement(d, n, m V, i int) {
	f.word(0x4f808000|element(m, i)|uint32(n)<<5|uint32(d), "mul v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, i)
}

func (f *Func) MLAElement(d, n, m V, i int) {
	f.word(0x6f800000|element(m, i)|uint32(n)<<5|uint32(d), "mla v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, i)
}

// UMAXV sets d to the largest word of n.
func (f *Func) UMAXV(d, n V) { f.word(0x6eb0a800|uint32(n)<<5|uint32(d), "umaxv s%d, v%d.4s", d, n) }

// SSHR shifts words right by n, keeping the sign.
func (f *Func) SSHR(d, from V, n int) {
	f.word(0x4f000400|uint32(64-n)<<16|uint32(from)<<5|uint32(d), "sshr v%d.4s, v%d.4s, #%d", d, from, n)
}
