package runtime

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"eckart/kernels"
	"eckart/kvcache"
)

// script runs a file of testdata: one command a line, # for comments.
//
//	cache blocks=8 tokens=4      a cache; first line, with slots and budget after it
//	slots 2
//	budget 16                    most tokens of a step
//	submit a prompt=10 max=3     a request; like=b:8 takes its first 8 tokens from b's prompt, salt=x salts it
//	refuse a prompt=99 max=3     a request that submit refuses
//	cancel a
//	stop a                       the next token sampled for a is its last; fail a: there is none
//	step                         plan, start, finish
//	expect a 0+8 b 9+1*          what that step computed: from+n, * when it sampled
//	preempted b, finished a, running a b, waiting c, used 5, cached a 8
type script struct {
	t      *testing.T
	sched  *scheduler
	budget int
	all    map[string]*sequence
	stops  map[string]bool
	fails  map[string]bool
	last   map[string]string // what the last step did, by command
}

func newTestCache(t testing.TB, blockTokens, blocks int) *kvcache.Cache {
	t.Helper()
	c, err := kvcache.New(&kernels.Counter{}, []kvcache.Spec{{Heads: 1, KeyDim: 1, ValueDim: 1}}, kernels.F16, blockTokens, blocks)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *script) run(path string) {
	f, err := os.Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	for n := 1; scan.Scan(); n++ {
		text, _, _ := strings.Cut(scan.Text(), "#")
		if words := strings.Fields(text); len(words) > 0 {
			if err := s.line(words); err != nil {
				s.t.Fatalf("%s:%d: %s: %v", path, n, strings.TrimSpace(text), err)
			}
		}
	}
}

func (s *script) line(words []string) error {
	set := map[string]string{}
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			set[k] = v
		}
	}
	number := func(key string) int {
		n, err := strconv.Atoi(set[key])
		if err != nil {
			s.t.Fatalf("%v: %v", words, err)
		}
		return n
	}
	switch command, rest := words[0], words[1:]; command {
	case "cache":
		s.sched = newScheduler(newTestCache(s.t, number("tokens"), number("blocks")), 1)
	case "slots":
		s.sched.slots, _ = strconv.Atoi(rest[0])
	case "budget":
		s.budget, _ = strconv.Atoi(rest[0])
	case "submit", "refuse":
		prompt := testPrompt(rest[0], number("prompt"))
		if like, n, ok := strings.Cut(set["like"], ":"); ok {
			n, _ := strconv.Atoi(n)
			copy(prompt, s.all[like].tokens[:n])
		}
		q := newSequence(rest[0], s.sched.cache, set["salt"], prompt, len(prompt)+number("max"))
		if err := s.sched.submit(q); (err != nil) != (command == "refuse") {
			return fmt.Errorf("submit: %v", err)
		}
		s.all[rest[0]] = q
	case "cancel":
		if !s.sched.cancel(s.all[rest[0]]) {
			return fmt.Errorf("it is not there")
		}
	case "stop":
		s.stops[rest[0]] = true
	case "fail":
		s.fails[rest[0]] = true
	case "step":
		s.last = takeStep(s.t, s.sched, s.budget, s.stops, s.fails)
	case "cached":
		if got := strconv.Itoa(s.all[rest[0]].cached); got != rest[1] {
			return fmt.Errorf("got %s", got)
		}
	case "running", "waiting", "used", "expect", "preempted", "finished":
		got := s.last[command]
		switch command {
		case "running":
			got = names(s.sched.running)
		case "waiting":
			got = names(s.sched.waiting)
		case "used":
			got = strconv.Itoa(s.sched.cache.Used())
		}
		if want := strings.Join(rest, " "); got != want {
			return fmt.Errorf("got %q", got)
		}
	default:
		return fmt.Errorf("unknown command")
	}
	return s.sched.cache.Check()
}

func names(all []*sequence) string {
	var ids []string
	for _, q := range all {
		ids = append(ids, q.id)
	}
	return strings.Join(ids, " ")
}

// testPrompt returns n tokens that no other name's prompt starts with.
func testPrompt(name string, n int) []int32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(h.Sum32()>>2) + int32(i)
	}
	return tokens
}

// tokenAfter is the test's model: a token that depends on all before it.
func tokenAfter(tokens []int32) int32 {
	h := fnv.New32a()
	for _, t := range tokens {
		fmt.Fprintln(h, t)
	}
	return int32(h.Sum32() >> 1)
}

// takeStep runs a step and checks what holds for every step.
func takeStep(t testing.TB, s *scheduler, budget int, stops, fails map[string]bool) map[string]string {
	t.Helper()
	before := fmt.Sprint(names(s.running), "|", names(s.waiting), "|", s.cache.Used())
	st := s.plan(budget)
	if after := fmt.Sprint(names(s.running), "|", names(s.waiting), "|", s.cache.Used()); after != before {
		t.Fatalf("plan changed %s to %s", before, after)
	}
	if n := st.rows(); n > budget || n == 0 && !s.idle() {
		t.Fatalf("a step of %d tokens, budget %d", n, budget)
	}
	last := map[string]string{"preempted": names(st.preempt)}
	rows := &rowCheck{t: t, st: st, cache: s.cache, slots: map[int32]bool{}}
	s.start(st, rows)
	if rows.at != len(st.work) {
		t.Fatalf("start added %d sequences, want %d", rows.at, len(st.work))
	}
	if err := s.cache.Check(); err != nil {
		t.Fatal(err)
	}
	if len(s.running) > s.slots {
		t.Fatalf("%d sequences run in %d slots", len(s.running), s.slots)
	}
	var out outcome
	var did []string
	for _, w := range st.work {
		mark := ""
		if len(w.sample) > 0 {
			mark = "*"
			id := tokenAfter(w.seq.tokens)
			if fails[w.seq.id] {
				id = -1
			}
			out.ids = append(out.ids, id)
			out.stop = append(out.stop, stops[w.seq.id])
		}
		did = append(did, fmt.Sprintf("%s %d+%d%s", w.seq.id, w.from, w.n, mark))
	}
	last["expect"] = strings.Join(did, " ")
	last["finished"] = names(s.finish(st, out))
	return last
}

// rowCheck takes the rows of a step and checks that they are the sequence's and fit into its blocks, and that no two
// rows are stored in one slot.
type rowCheck struct {
	t     testing.TB
	st    *step
	at    int
	cache *kvcache.Cache
	slots map[int32]bool
}

func (r *rowCheck) Reset() {}

func (r *rowCheck) Add(tokens []int32, from int, blocks []int32, sample []int) {
	w := r.st.work[r.at]
	r.at++
	if w.from != from || w.n != len(tokens) || !slices.Equal(tokens, w.seq.tokens[from:from+w.n]) || len(sample) > 1 ||
		len(blocks) != r.cache.BlocksFor(from+w.n) {
		r.t.Fatalf("batch has %d tokens from %d in %d blocks for %s, want %d from %d", len(tokens), from, len(blocks), w.seq.id, w.n, w.from)
	}
	if sampled := len(sample) == 1 && sample[0] == w.n-1; sampled != (from+w.n == len(w.seq.tokens)) {
		r.t.Fatalf("batch samples %v of %d tokens from %d of %d", sample, w.n, from, len(w.seq.tokens))
	}
	size := int32(r.cache.BlockTokens())
	for i := from; i < from+w.n; i++ {
		slot := blocks[int32(i)/size]*size + int32(i)%size
		if r.slots[slot] {
			r.t.Fatalf("slot %d is written twice in a step", slot)
		}
		r.slots[slot] = true
	}
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			s := &script{t: t, all: map[string]*sequence{}, stops: map[string]bool{}, fails: map[string]bool{}}
			s.run(f)
		})
	}
}

// randomCalls submits, cancels and steps, and checks that every sequence which is not cancelled ends with the tokens
// it would have had alone, within as many steps as there can be.
// It returns how often one gave its blocks back.
func randomCalls(t testing.TB, next func(n int) int, calls int) (preempted int) {
	blockTokens := 1 + next(4)
	blocks := 4 + next(12)
	s := newScheduler(newTestCache(t, blockTokens, blocks), 1+next(5))
	budget := s.slots + next(12)
	none := map[string]bool{}
	all := map[string]*sequence{}
	tokens := 0
	step := func() {
		for _, w := range strings.Fields(takeStep(t, s, budget, none, none)["finished"]) {
			q := all[w]
			delete(all, w)
			preempted += q.preempted
			if len(q.tokens) != q.limit {
				t.Fatalf("%s ended with %d tokens, want %d", w, len(q.tokens), q.limit)
			}
			for i := q.prompt; i < q.limit; i++ {
				if q.tokens[i] != tokenAfter(q.tokens[:i]) {
					t.Fatalf("%s: token %d differs after %d preemptions", w, i, q.preempted)
				}
			}
		}
		if err := s.cache.Check(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range calls {
		switch next(4) {
		case 0:
			name := strconv.Itoa(i)
			prompt := testPrompt(strconv.Itoa(next(3)), 1+next(blocks*blockTokens))
			q := newSequence(name, s.cache, "", prompt, len(prompt)+1+next(max(10, blocks*blockTokens-len(prompt))))
			if err := s.submit(q); (err != nil) != (s.cache.BlocksFor(q.limit-1) > blocks) {
				t.Fatalf("submit %d tokens up to %d: %v", q.prompt, q.limit, err)
			} else if err == nil {
				all[name] = q
				tokens += q.limit
			}
		case 1:
			waits := append(slices.Clone(s.waiting), s.running...)
			if len(waits) > 0 && next(2) == 0 {
				q := waits[next(len(waits))]
				s.cancel(q)
				delete(all, q.id)
			}
		default:
			if !s.idle() {
				step()
			}
		}
	}
	for left := (tokens + 10) * 20; !s.idle(); left-- {
		if left == 0 {
			t.Fatalf("%d sequences never end", len(all))
		}
		step()
	}
	if len(all) > 0 || s.cache.Used() != 0 {
		t.Fatalf("idle with %d sequences and %d blocks left", len(all), s.cache.Used())
	}
	return preempted
}

func TestRandomCalls(t *testing.T) {
	preempted := 0
	for seed := range uint64(150) {
		preempted += randomCalls(t, rand.New(rand.NewPCG(seed, 2)).IntN, 120)
	}
	if preempted < 50 {
		t.Errorf("%d preemptions: the test has become too easy", preempted)
	}
}

func FuzzScheduler(f *testing.F) {
	f.Add([]byte("submit, step, cancel, step, and so on until nothing is left"))
	f.Fuzz(func(t *testing.T, calls []byte) {
		randomCalls(t, func(n int) int {
			if len(calls) == 0 {
				return n - 1
			}
			v := int(calls[0]) % n
			calls = calls[1:]
			return v
		}, min(len(calls)/2, 200))
	})
}
