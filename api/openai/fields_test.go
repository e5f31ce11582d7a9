package openai

import (
	"os"
	"strings"
	"testing"
)

// TestFieldTable holds the table of docs/api.md and the tables of the code equal: every field once, with the same answer
// for both endpoints.
func TestFieldTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][2]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		chat, completions := strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])
		if !strings.Contains(" honoured ignored refused unknown ", " "+chat+" ") {
			continue // another table
		}
		for name := range strings.SplitSeq(cells[1], ",") {
			name = strings.Trim(strings.TrimSpace(name), "`")
			if _, twice := documented[name]; twice {
				t.Errorf("%s is documented twice", name)
			}
			documented[name] = [2]string{chat, completions}
		}
	}
	says := func(name string, table map[string]field) string {
		f, ok := table[name]
		if !ok {
			f, ok = commonFields[name]
		}
		ways := 0
		for _, way := range []bool{f.set != nil, f.ignored != "", f.refused != ""} {
			if way {
				ways++
			}
		}
		if ok && ways != 1 {
			t.Errorf("%s has %d ways of being treated", name, ways)
		}
		switch {
		case !ok:
			return "unknown"
		case f.ignored != "":
			return "ignored"
		case f.refused != "":
			return "refused"
		}
		return "honoured"
	}
	for _, name := range fieldNames() {
		got := [2]string{says(name, chatFields), says(name, completionFields)}
		want, ok := documented[name]
		if !ok {
			t.Errorf("docs/api.md says nothing of %s: it is %s in a chat, %s in a completion", name, got[0], got[1])
		} else if got != want {
			t.Errorf("%s is %v, and docs/api.md says %v", name, got, want)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/api.md documents %s, which the code does not know", name)
	}
}
