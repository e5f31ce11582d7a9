//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

// groupedFor returns the code for isa. AVX-512 without VNNI has nothing over AVX2 here.
func groupedFor(isa ISA) groupedCode {
	switch {
	case isa == AVX512 && cpu.X86.HasAVX512VNNI:
		return groupedCode{
			panel:   16,
			record:  recordAVX2,
			streams: [9]streamsFunc{2: streams2AVX512VNNI, 3: streams3AVX512VNNI, 4: streams4AVX512VNNI, 8: streams8AVX512VNNI},
			some:    [9]groupedFunc{2: products2AVX512VNNI, 3: products3AVX512VNNI, 4: products4AVX512VNNI, 8: products8AVX512VNNI},
			unpack:  [9]unpackFunc{2: unpack2AVX512VNNI, 3: unpack3AVX512VNNI, 4: unpack4AVX512VNNI, 8: unpack8AVX512VNNI},
			floats:  floatsAVX512VNNI,
		}
	case isa == AVX512 || isa == AVX2:
		return groupedCode{
			panel:   8,
			record:  recordAVX2,
			streams: [9]streamsFunc{2: streams2AVX2, 3: streams3AVX2, 4: streams4AVX2, 8: streams8AVX2},
			some:    [9]groupedFunc{2: products2AVX2, 3: products3AVX2, 4: products4AVX2, 8: products8AVX2},
			unpack:  [9]unpackFunc{2: unpack2AVX2, 3: unpack3AVX2, 4: unpack4AVX2, 8: unpack8AVX2},
			floats:  floatsAVX2,
		}
	}
	return groupedGeneric()
}
