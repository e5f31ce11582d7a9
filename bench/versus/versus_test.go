package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// asProgram in the environment makes the test binary a program that measures: it prints the results that the variable
// holds for each test, and writes down what it was called with.
const asProgram = "ECKART_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if folder := os.Getenv(asProgram); folder != "" {
		pretend(folder)
	}
	os.Exit(m.Run())
}

// pretend is a program whose rate is 100 for ours and 50 for the peer's, plus the depth, plus the turn.
func pretend(folder string) {
	log := filepath.Join(folder, "calls")
	before, _ := os.ReadFile(log) // absent at first
	args := strings.Join(os.Args[1:], " ")
	if err := os.WriteFile(log, append(before, args+"\n"...), 0o600); err != nil {
		panic(err)
	}
	arg := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	base := 50
	if os.Args[1] == "bench" {
		base = 100
	}
	turn := bytes.Count(before, []byte("\n"))
	var results []string
	for d := range strings.SplitSeq(arg("-d"), ",") {
		results = append(results, fmt.Sprintf(`{"n_prompt": %s, "n_gen": %s, "n_depth": %s, "build_commit": "b%d", "cpu_info": "c",
			"samples_ts": [1, %d, 1000000], "bytes_per_token": 3000000, "cache_bytes_per_token": 1000000, "read_share": 0.5}`,
			arg("-p"), arg("-n"), d, base, base+turn))
	}
	fmt.Printf("[%s]", strings.Join(results, ","))
	os.Exit(0)
}

// TestCompare runs two programs in turns and reads the table.
func TestCompare(t *testing.T) {
	folder := t.TempDir()
	t.Setenv(asProgram, folder)
	var out bytes.Buffer
	ours := &side{"ours", os.Args[0], []string{"bench", "MODEL"}}
	theirs := &side{"peer", os.Args[0], []string{"-m", "FILE"}}
	p := plan{prompt: 512, tokens: 64, depths: []int{0, 4096}, threads: []int{2}, repeat: 3, turns: 3}
	if err := compare(&out, ours, theirs, ggufModel{read: 5e6}, p); err != nil {
		t.Fatal(err)
	}
	// Twelve calls: 0 and 1 are of the prompt, 2 and 3 of generation, ours before the peer's.
	want := "ours: b100, c, `bench MODEL`\npeer: build b50, `-m FILE`\n\n" +
		"| threads | test | ours t/s | peer t/s | ratio | ours, MB a token | peer | of the read rate | ours, each turn | peer, each turn |\n" +
		"|---:|---|---:|---:|---:|---:|---:|---:|---|---|\n" +
		"| 2 | pp512 | 104.0 | 55.0 | 1.89 | | | | 100.0,104.0,108.0 | 51.0,55.0,59.0 |\n" +
		"| 2 | tg64 | 106.0 | 57.0 | 1.86 | 3.0 | 6.0 | 50 % | 102.0,106.0,110.0 | 53.0,57.0,61.0 |\n" +
		"| 2 | tg64 @ d4096 | 106.0 | 57.0 | 1.86 | 3.0 | 6.0 | 50 % | 102.0,106.0,110.0 | 53.0,57.0,61.0 |\n"
	if out.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", out.String(), want)
	}
	calls, err := os.ReadFile(filepath.Join(folder, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(calls), "\n")
	if len(lines) != 13 || lines[0] != "bench MODEL -p 512 -n 0 -d 0 -t 2 -r 3" || lines[3] != "-m FILE -p 0 -n 64 -d 0,4096 -t 2 -r 3" {
		t.Errorf("calls:\n%s", calls)
	}
}

// TestCompareRefusals: a program that fails, and one that prints something else.
func TestCompareRefusals(t *testing.T) {
	p := plan{prompt: 1, threads: []int{1}, repeat: 1, turns: 1}
	for program, want := range map[string]string{"false": "run false", "echo": "read output of echo", "/no/such/program": "no such file"} {
		s := &side{"ours", program, nil}
		if err := compare(&bytes.Buffer{}, s, s, ggufModel{}, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", program, err, want)
		}
	}
	if _, err := numbers("d", "0,x", 0); err == nil || !strings.Contains(err.Error(), "-d") {
		t.Errorf("error %v, want one that names the flag", err)
	}
	if _, err := numbers("t", "0", 1); err == nil {
		t.Error("no threads are taken")
	}
}

// ggufFile writes a header with some metadata of every kind, and tensors that end at the given offsets.
func ggufFile(align uint32, names []string, ends []uint64) []byte {
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	text := func(s string) {
		put(uint64(len(s)))
		b.WriteString(s)
	}
	b.WriteString("GGUF")
	put(uint32(3))
	put(uint64(len(names)))
	put(uint64(4))
	text("general.alignment")
	put(uint32(4))
	put(align)
	text("general.name")
	put(uint32(ggufString))
	text("a model")
	text("scores")
	put(uint32(ggufArray))
	put(uint32(6))
	put(uint64(3))
	b.Write(make([]byte, 12))
	text("tokens")
	put(uint32(ggufArray))
	put(uint32(ggufString))
	put(uint64(2))
	text("a")
	text("bc")
	at := uint64(0)
	for i, name := range names {
		text(name)
		put(uint32(2))
		put([2]uint64{8, 8})
		put(uint32(1))
		put(at)
		at = ends[i]
	}
	if rest := b.Len() % int(align); rest > 0 {
		b.Write(make([]byte, int(align)-rest))
	}
	b.Write(make([]byte, at))
	return b.Bytes()
}

func TestGGUF(t *testing.T) {
	for _, c := range []struct {
		names         []string
		ends          []uint64
		tensors, read int64
	}{
		{[]string{"token_embd.weight", "blk.0.attn_q.weight"}, []uint64{640, 1024}, 1024, 1024},
		{[]string{"token_embd.weight", "output.weight", "blk.0.attn_q.weight"}, []uint64{640, 1280, 2048}, 2048, 1408},
		{[]string{"output.weight", "token_embd.weight"}, []uint64{640, 1024}, 1024, 640},
	} {
		for _, align := range []uint32{32, 64} {
			file := ggufFile(align, c.names, c.ends)
			m, err := parseGGUF(bytes.NewReader(file), int64(len(file)))
			if err != nil || m.tensors != c.tensors || m.read != c.read {
				t.Errorf("%q aligned to %d: %+v, error %v, want %d and %d", c.names, align, m, err, c.tensors, c.read)
			}
			for _, n := range []int{0, 3, 6, 30, 100, 150} {
				if _, err := parseGGUF(bytes.NewReader(file[:n]), int64(n)); err == nil {
					t.Errorf("%d bytes of a header are taken", n)
				}
			}
		}
	}
	if _, err := parseGGUF(strings.NewReader("safetensors"), 11); err == nil || !strings.Contains(err.Error(), "GGUF") {
		t.Errorf("error %v", err)
	}
}
