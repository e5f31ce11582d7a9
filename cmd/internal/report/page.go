package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"

	"eckart/cmd/internal/command"
	"eckart/model/compress"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes": func(n int64) string { return command.Bytes(n).String() },
	"error": func(v float64) string { return fmt.Sprintf("%.5f", v) },
	"kept":  func(m compress.ModuleReport) bool { return m.Form == kept },
	"add":   func(a, b float64) float64 { return a + b },
}).Parse(pageText))

// A page is what page.html shows. Charts are nil where there is nothing to draw.
type page struct {
	*compress.Report
	Facts    []fact
	Families []key
	Errors   *chart
	Layers   *chart
	KL       *chart
	Drift    bool // a matrix was corrected for it
}

// HTML writes the report as a page that needs nothing beside it: no script, no font, no network.
func HTML(w io.Writer, r *compress.Report) error {
	families := familiesOf(r.Modules)
	p := page{
		Report: r, Facts: facts(r), Families: families, Errors: errorChart(r.Modules, families), Layers: layerChart(r.Modules, families),
		KL:    divergenceChart(r.Verified),
		Drift: slices.ContainsFunc(r.Modules, func(m compress.ModuleReport) bool { return m.Lambda != 0 }),
	}
	return pageTemplate.Execute(w, p)
}

// A key is a family of kinds with its mark in the charts.
type key struct {
	Name  string
	Class int    // of the colours in page.html
	Shape string // path of a mark around (0, 0)
	Bytes int64
	Count int
}

// shapes are told apart without colours. Families beyond them share the last one.
var shapes = []string{
	"M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", // circle
	"M-3.5-3.5h7v7h-7z",                  // square
	"M0-5l4.5 8h-9z",                     // triangle
	"M0-5l5 5-5 5-5-5z",                  // diamond
	"M0 5l4.5-8h-9z",                     // triangle that stands on its point
	"M-5-1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z", // cross
	"M-5-2h10v4h-10z", // bar
	"M-2-5h4v10h-4z",  // upright bar
}

// familiesOf returns the families of kinds, those with the most bytes first.
func familiesOf(modules []compress.ModuleReport) []key {
	var keys []key
	for _, m := range modules {
		name := family(m)
		i := slices.IndexFunc(keys, func(k key) bool { return k.Name == name })
		if i < 0 {
			i, keys = len(keys), append(keys, key{Name: name})
		}
		keys[i].Bytes += m.Bytes
		keys[i].Count++
	}
	slices.SortStableFunc(keys, func(a, b key) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for i := range keys {
		keys[i].Class = min(i, len(shapes)-1)
		keys[i].Shape = shapes[keys[i].Class]
	}
	return keys
}

// keyOf returns the key of a matrix.
func keyOf(m compress.ModuleReport, families []key) key {
	return families[slices.IndexFunc(families, func(k key) bool { return k.Name == family(m) })]
}

// A chart is drawn by page.html: marks, bars and labels at places within its plot, whose upper left corner is (0, 0).
type chart struct {
	Width, Height float64 // of the plot
	X, Y          []tick
	Marks         []mark
	Bars          []bar
	Lines         []line
	Path          string // a curve
	Text          string // what there is to see, for those who do not
}

type tick struct {
	At    float64
	Label string
}

type mark struct {
	X, Y         float64
	Class        int
	Shape, Title string
	Hollow       bool
}

type bar struct {
	X, Y, Width, Height float64
	Class               int
	Title               string
}

type line struct{ X1, Y1, X2, Y2 float64 }

// place rounds to a tenth of a unit, which no eye tells apart.
func place(v float64) float64 { return math.Round(10*v) / 10 }

// A logScale maps numbers above 0 to places: whole powers of ten lie at its ends.
type logScale struct{ low, high, size float64 } // exponents

func newLogScale(values []float64, size float64) logScale {
	low, high := math.Floor(math.Log10(slices.Min(values))), math.Ceil(math.Log10(slices.Max(values)))
	if low == high {
		high++
	}
	return logScale{low, high, size}
}

func (s logScale) at(v float64) float64 {
	return (math.Log10(v) - s.low) / (s.high - s.low) * s.size
}

// ticks returns the powers of ten, at most about eight.
func (s logScale) ticks() []tick {
	var all []tick
	step := math.Ceil((s.high - s.low) / 8)
	for e := s.low; e <= s.high; e += step {
		all = append(all, tick{place((e - s.low) / (s.high - s.low) * s.size), strconv.FormatFloat(math.Pow(10, e), 'g', 3, 64)})
	}
	return all
}

// errorChart sets the error that was predicted beside the one that was reached, and, hollow, the one on held-out inputs.
func errorChart(modules []compress.ModuleReport, families []key) *chart {
	var values []float64
	var shown []compress.ModuleReport
	for _, m := range modules {
		if m.Form == kept || !(m.Predicted > 0) || !(m.Reached > 0) {
			continue
		}
		shown, values = append(shown, m), append(values, m.Predicted, m.Reached)
		if m.HeldOut != nil && *m.HeldOut > 0 {
			values = append(values, *m.HeldOut)
		}
	}
	if len(shown) == 0 {
		return nil
	}
	const size = 320
	s := newLogScale(values, size)
	c := &chart{Width: size, Height: size, X: s.ticks(), Lines: []line{{0, size, size, 0}}}
	for _, t := range s.ticks() {
		c.Y = append(c.Y, tick{size - t.At, t.Label})
	}
	worst := 0.0
	for _, m := range shown {
		k := keyOf(m, families)
		x := place(s.at(m.Predicted))
		title := fmt.Sprintf("%s, %s: predicted %.5f, reached %.5f", m.Name, m.Kind, m.Predicted, m.Reached)
		if h := m.HeldOut; h != nil && *h > 0 {
			title += fmt.Sprintf(", on held-out inputs %.5f", *h)
			c.Marks = append(c.Marks, mark{x, place(size - s.at(*h)), k.Class, k.Shape, title, true})
		}
		c.Marks = append(c.Marks, mark{x, place(size - s.at(m.Reached)), k.Class, k.Shape, title, false})
		worst = max(worst, math.Abs(m.Reached/m.Predicted-1))
	}
	c.Text = fmt.Sprintf("%d matrices; the reached error differs from the predicted one by at most %s.", len(shown), percent(worst))
	return c
}

// layerChart stacks the bytes of each layer by family, in front of what they were before.
func layerChart(modules []compress.ModuleReport, families []key) *chart {
	type layer struct {
		number int
		before int64
		bytes  map[int]int64 // by class
		names  map[int]string
	}
	var layers []layer
	var most int64
	for _, m := range modules {
		if len(layers) == 0 || layers[len(layers)-1].number != m.Layer {
			layers = append(layers, layer{m.Layer, 0, map[int]int64{}, map[int]string{}})
		}
		l, k := &layers[len(layers)-1], keyOf(m, families)
		l.before += m.BytesBefore
		l.bytes[k.Class] += m.Bytes
		l.names[k.Class] = k.Name
		var sum int64
		for _, n := range l.bytes {
			sum += n
		}
		most = max(most, l.before, sum)
	}
	if most == 0 {
		return nil
	}
	const width, height = 640.0, 240.0
	c := &chart{Width: width, Height: height}
	for i := range 5 {
		c.Y = append(c.Y, tick{height - height*float64(i)/4, command.Bytes(most * int64(i) / 4).String()})
	}
	scale := func(n int64) float64 { return height * share(n, most) }
	step := width / float64(len(layers))
	every := (len(layers) + 15) / 16 // labels
	for i, l := range layers {
		x, wide, y := float64(i)*step+0.15*step, 0.7*step, height
		for class := range shapes {
			if n := l.bytes[class]; n > 0 {
				high := scale(n)
				y -= high
				title := fmt.Sprintf("layer %d, %s: %v", l.number, l.names[class], command.Bytes(n))
				c.Bars = append(c.Bars, bar{place(x), place(y), place(wide), place(high), class, title})
			}
		}
		c.Lines = append(c.Lines, line{place(x - 0.1*step), place(height - scale(l.before)), place(x + wide + 0.1*step), place(height - scale(l.before))})
		if i%every == 0 {
			c.X = append(c.X, tick{place(x + wide/2), strconv.Itoa(l.number)})
		}
	}
	c.Text = fmt.Sprintf("%d layers, of at most %v before.", len(layers), command.Bytes(most))
	return c
}

// divergenceChart draws for which share of the tokens the divergence stays below a value, as far as percentiles say it.
func divergenceChart(v *compress.Verification) *chart {
	if v == nil || !(v.KLMax > 0) {
		return nil
	}
	type point struct {
		share, kl float64
		name      string
	}
	var points []point
	var values []float64
	for _, p := range []point{{0.5, v.KLP50, "half"}, {0.9, v.KLP90, "90 %"}, {0.99, v.KLP99, "99 %"}, {1, v.KLMax, "all"}} {
		if p.kl > 0 {
			points, values = append(points, p), append(values, p.kl)
		}
	}
	if v.KLMean > 0 {
		values = append(values, v.KLMean)
	}
	const width, height = 640.0, 200.0
	s := newLogScale(values, width)
	c := &chart{Width: width, Height: height, X: s.ticks()}
	for i := range 5 {
		c.Y = append(c.Y, tick{height - height*float64(i)/4, percent(float64(i) / 4)})
	}
	for i, p := range points {
		x, y := place(s.at(p.kl)), place(height-height*p.share)
		move := "L"
		if i == 0 {
			move = "M"
		}
		c.Path += fmt.Sprintf("%s%g %g", move, x, y)
		c.Marks = append(c.Marks, mark{x, y, 0, shapes[0], fmt.Sprintf("%s of the tokens: at most %.5f nats", p.name, p.kl), false})
	}
	if v.KLMean > 0 {
		c.Lines = []line{{place(s.at(v.KLMean)), 0, place(s.at(v.KLMean)), height}}
	}
	c.Text = fmt.Sprintf("Half of the tokens have at most %.5f nats, 90 %% at most %.5f, 99 %% at most %.5f, all at most %.5f; the mean is %.5f.",
		v.KLP50, v.KLP90, v.KLP99, v.KLMax, v.KLMean)
	return c
}
