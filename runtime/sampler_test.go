package runtime

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func seed(n uint64) *uint64 { return &n }

var inf = float32(math.Inf(1))

// randomLogits returns n logits with a spread like a model's.
func randomLogits(rng *rand.Rand, n int) []float32 {
	logits := make([]float32, n)
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 3)
	}
	return logits
}

// distribution is what choose draws from, computed plainly: sort everything, in float64, one filter after the other.
func distribution(s Sampling, logits []float32, prompt, output, banned []int32) []float64 {
	x := make([]float64, len(logits))
	for i, v := range logits {
		x[i] = float64(v)
	}
	for id, b := range s.LogitBias {
		x[id] += float64(b)
	}
	for i := range x {
		id := int32(i)
		count := 0
		for _, o := range output {
			if o == id {
				count++
			}
		}
		if r := float64(s.RepetitionPenalty); r != 0 && (count > 0 || slices.Contains(prompt, id)) {
			if x[i] > 0 {
				x[i] /= r
			} else {
				x[i] *= r
			}
		}
		if count > 0 {
			x[i] -= float64(s.FrequencyPenalty)*float64(count) + float64(s.PresencePenalty)
		}
	}
	for _, id := range banned {
		x[id] = math.Inf(-1)
	}
	ids := make([]int, len(x))
	for i := range ids {
		ids[i] = i
	}
	slices.SortStableFunc(ids, func(a, b int) int {
		switch {
		case x[a] > x[b]:
			return -1
		case x[a] < x[b]:
			return 1
		}
		return 0
	})
	p := make([]float64, len(x))
	if s.Temperature == 0 {
		p[ids[0]] = 1
		return p
	}
	normalize := func() {
		var sum float64
		for _, v := range p {
			sum += v
		}
		for i := range p {
			p[i] /= sum
		}
	}
	for i := range p {
		p[i] = math.Exp((x[i] - x[ids[0]]) / float64(s.Temperature))
	}
	normalize()
	most := p[ids[0]]
	for i := range p {
		if p[i] < float64(s.MinP)*most {
			p[i] = 0
		}
	}
	if s.TopK > 0 {
		for _, i := range ids[min(s.TopK, len(ids)):] {
			p[i] = 0
		}
	}
	normalize()
	if s.TopP > 0 {
		var sum float64
		for _, i := range ids {
			if sum >= float64(s.TopP) {
				p[i] = 0
			}
			sum += p[i]
		}
	}
	normalize()
	return p
}

var samplings = []struct {
	name   string
	s      Sampling
	banned []int32
}{
	{name: "default", s: DefaultSampling()},
	{name: "greedy", s: Sampling{}},
	{name: "cold", s: Sampling{Temperature: 0.3}},
	{name: "hot", s: Sampling{Temperature: 3}},
	{name: "top_k", s: Sampling{Temperature: 1, TopK: 5}},
	{name: "top_k 1", s: Sampling{Temperature: 1, TopK: 1}},
	{name: "top_k above all", s: Sampling{Temperature: 1, TopK: 1 << 30}},
	{name: "top_p", s: Sampling{Temperature: 1, TopP: 0.7}},
	{name: "top_p high", s: Sampling{Temperature: 2, TopP: 0.98}},
	{name: "top_p tiny", s: Sampling{Temperature: 1, TopP: 1e-6}},
	{name: "min_p", s: Sampling{Temperature: 1, MinP: 0.1}},
	{name: "min_p 1", s: Sampling{Temperature: 1, MinP: 1}},
	{name: "all filters", s: Sampling{Temperature: 0.8, TopK: 20, TopP: 0.9, MinP: 0.02}},
	{name: "min_p and top_p", s: Sampling{Temperature: 1.5, TopP: 0.9, MinP: 0.01}},
	{name: "repetition", s: Sampling{Temperature: 1, RepetitionPenalty: 1.5}},
	{name: "presence", s: Sampling{Temperature: 1, PresencePenalty: 1.5}},
	{name: "frequency", s: Sampling{Temperature: 1, FrequencyPenalty: 0.7}},
	{name: "negative penalties", s: Sampling{Temperature: 1, FrequencyPenalty: -0.5, PresencePenalty: -1, RepetitionPenalty: 0.8}},
	{name: "bias", s: Sampling{Temperature: 1, LogitBias: map[int32]float32{3: 5, 7: -100}}},
	{name: "bias and greedy", s: Sampling{LogitBias: map[int32]float32{11: 100}}},
	{name: "banned", s: Sampling{Temperature: 1}, banned: []int32{0, 1, 2, 3}},
	{name: "banned and greedy", s: Sampling{RepetitionPenalty: 1.2}, banned: []int32{5, 9}},
}

// TestDistribution draws often and compares with the plain distribution by Pearson's chi-square. Seeds are fixed, so
// that the outcome is; the bound is the 0.9999 quantile.
func TestDistribution(t *testing.T) {
	const vocab, draws = 40, 20000
	prompt, output := []int32{1, 2, 3, 3}, []int32{3, 4, 4, 4, 5, 11}
	for i, test := range samplings {
		t.Run(test.name, func(t *testing.T) {
			logits := randomLogits(rand.New(rand.NewPCG(uint64(i), 3)), vocab)
			want := distribution(test.s, logits, prompt, output, test.banned)
			s := test.s
			s.Seed = seed(uint64(i))
			p := newSampler(s, prompt)
			for _, id := range output {
				p.accept(id)
			}
			counts := make([]int, vocab)
			w := newScratch(vocab)
			for range draws {
				id, err := p.choose(slices.Clone(logits), test.banned, w)
				if err != nil {
					t.Fatal(err)
				}
				counts[id]++
			}
			chi, freedom := 0.0, -1.0
			var pooled, pooledWant float64 // cells too small for the approximation, together
			for id, n := range counts {
				expect := want[id] * draws
				switch {
				case expect == 0 && n > 0:
					t.Fatalf("token %d was chosen %d times, its probability is 0", id, n)
				case expect < 5:
					pooled += float64(n)
					pooledWant += expect
				default:
					chi += (float64(n) - expect) * (float64(n) - expect) / expect
					freedom++
				}
			}
			if pooledWant >= 5 {
				chi += (pooled - pooledWant) * (pooled - pooledWant) / pooledWant
				freedom++
			}
			if freedom < 1 {
				return // one possible token, and it was the one
			}
			// Wilson and Hilferty 1931: the cube root of chi-square over its freedom is nearly normal; 3.72 is the
			// normal's 0.9999 quantile.
			v := 2 / (9 * freedom)
			if bound := freedom * math.Pow(1-v+3.72*math.Sqrt(v), 3); chi > bound {
				t.Errorf("chi-square is %.1f with %v degrees of freedom, want at most %.1f\nhave %v\nwant %.0f", chi, freedom, bound, counts, scaled(want, draws))
			}
		})
	}
}

func scaled(p []float64, by float64) []float64 {
	out := slices.Clone(p)
	for i := range out {
		out[i] *= by
	}
	return out
}

// TestSupport compares which tokens can be chosen with the plain way, over vocabularies of many sizes, ties included.
func TestSupport(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for trial := range 400 {
		n := 1 + rng.IntN(2000)
		logits := randomLogits(rng, n)
		if trial%3 == 0 {
			for i := range logits {
				logits[i] = float32(math.Round(float64(logits[i]))) // many ties
			}
		}
		var top []choice
		for i, x := range logits {
			top = append(top, choice{int32(i), x})
		}
		slices.SortFunc(top, order)
		k := 1 + rng.IntN(n+5)
		low := -inf
		if trial%2 == 0 {
			low = float32(rng.NormFloat64())
		}
		want := slices.DeleteFunc(slices.Clone(top), func(c choice) bool { return c.value < low })
		want = want[:min(k, len(want))]
		if got := largestK(nil, logits, k, low); !slices.Equal(got, want) {
			t.Fatalf("largest %d of %d from %g on: %v, want %v", k, n, low, got, want)
		}
		if got := largest(logits); got != int(top[0].id) {
			t.Fatalf("largest of %d: %d, want %d", n, got, top[0].id)
		}
		var sum float64
		for i := range top {
			top[i].value = exp32(top[i].value - top[0].value)
		}
		slices.SortFunc(top, order)
		for i := range top {
			sum += float64(top[i].value)
		}
		mass := rng.Float64() * sum
		shuffled := slices.Clone(top)
		rng.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		m := nucleus(shuffled, mass)
		head := slices.Clone(shuffled[:m])
		slices.SortFunc(head, order)
		if wantM := prefix(top, mass); m != wantM || !slices.Equal(head, top[:wantM]) {
			t.Fatalf("nucleus of %d for %g of %g: %d, want %d", n, mass, sum, m, wantM)
		}
	}
}

func TestNucleusIsLinear(t *testing.T) {
	// Equal, ascending and descending weights must not make the partition degenerate: this would take minutes.
	for name, weight := range map[string]func(i int) float32{
		"equal":      func(int) float32 { return 1 },
		"ascending":  func(i int) float32 { return float32(i) },
		"descending": func(i int) float32 { return float32(-i) + 1e6 },
	} {
		c := make([]choice, 300_000)
		var sum float64
		for i := range c {
			c[i] = choice{int32(i), weight(i)}
			sum += float64(c[i].value)
		}
		if m := nucleus(c, sum/2); m < 1000 || m > 299_000 {
			t.Errorf("%s: nucleus of half the weight has %d of %d", name, m, len(c))
		}
	}
}

func TestSeed(t *testing.T) {
	const vocab, n = 300, 50
	draw := func(s *uint64) []int32 {
		p := newSampler(Sampling{Temperature: 1, Seed: s}, nil)
		var ids []int32
		for i := range n {
			id, err := p.choose(randomLogits(rand.New(rand.NewPCG(uint64(i), 1)), vocab), nil, newScratch(vocab))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	if a, b := draw(seed(7)), draw(seed(7)); !slices.Equal(a, b) {
		t.Errorf("the same seed gave %v and %v", a, b)
	}
	if a, b := draw(seed(7)), draw(seed(8)); slices.Equal(a, b) {
		t.Errorf("two seeds gave the same %v", a)
	}
	if a, b := draw(nil), draw(nil); slices.Equal(a, b) {
		t.Errorf("without a seed the same %v came twice", a)
	}
}

func TestBadLogits(t *testing.T) {
	nan := float32(math.NaN())
	for _, test := range []struct {
		name   string
		logits []float32
		banned []int32
	}{
		{"one not a number", []float32{1, nan, 2}, nil},
		{"first not a number", []float32{nan, 1, 2}, nil},
		{"all not numbers", []float32{nan, nan}, nil},
		{"infinite", []float32{1, inf, 0}, nil},
		{"nothing left", []float32{-inf, -inf}, nil},
		{"all banned", []float32{1, 2, 3}, []int32{0, 1, 2}},
	} {
		for _, temperature := range []float32{0, 1} {
			for _, topK := range []int{0, 2} {
				p := newSampler(Sampling{Temperature: temperature, TopK: topK, TopP: 0.9, Seed: seed(1)}, nil)
				w := newScratch(len(test.logits))
				observe(test.logits, 2, true, w) // must not panic either
				if id, err := p.choose(slices.Clone(test.logits), test.banned, w); !errors.Is(err, ErrLogits) {
					t.Errorf("%s, temperature %g: token %d, error %v, want ErrLogits", test.name, temperature, id, err)
				}
			}
		}
	}
}

// TestExtremes holds that settings at the ends of their ranges choose a token that may be chosen.
func TestExtremes(t *testing.T) {
	for _, s := range []Sampling{
		{Temperature: 1e-30},
		{Temperature: 1e-4},
		{Temperature: 1e30},
		{Temperature: math.MaxFloat32, TopP: 0.5, MinP: 1e-30},
		{Temperature: 1, MinP: 1, TopP: 1e-30, TopK: 1},
		{Temperature: 1, TopP: math.Nextafter32(1, 0)},
		{Temperature: 1, RepetitionPenalty: 1e-30},
		{Temperature: 1, RepetitionPenalty: 1e30, PresencePenalty: 1e30, FrequencyPenalty: -1e30},
		{Temperature: 1, LogitBias: map[int32]float32{0: -100, 1: -100, 2: -100, 3: -100}},
	} {
		s.Seed = seed(9)
		p := newSampler(s, []int32{0, 1})
		w := newScratch(4)
		for range 200 {
			id, err := p.choose([]float32{-inf, 0.5, -3, 2}, nil, w)
			if err != nil && s.RepetitionPenalty == 0 || err == nil && (id < 1 || id > 3) {
				t.Fatalf("%+v: token %d, error %v", s, id, err)
			}
			if err == nil {
				p.accept(id)
			}
		}
	}
}

func TestReport(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 5, 255, 256, 257, 5000} {
		logits := randomLogits(rng, n)
		p := newSampler(Sampling{Temperature: 0.5, TopK: 3, LogitBias: map[int32]float32{0: 50}, Seed: seed(1)}, nil)
		w := newScratch(n)
		raw := slices.Clone(logits)
		r := observe(logits, 20, p.adjusts(nil), w)
		id, err := p.choose(logits, nil, w)
		if err != nil {
			t.Fatal(err)
		}
		want := logSoftmax(raw)
		if got := r.logprob(id); math.Abs(float64(got)-want[id]) > 2e-6 {
			t.Errorf("log-probability of %d of %d is %g, want %g", id, n, got, want[id])
		}
		if len(r.top) != min(20, n) {
			t.Fatalf("%d alternatives of %d, want %d", len(r.top), n, min(20, n))
		}
		for i, c := range r.top {
			if math.Abs(float64(c.Logprob)-want[c.ID]) > 2e-6 {
				t.Errorf("alternative %d is %+v, want %g", i, c, want[c.ID])
			}
			if i > 0 && c.Logprob > r.top[i-1].Logprob {
				t.Errorf("alternative %d is likelier than the one before", i)
			}
		}
	}
}

func logSoftmax(logits []float32) []float64 {
	top := float64(slices.Max(logits))
	var sum float64
	for _, x := range logits {
		sum += math.Exp(float64(x) - top)
	}
	out := make([]float64, len(logits))
	for i, x := range logits {
		out[i] = float64(x) - top - math.Log(sum)
	}
	return out
}

func TestExp32(t *testing.T) {
	for x := float32(0); x > -87; x -= 0.0137 {
		want := math.Exp(float64(x))
		if got := float64(exp32(x)); math.Abs(got-want) > (2e-7-1e-7*float64(x))*want {
			t.Fatalf("exp32(%g) is %g, want %g", x, got, want)
		}
	}
	for _, x := range []float32{-87.1, -1000, -math.MaxFloat32, -inf} {
		if got := exp32(x); got != 0 {
			t.Errorf("exp32(%g) is %g, want 0", x, got)
		}
	}
	if exp32(0) != 1 {
		t.Errorf("exp32(0) is %g", exp32(0))
	}
}

func TestRequestCheck(t *testing.T) {
	nan := float32(math.NaN())
	good := Request{Prompt: []int32{1}, Sampling: DefaultSampling(), Logprobs: -1}
	if err := good.check(10); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(r *Request){
		"no prompt":            func(r *Request) { r.Prompt = nil },
		"id below 0":           func(r *Request) { r.Prompt = []int32{-1} },
		"id above vocabulary":  func(r *Request) { r.Prompt = []int32{10} },
		"stop id":              func(r *Request) { r.StopIDs = []int32{10} },
		"empty stop":           func(r *Request) { r.Stop = []string{"a", ""} },
		"max tokens":           func(r *Request) { r.MaxTokens = -1 },
		"min tokens":           func(r *Request) { r.MinTokens = -1 },
		"min above max":        func(r *Request) { r.MinTokens, r.MaxTokens = 3, 2 },
		"logprobs":             func(r *Request) { r.Logprobs = 21 },
		"logprobs below":       func(r *Request) { r.Logprobs = -2 },
		"temperature":          func(r *Request) { r.Sampling.Temperature = -1 },
		"temperature NaN":      func(r *Request) { r.Sampling.Temperature = nan },
		"temperature infinite": func(r *Request) { r.Sampling.Temperature = inf },
		"top_p":                func(r *Request) { r.Sampling.TopP = 1.01 },
		"top_p NaN":            func(r *Request) { r.Sampling.TopP = nan },
		"min_p":                func(r *Request) { r.Sampling.MinP = -0.1 },
		"top_k":                func(r *Request) { r.Sampling.TopK = -1 },
		"repetition":           func(r *Request) { r.Sampling.RepetitionPenalty = -1 },
		"presence":             func(r *Request) { r.Sampling.PresencePenalty = nan },
		"frequency":            func(r *Request) { r.Sampling.FrequencyPenalty = inf },
		"bias id":              func(r *Request) { r.Sampling.LogitBias = map[int32]float32{10: 1} },
		"bias id below 0":      func(r *Request) { r.Sampling.LogitBias = map[int32]float32{-1: 1} },
		"bias NaN":             func(r *Request) { r.Sampling.LogitBias = map[int32]float32{1: nan} },
	} {
		r := good
		change(&r)
		if err := r.check(10); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
}

func TestSampleAllocs(t *testing.T) {
	const vocab = 5000
	logits := randomLogits(rand.New(rand.NewPCG(1, 1)), vocab)
	row := slices.Clone(logits)
	w := newScratch(vocab)
	for _, test := range samplings {
		p := newSampler(test.s, []int32{1, 2, 3})
		step := func() {
			copy(row, logits)
			id, err := p.choose(row, test.banned, w)
			if err != nil {
				t.Fatal(err)
			}
			p.accept(id % 8) // tokens already seen
		}
		for range 20 {
			step()
		}
		if n := testing.AllocsPerRun(50, step); n != 0 {
			t.Errorf("%s: choosing a token allocates %v times", test.name, n)
		}
	}
}

func BenchmarkExp(b *testing.B) {
	logits := randomLogits(rand.New(rand.NewPCG(1, 1)), 1<<16)
	b.Run("exp32", func(b *testing.B) {
		for b.Loop() {
			var sum float64
			for _, x := range logits {
				sum += float64(exp32(x - 20))
			}
		}
	})
	b.Run("math", func(b *testing.B) {
		for b.Loop() {
			var sum float64
			for _, x := range logits {
				sum += math.Exp(float64(x - 20))
			}
		}
	})
}

func BenchmarkChoose(b *testing.B) {
	for _, vocab := range []int{49_152, 151_936} {
		logits := randomLogits(rand.New(rand.NewPCG(1, 1)), vocab)
		for _, test := range []struct {
			name string
			s    Sampling
		}{
			{"greedy", Sampling{}},
			{"default", DefaultSampling()},
			{"top_k20_top_p", Sampling{Temperature: 0.7, TopK: 20, TopP: 0.8}},
			{"top_k1000", Sampling{Temperature: 1, TopK: 1000}},
			{"top_p", Sampling{Temperature: 1, TopP: 0.9}},
			{"min_p", Sampling{Temperature: 1, MinP: 0.05}},
		} {
			b.Run(fmt.Sprintf("%d/%s", vocab, test.name), func(b *testing.B) {
				p := newSampler(test.s, nil)
				w := newScratch(vocab)
				for b.Loop() {
					if _, err := p.choose(logits, nil, w); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("%d/logprobs", vocab), func(b *testing.B) {
			w := newScratch(vocab)
			for b.Loop() {
				observe(logits, 20, false, w)
			}
		})
	}
}
