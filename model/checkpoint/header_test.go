package checkpoint_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"eckart/model/checkpoint"
)

// shard returns the bytes of a safetensors file of that header, with dataBytes
// bytes after it.
func shard(header string, dataBytes int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range dataBytes {
		b = append(b, byte(i))
	}
	return b
}

// declare returns the header of one tensor called t.
func declare(dtype, shape, offsets string) string {
	return fmt.Sprintf(`{"t":{"dtype":%s,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
}

// length returns a file that begins with the length n and has size bytes.
func length(n uint64, size int) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), make([]byte, size-8)...)
}

// writeFile writes a file into a fresh folder and returns its path.
func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustFail opens path and checks that the error names every want, and that the
// refusal allocated at most limit bytes.
func mustFail(t *testing.T, path string, limit uint64, want ...string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := checkpoint.Open(path)
	runtime.ReadMemStats(&after)
	if err == nil {
		_ = c.Close()
		t.Fatalf("opened with tensors %q, want an error", c.Names())
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not contain %q", err, w)
		}
	}
	if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x00") {
		t.Errorf("error is not one short sentence: %q", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > limit {
		t.Errorf("allocated %d bytes, want at most %d", got, limit)
	}
}

// smallRefusal bounds the bytes allocated to refuse a file of a few bytes.
const smallRefusal = 256 << 10

// TestBadHeaders holds the bad inputs F1 to F7. Each error names the file and
// the rule.
func TestBadHeaders(t *testing.T) {
	const ok = `"dtype":"F32","shape":[1],"data_offsets":[0,4]`
	rows := []struct {
		name string
		file []byte
		want string
	}{
		{"F1 empty file", nil, "want at least 8 bytes, the file has 0"},
		{"F1 seven bytes", make([]byte, 7), "want at least 8 bytes, the file has 7"},
		{"F1 length 0", length(0, 8), "header says it has 0 bytes, want at least 2"},
		{"F1 length 1", shard("{", 0), "header says it has 1 bytes, want at least 2"},

		{"F2 all ones", length(1<<64-1, 64), "header says it has 18446744073709551615 bytes, want at most 16777216"},
		{"F2 2^63", length(1<<63, 64), "header says it has 9223372036854775808 bytes"},
		{"F2 100 MB + 1", length(100_000_001, 64), "header says it has 100000001 bytes, want at most"},
		{"F2 file size - 7", length(100-7, 100), "header says it has 93 bytes, the file has 92"},

		{"F3 array", shard("[]", 0), "want { as the first byte, have '['"},
		{"F3 null", shard("null", 0), "want { as the first byte, have 'n'"},
		{"F3 string", shard(`"x"`, 0), "want { as the first byte"},
		{"F3 leading space", shard(" {}", 0), "want { as the first byte, have ' '"},
		{"F3 byte order mark", shard("\ufeff{}", 0), "want { as the first byte"},
		{"F3 invalid UTF-8", shard("{\"\xff\":{"+ok+"}}", 4), "want UTF-8"},
		{"F3 trailing newline", shard("{}\n", 0), "want only spaces after the closing brace, have '\\n'"},
		{"F3 trailing NUL", shard("{}\x00", 0), "want only spaces after the closing brace"},
		{"F3 trailing object", shard("{}{}", 0), "want only spaces after the closing brace"},
		{"F3 cut", shard(`{"t":{"dtype":"F32","sha`, 4), "want a closing quote, have the end"},
		{"F3 trailing comma", shard(`{"t":{`+ok+`},}`, 4), "want a key in double quotes"},
		{"F3 lone surrogate", shard(`{"\ud800":{`+ok+`}}`, 4), "want both halves of a surrogate pair"},
		{"F3 bad escape", shard(`{"\x41":{`+ok+`}}`, 4), "want an escape of JSON"},
		{"F3 control character", shard("{\"a\tb\":{"+ok+"}}", 4), "without control characters"},

		{"F4 duplicate tensor", shard(`{"t":{`+ok+`},"t":{`+ok+`}}`, 4), `"t" occurs twice`},
		{"F4 duplicate tensor by escape", shard(`{"t":{`+ok+`},"\u0074":{`+ok+`}}`, 4), `"t" occurs twice`},
		{"F4 duplicate metadata", shard(`{"__metadata__":{},"__metadata__":{}}`, 0), `"__metadata__" occurs twice`},
		{"F4 duplicate metadata key", shard(`{"__metadata__":{"a":"1","a":"2"}}`, 0), `"a" occurs twice`},
		{"F4 metadata number", shard(`{"__metadata__":{"a":1}}`, 0), `__metadata__: "a": at byte 21: want a string, have '1'`},
		{"F4 metadata list", shard(`{"__metadata__":[]}`, 0), "__metadata__: at byte 16: want an object"},
		{"F4 duplicate dtype", shard(`{"t":{"dtype":"F64",`+ok+`}}`, 4), "dtype occurs twice"},
		{"F4 duplicate shape", shard(`{"t":{"shape":[1],`+ok+`}}`, 4), "shape occurs twice"},
		{"F4 duplicate offsets", shard(`{"t":{"data_offsets":[0,4],`+ok+`}}`, 4), "data_offsets occurs twice"},

		{"F5 unknown dtype", shard(declare(`"F7"`, "[1]", "[0,4]"), 4), `tensor "t": dtype "F7" is unknown`},
		{"F5 lower case", shard(declare(`"f32"`, "[1]", "[0,4]"), 4), `dtype "f32" is unknown`},
		{"F5 missing dtype", shard(`{"t":{"shape":[1],"data_offsets":[0,4]}}`, 4), "dtype is missing"},
		{"F5 missing shape", shard(`{"t":{"dtype":"F32","data_offsets":[0,4]}}`, 4), "shape is missing"},
		{"F5 missing offsets", shard(`{"t":{"dtype":"F32","shape":[1]}}`, 4), "data_offsets is missing"},
		{"F5 number as dtype", shard(declare("32", "[1]", "[0,4]"), 4), "dtype: at byte 14: want a string"},
		{"F5 extra key", shard(`{"t":{`+ok+`,"strides":[1]}}`, 4), `field "strides" is unknown`},
		{"F5 tensor is a number", shard(`{"t":1}`, 4), `tensor "t": at byte 5: want an object`},

		{"F6 negative", shard(declare(`"F32"`, "[-1]", "[0,4]"), 4), "shape: at byte 29: want a natural number, have '-'"},
		{"F6 fraction", shard(declare(`"F32"`, "[1.5]", "[0,4]"), 4), "want a natural number without fraction or exponent"},
		{"F6 exponent", shard(declare(`"F32"`, "[1e30]", "[0,4]"), 4), "want a natural number without fraction or exponent"},
		{"F6 leading zero", shard(declare(`"F32"`, "[01]", "[0,4]"), 4), "want a natural number"},
		{"F6 2^63", shard(declare(`"F32"`, "[9223372036854775808]", "[0,4]"), 4), "want a natural number below 2^63"},
		{"F6 2^64 + 1", shard(declare(`"F32"`, "[18446744073709551617]", "[0,4]"), 4), "want a natural number below 2^63"},
		{"F6 product wraps", shard(declare(`"F32"`, "[4294967296,4294967296]", "[0,0]"), 0), "has a product that overflows"},
		{"F6 product wraps beside 0", shard(declare(`"F32"`, "[0,4294967296,4294967296]", "[0,0]"), 0), "has a product that overflows"},
		{"F6 bytes wrap", shard(declare(`"F32"`, "[4611686018427387904]", "[0,0]"), 0), "more bytes than can be counted"},
		{"F6 300 dimensions", shard(declare(`"F32"`, "["+strings.Repeat("1,", 299)+"1]", "[0,4]"), 4), "more than 32 dimensions"},
		{"F6 null", shard(declare(`"F32"`, "null", "[0,4]"), 4), "shape: at byte 28: want an array"},
		{"F6 half a byte", shard(declare(`"F4"`, "[3]", "[0,2]"), 2), "shape [3] of F4 ends within a byte"},
		{"F6 six bits", shard(declare(`"F6_E2M3"`, "[2]", "[0,2]"), 2), "ends within a byte"},

		{"F7 begin after end", shard(declare(`"F32"`, "[1]", "[10,5]"), 10), "begin 10 is after end 5"},
		{"F7 beyond the end", shard(declare(`"F32"`, "[2]", "[0,8]"), 4), "the file is cut: its tensors need 8 bytes after the header, it has 4"},
		{"F7 far beyond the end", shard(declare(`"U8"`, "[9223372036854775807]", "[0,9223372036854775807]"), 4), "more bytes than can be counted"},
		{"F7 very far beyond the end", shard(declare(`"U8"`, "[1152921504606846975]", "[0,1152921504606846975]"), 4), "the file is cut"},
		{"F7 overlap", shard(`{"a":{`+ok+`},"b":{"dtype":"F32","shape":[1],"data_offsets":[3,7]}}`, 7), `tensors "a" and "b" overlap by 1 bytes`},
		{"F7 the same bytes twice", shard(`{"a":{`+ok+`},"b":{`+ok+`}}`, 4), `tensors "a" and "b" overlap by 4 bytes`},
		{"F7 hole", shard(`{"a":{`+ok+`},"b":{"dtype":"F32","shape":[1],"data_offsets":[5,9]}}`, 9), `hole of 1 bytes before tensor "b"`},
		{"F7 first is not 0", shard(declare(`"F32"`, "[1]", "[1,5]"), 5), `hole of 1 bytes before tensor "t"`},
		{"F7 bytes left over", shard(declare(`"F32"`, "[1]", "[0,4]"), 5), "the file is too long: its tensors need 4 bytes after the header, it has 5"},
		{"F7 span unlike shape", shard(declare(`"F32"`, "[2]", "[0,4]"), 4), "data_offsets span 4 bytes, dtype F32 and shape [2] need 8"},
		{"F7 strings", shard(declare(`"F32"`, "[1]", `["0","4"]`), 4), "data_offsets: at byte 48: want a natural number"},
		{"F7 one number", shard(declare(`"F32"`, "[1]", "[0]"), 4), "want begin and end, have 1 numbers"},
		{"F7 three numbers", shard(declare(`"F32"`, "[1]", "[0,4,8]"), 4), "want begin and end, have 3 numbers"},
		{"F7 empty tensor inside another", shard(`{"a":{`+ok+`},"b":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}}`, 4), "overlap"},

		{"F9 nested in a tensor", shard(`{"t":`+strings.Repeat("[", 10_000), 0), `tensor "t": at byte 5: want an object`},
		{"F9 nested objects", shard(strings.Repeat(`{"t":`, 10_000), 0), `field "t" is unknown`},
		{"F9 nested in a shape", shard(declare(`"F32"`, strings.Repeat("[", 10_000), "[0,4]"), 4), "want a natural number, have '['"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			path := writeFile(t, "bad.safetensors", row.file)
			mustFail(t, path, smallRefusal+4*uint64(len(row.file)), path, "bad.safetensors", row.want)
		})
	}
}

// TestF9ManyTensors holds the bad input F9 of millions of tensors: one that
// fails by the length of its header alone, and one that the cap on tensors stops.
func TestF9ManyTensors(t *testing.T) {
	path := writeFile(t, "many.safetensors", length(100_000_000, 8))
	if err := os.Truncate(path, 100_000_008); err != nil {
		t.Fatal(err)
	}
	mustFail(t, path, smallRefusal, path, "header says it has 100000000 bytes, want at most 16777216")

	var b strings.Builder
	b.WriteString(`{"__metadata__":{}`)
	for i := range 200_001 {
		fmt.Fprintf(&b, `,"%d":{"dtype":"U8","shape":[],"data_offsets":[%d,%d]}`, i, i, i+1)
	}
	b.WriteByte('}')
	path = writeFile(t, "many.safetensors", shard(b.String(), 0))
	mustFail(t, path, 96<<20, path, "more than 200000 tensors")
}

// TestF8Legal holds F8: odd files that the format allows, which must load.
func TestF8Legal(t *testing.T) {
	rows := []struct {
		name  string
		file  []byte
		want  string // the tensors, printed
		bytes int64
	}{
		{"scalar", shard(declare(`"F32"`, "[]", "[0,4]"), 4), "t F32 [] 4 bytes 1 elements", 4},
		{"no elements", shard(declare(`"F32"`, "[0]", "[0,0]"), 0), "t F32 [0] 0 bytes 0 elements", 0},
		{"no rows", shard(declare(`"BF16"`, "[0, 4096]", "[0,0]"), 0), "t BF16 [0 4096] 0 bytes 0 elements", 0},
		{"padded header", shard(declare(`"U8"`, "[3]", "[0,3]")+"        ", 3), "t U8 [3] 3 bytes 3 elements", 3},
		{"odd length", shard(declare(`"F32"`, "[1]", "[0,4]")+" ", 4), "t F32 [1] 4 bytes 1 elements", 4},
		{"no tensor", shard("{}", 0), "", 0},
		{"metadata only", shard(`{"__metadata__":{"format":"pt"}}`, 0), "", 0},
		{"metadata null", shard(`{"__metadata__":null}`, 0), "", 0},
		{"white space within", shard("{ \"t\" :\n{\t\"dtype\": \"I64\",\r\n\"shape\": [ 1 ], \"data_offsets\": [ 0 , 8 ] } }", 8), "t I64 [1] 8 bytes 1 elements", 8},
		{"out of order", shard(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},`+
			`"c":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}`, 5), "a F32 [1] 4 bytes 1 elements, b U8 [1] 1 bytes 1 elements, c U8 [0] 0 bytes 0 elements", 5},
		{"escaped name", shard(`{"\u0041\n\ud83d\ude00\/":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "A\n😀/ U8 [1] 1 bytes 1 elements", 1},
		{
			"wide types", shard(`{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"F4","shape":[1,2],"data_offsets":[2,3]},`+
				`"c":{"dtype":"F6_E3M2","shape":[4],"data_offsets":[3,6]},"d":{"dtype":"C64","shape":[1],"data_offsets":[6,14]}}`, 14),
			"a F8_E4M3 [2] 2 bytes 2 elements, b F4 [1 2] 1 bytes 2 elements, c F6_E3M2 [4] 3 bytes 4 elements, d C64 [1] 8 bytes 1 elements", 14,
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c, err := checkpoint.Open(writeFile(t, "odd.safetensors", row.file))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var have []string
			for _, name := range c.Names() {
				x, _ := c.Tensor(name)
				have = append(have, fmt.Sprintf("%s %s %v %d bytes %d elements", x.Name, x.Type, x.Shape, x.Bytes(), x.Elements()))
				// The bytes count up from 0, so they tell where they lie.
				dst := make([]byte, x.Bytes())
				if err := c.ReadAt(dst, x, 0); err != nil {
					t.Error(err)
				}
			}
			if got := strings.Join(have, ", "); got != row.want {
				t.Errorf("tensors are %q, want %q", got, row.want)
			}
			if c.Bytes() != row.bytes {
				t.Errorf("%d bytes in all, want %d", c.Bytes(), row.bytes)
			}
		})
	}
}

// TestUnsupported checks that types are told apart by name: three that can be
// used, all others refused with tensor and type.
func TestUnsupported(t *testing.T) {
	bitSizes := map[checkpoint.DType]int{
		checkpoint.Bool: 8, checkpoint.U8: 8, checkpoint.I8: 8, checkpoint.U16: 16, checkpoint.I16: 16, checkpoint.F16: 16,
		checkpoint.BF16: 16, checkpoint.U32: 32, checkpoint.I32: 32, checkpoint.F32: 32, checkpoint.U64: 64, checkpoint.I64: 64,
		checkpoint.F64: 64, checkpoint.C64: 64, checkpoint.F8E4M3: 8, checkpoint.F8E5M2: 8, checkpoint.F8E8M0: 8,
		checkpoint.F8E4M3FNUZ: 8, checkpoint.F8E5M2FNUZ: 8, checkpoint.F6E2M3: 6, checkpoint.F6E3M2: 6, checkpoint.F4: 4,
	}
	for _, dtype := range slices.Sorted(maps.Keys(bitSizes)) {
		if got := dtype.BitSize(); got != bitSizes[dtype] {
			t.Errorf("%s has %d bits, want %d", dtype, got, bitSizes[dtype])
		}
		// Eight elements fill whole bytes whatever the type.
		size := dtype.BitSize()
		path := writeFile(t, "x.safetensors", shard(declare(`"`+string(dtype)+`"`, "[8]", fmt.Sprintf("[0,%d]", size)), size))
		c, err := checkpoint.Open(path)
		if err != nil {
			t.Errorf("%s: %v", dtype, err)
			continue
		}
		x, _ := c.Tensor("t")
		err = x.Unsupported()
		switch dtype {
		case checkpoint.F32, checkpoint.F16, checkpoint.BF16:
			if err != nil {
				t.Errorf("%s: %v", dtype, err)
			}
		default:
			want := fmt.Sprintf(`use tensor "t" of shard x.safetensors: unsupported tensor type %s, want F32, F16 or BF16`, dtype)
			if err == nil || err.Error() != want {
				t.Errorf("%s: error is %q, want %q", dtype, err, want)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
