package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"eckart/cmd/internal/report"
	"eckart/model/compress"
)

var modules = []string{
	"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
}

// sample returns the report of a model whose matrices became what kind says.
func sample(layers int, kind func(layer int, module string) (kind, form string)) *compress.Report {
	r := &compress.Report{
		Model: "gopher-dense", Policy: "ratio 0.6",
		Before:      compress.Totals{Bytes: 14 << 20, LinearBytes: 10 << 20, BitsPerWeight: 16, TokensPerSecond: 100},
		After:       compress.Totals{Bytes: 10 << 20, LinearBytes: 6 << 20, BitsPerWeight: 9.6, TokensPerSecond: 150.25},
		Calibration: compress.CalibrationReport{Source: "file", Tokens: 16384, Shrinkage: 0.01},
		Seconds:     map[string]float64{"calibrate": 12.5, "plan": 0.01, "compress": 30, "verify": 5},
		Verified: &compress.Verification{
			Tokens: 4088, KLMean: 0.19949, KLP50: 0.07, KLP90: 0.55, KLP99: 1.5, KLMax: 4.25, Top1: 0.7773, PerplexityBefore: 10.3482, PerplexityAfter: 12.5289,
		},
	}
	for l := range layers {
		for i, name := range modules {
			m := compress.ModuleReport{
				Name: fmt.Sprintf("model.layers.%d.%s", l, name), Layer: l, Bytes: 600 << 10, BytesBefore: 1000 << 10,
				Predicted: 0.01 * float64(i+1), Reached: 0.0102 * float64(i+1), Lambda: 0.25 * float64(i%2),
			}
			m.Kind, m.Form = kind(l, name)
			if held := 0.011 * float64(i+1); i != 3 {
				m.HeldOut = &held
			}
			if m.Form == "keep" {
				m.Bytes, m.Predicted, m.Reached, m.HeldOut, m.Lambda = m.BytesBefore, 0, 0, nil, 0
			}
			r.Modules = append(r.Modules, m)
		}
	}
	return r
}

// mixed gives the first layer and the last one of eight kinds of their own.
func mixed(layer int, name string) (kind, form string) {
	switch {
	case layer == 0:
		return "keep", "keep"
	case layer == 7 && strings.HasPrefix(name, "mlp"):
		return "int4/32+r16/int8:alternated2", "residual"
	case strings.HasPrefix(name, "mlp"):
		return "lowrank@96/bf16:whitened", "lowrank"
	}
	return "int4/32:feedback", "round"
}

func text(t *testing.T, r *compress.Report, verbose bool) string {
	t.Helper()
	var b strings.Builder
	if err := report.Text(&b, r, verbose); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}
	return b.String()
}

// TestText: what was alike shares a row, with sums of bytes and means of errors.
func TestText(t *testing.T) {
	got := text(t, sample(8, mixed), false)
	for _, want := range []string{
		"size       14.0 MiB became 10.0 MiB\n",
		"matrices   10.0 MiB of the blocks became 6.0 MiB (60 %), 16.00 bits a weight became 9.60\n",
		"quality    perplexity 10.3482 became 12.5289, over 4088 tokens\n",
		"           the same token most likely at 77.73 %\n",
		"worst      model.layers.1.mlp.down_proj 0.07140, model.layers.2.mlp.down_proj 0.07140,\n           model.layers.3.mlp.down_proj 0.07140\n",
		"speed      100.0 tokens a second became 150.2\n",
		"learned    from a text, 16384 tokens, shrinkage up to 0.01\n",
		"time       47.5 s: calibrating 12.5 s, compressing 30.0 s, comparing 5.0 s\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	_, rows, _ := strings.Cut(got, "\n\n")
	for i, want := range []string{
		"layer matrices kind bytes of planned reached held",
		"0 all 7 keep 6.8 MiB 100 %",
		"1-6 q k v o int4/32:feedback 14.1 MiB 60 % 0.02500 0.02550 0.02200",
		"1-6 gate up down lowrank@96/bf16:whitened 10.5 MiB 60 % 0.06000 0.06120 0.06600",
		"7 q k v o int4/32:feedback 2.3 MiB 60 % 0.02500 0.02550 0.02200",
		"7 gate up down int4/32+r16/int8:alternated2 1.8 MiB 60 % 0.06000 0.06120 0.06600",
		"all 56 35.5 MiB 65 % 0.04000 0.04080 0.04400",
	} {
		lines := strings.Split(strings.TrimSpace(rows), "\n")
		if i >= len(lines) || strings.Join(strings.Fields(lines[i]), " ") != want {
			t.Errorf("row %d: want %q in\n%s", i, want, rows)
		}
	}

	verbose := text(t, sample(8, mixed), true)
	if n := strings.Count(verbose, "self_attn.q_proj"); n != 8 {
		t.Errorf("%d rows for q_proj:\n%s", n, verbose)
	}
	for _, want := range []string{
		"3 self_attn.k_proj int4/32:feedback 600.0 KiB 0.25 0.02000 0.02040 0.02200",
		"3 self_attn.o_proj int4/32:feedback 600.0 KiB 0.25 0.04000 0.04080",
		"0 mlp.down_proj keep 1000.0 KiB",
	} {
		found := false
		for line := range strings.Lines(verbose) {
			found = found || strings.Join(strings.Fields(line), " ") == want
		}
		if !found {
			t.Errorf("no %q in\n%s", want, verbose)
		}
	}
}

// TestTextLong: a plan of many layers without two alike loses the middle of its table, unless it is verbose.
func TestTextLong(t *testing.T) {
	r := sample(40, func(layer int, name string) (kind, form string) {
		return fmt.Sprintf("lowrank@%d/bf16:whitened", 8*(layer+1)), "lowrank"
	})
	got := text(t, r, false)
	if !strings.Contains(got, "\n... 16 more rows, which --verbose shows\n") || strings.Contains(got, "lowrank@160/") {
		t.Errorf("not cut:\n%s", got)
	}
	for _, layer := range []string{"\n15 ", "\n32 ", "\n39 "} {
		if !strings.Contains(got, layer) {
			t.Errorf("no row%q in\n%s", layer, got)
		}
	}
	if verbose := text(t, r, true); strings.Contains(verbose, "--verbose") || strings.Count(verbose, "\n") < 280 {
		t.Errorf("verbose table is cut:\n%s", verbose)
	}
}

// TestTextLittle: what was not measured is not printed as zeros.
func TestTextLittle(t *testing.T) {
	got := text(t, &compress.Report{Model: "m", Calibration: compress.CalibrationReport{Source: "none"}}, false)
	if !strings.Contains(got, "quality    not measured\n") || !strings.Contains(got, "learned    nothing: the weights alone decided\n") ||
		strings.Contains(got, "speed") || strings.Contains(got, "layer") || strings.Contains(got, "NaN") {
		t.Errorf("report of nothing:\n%s", got)
	}
}

func page(t *testing.T, r *compress.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.HTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHTML: the page is well-formed, needs nothing from elsewhere, and has every matrix, in the table and in the charts.
func TestHTML(t *testing.T) {
	r := sample(8, mixed)
	r.Modules[9].Name = `model.layers.1.<script>alert("1")</script>`
	got := page(t, r)
	for _, foreign := range []string{"<script", "http:", "https:", "src=", "@import", "url(", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(got, foreign) {
			t.Errorf("the page has %q", foreign)
		}
	}
	if n := strings.Count(got, `<th scope="row">`); n != len(r.Modules) {
		t.Errorf("%d rows in the table, want %d", n, len(r.Modules))
	}
	if n := strings.Count(got, "<svg"); n != 3+4 {
		t.Errorf("%d drawings, want 3 and a mark for each of 4 families", n)
	}
	// 49 matrices of 7 layers have filled marks, 42 of them were held against other inputs; 4 percentiles. There are 4
	// marks in the key, and a curve.
	if n := strings.Count(got, `<path class="c`) - 4 - 1; n != 49+42+4 {
		t.Errorf("%d marks, want 95", n)
	}
	if n := strings.Count(got, ` hollow"`); n != 42 {
		t.Errorf("%d hollow marks, want 42", n)
	}
	if n := strings.Count(got, "<rect"); n != 1+6*2+2 {
		t.Errorf("%d bars, want 15", n)
	}
	wellFormed(t, got)
}

// wellFormed reads the page as XML, which it is as well.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Entity = xml.HTMLEntity
	for depth := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			if depth != 0 {
				t.Errorf("%d elements stay open", depth)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
}

// TestHTMLPlaces: a point lies where its errors say, on axes of whole powers of ten.
func TestHTMLPlaces(t *testing.T) {
	r := sample(1, func(int, string) (kind, form string) { return "lowrank@96/bf16:whitened", "lowrank" })
	r.Modules = r.Modules[:1]
	held := 1.0
	r.Modules[0].Predicted, r.Modules[0].Reached, r.Modules[0].HeldOut = 0.1, math.Sqrt(0.1*0.01), &held
	got := page(t, r)
	// The axes go from 0.01 to 1 in 320 units: 0.1 is half of the way, 10^-1.5 a quarter.
	for _, want := range []string{`class="c0" transform="translate(160 240)"`, `class="c0 hollow" transform="translate(160 0)"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in the page", want)
		}
	}
	// 600 KiB of 1000 KiB: the bar takes 0.6 of 240 units.
	if !regexp.MustCompile(`<rect class="c0" x="[0-9.]+" y="96" width="[0-9.]+" height="144">`).MatchString(got) {
		t.Error("no bar of 144 units in the page")
	}
}

// TestHTMLLittle: charts of which there is nothing to draw are left out.
func TestHTMLLittle(t *testing.T) {
	for name, r := range map[string]*compress.Report{
		"nothing":     {Model: "m"},
		"all kept":    sample(2, func(int, string) (kind, form string) { return "keep", "keep" }),
		"no distance": {Model: "m", Verified: &compress.Verification{Tokens: 100, Top1: 1, PerplexityBefore: 3, PerplexityAfter: 3}},
	} {
		got := page(t, r)
		if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") || strings.Contains(got, "Predicted and reached") {
			t.Errorf("%s: page\n%s", name, got)
		}
		if (r.Verified != nil && r.Verified.KLMax == 0) != strings.Contains(got, "Not at all: on 100 tokens both models predict the same.") {
			t.Errorf("%s: page\n%s", name, got)
		}
		wellFormed(t, got)
	}
}
