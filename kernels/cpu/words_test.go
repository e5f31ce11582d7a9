package cpu

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// assemblers lists commands that assemble for arm64; each is given the object and the source.
var assemblers = [][]string{
	{"aarch64-linux-gnu-as", "-march=armv8.2-a+dotprod", "-o"},
	{"llvm-mc", "-triple=aarch64-linux-gnu", "-mattr=+v8.2a,+dotprod", "-filetype=obj", "-o"},
}

// An instruction that is written as a word is the one its comment names: an independent assembler makes the same word.
func TestWordsAreWhatTheySay(t *testing.T) {
	files, err := filepath.Glob("*_arm64.s")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\tWORD \$(0x[0-9a-f]{8}) // (.+)$`)
	words := map[string]uint64{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := line.FindAllStringSubmatch(string(text), -1)
		if n := strings.Count(string(text), "WORD"); n != len(found) {
			t.Errorf("%s: %d of %d words have no comment", file, n-len(found), n)
		}
		for _, m := range found {
			word, err := strconv.ParseUint(m[1], 0, 32)
			if err != nil {
				t.Fatal(err)
			}
			if before, ok := words[m[2]]; ok && before != word {
				t.Errorf("%s: %s is %#x and %#x", file, m[2], before, word)
			}
			words[m[2]] = word
		}
	}
	var names []string
	for name := range words {
		names = append(names, name)
	}
	checked := false
	for _, command := range assemblers {
		if _, err := exec.LookPath(command[0]); err != nil {
			continue
		}
		checked = true
		for i, word := range assemble(t, command, names) {
			if want := words[names[i]]; uint64(word) != want {
				t.Errorf("%s: written as %#08x, but %s makes %#08x", names[i], want, command[0], word)
			}
		}
	}
	if !checked {
		t.Skip("no assembler for arm64 (binutils-aarch64-linux-gnu or llvm) is installed")
	}
}

// assemble returns the words of instructions.
func assemble(t *testing.T, command, instructions []string) []uint32 {
	t.Helper()
	source, object := filepath.Join(t.TempDir(), "words.s"), filepath.Join(t.TempDir(), "words.o")
	if err := os.WriteFile(source, []byte(strings.Join(instructions, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(append([]string(nil), command[1:]...), object, source)
	if out, err := exec.Command(command[0], args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[0], err, out)
	}
	f, err := elf.Open(object)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := f.Section(".text").Data()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) != 4*len(instructions) {
		t.Fatalf("%s: %d instructions became %d bytes", command[0], len(instructions), len(text))
	}
	words := make([]uint32, len(instructions))
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(text[4*i:])
	}
	return words
}
