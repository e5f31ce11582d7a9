package load

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"eckart/cmd/internal/command"
)

// A field is a figure under the name that vLLM's benchmark gives it.
type field struct {
	key   string
	value any
}

// fields returns the figures of a result, in order.
func (r *Result) fields() []field {
	all := []field{
		{"max_concurrency", r.Clients},
		{"request_rate", r.Rate},
		{"duration", r.Seconds},
		{"completed", r.Done},
		{"failed", r.Failed},
		{"total_input_tokens", r.Input},
		{"total_output_tokens", r.Output},
		{"request_throughput", r.RequestRate},
		{"output_throughput", r.OutputRate},
		{"total_token_throughput", r.TotalRate},
		{"max_concurrent_requests", r.MostAtOnce},
	}
	for _, s := range []struct {
		name string
		Spread
	}{{"ttft", r.TTFT}, {"tpot", r.TPOT}, {"itl", r.ITL}, {"e2el", r.E2EL}} {
		all = append(
			all,
			field{"mean_" + s.name + "_ms", s.Mean}, field{"std_" + s.name + "_ms", s.Deviation}, field{"median_" + s.name + "_ms", s.Median},
			field{"p90_" + s.name + "_ms", s.P90}, field{"p99_" + s.name + "_ms", s.P99},
		)
	}
	return all
}

// MarshalJSON writes the figures, and the errors.
func (r Result) MarshalJSON() ([]byte, error) {
	failures := r.Failures
	if failures == nil {
		failures = []Failure{}
	}
	b := bytes.NewBufferString("{")
	for i, f := range append(r.fields(), field{"errors", failures}) {
		text, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%q:%s", f.key, text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Write prints results in a format: table, markdown, json or csv.
func Write(w io.Writer, format string, results []Result) error {
	switch format {
	case "json":
		return command.WriteJSON(w, results)
	case "csv":
		return writeCSV(w, results)
	case "markdown":
		return table(results).Markdown(w)
	}
	if _, err := fmt.Fprint(w, "times in milliseconds: median / 90 % / 99 %\n\n"); err != nil {
		return err
	}
	return table(results).Text(w)
}

func table(results []Result) command.Table {
	t := command.Table{{"load", "done", "failed", "at once", "requests/s", "output t/s", "total t/s", "TTFT", "TPOT", "ITL", "E2EL"}}
	one := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	for _, r := range results {
		row := []string{
			r.Level.String(), strconv.Itoa(r.Done), strconv.Itoa(r.Failed), strconv.Itoa(r.MostAtOnce),
			strconv.FormatFloat(r.RequestRate, 'f', 2, 64), one(r.OutputRate), one(r.TotalRate),
		}
		for _, s := range []Spread{r.TTFT, r.TPOT, r.ITL, r.E2EL} {
			row = append(row, one(s.Median)+" / "+one(s.P90)+" / "+one(s.P99))
		}
		t = append(t, row)
	}
	return t
}

func writeCSV(w io.Writer, results []Result) error {
	out := csv.NewWriter(w)
	for i, r := range results {
		var keys, values []string
		for _, f := range r.fields() {
			keys, values = append(keys, f.key), append(values, fmt.Sprint(f.value))
		}
		if i == 0 {
			out.Write(keys)
		}
		out.Write(values)
	}
	out.Flush()
	return out.Error()
}
