//go:build !purego

package cpu

// groupedFor returns the code for isa.
func groupedFor(isa ISA) groupedCode {
	c := groupedCode{
		panel:  8,
		record: recordNEON,
		unpack: [9]unpackFunc{2: unpack2NEON, 3: unpack3NEON, 4: unpack4NEON, 8: unpack8NEON},
		floats: floatsNEON,
	}
	switch isa {
	case NEONDotProd:
		c.one = [9]groupedFunc{2: product2NEONDotProd, 3: product3NEONDotProd, 4: product4NEONDotProd, 8: product8NEONDotProd}
		c.some = [9]groupedFunc{2: products2NEONDotProd, 3: products3NEONDotProd, 4: products4NEONDotProd, 8: products8NEONDotProd}
	case NEON:
		c.one = [9]groupedFunc{2: product2NEON, 3: product3NEON, 4: product4NEON, 8: product8NEON}
		c.some = [9]groupedFunc{2: products2NEON, 3: products3NEON, 4: products4NEON, 8: products8NEON}
	default:
		return groupedGeneric()
	}
	return c
}
