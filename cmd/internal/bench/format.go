package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
)

// Write prints results in a format: table, markdown, json or csv.
func Write(w io.Writer, format string, results []Result) error {
	switch format {
	case "json":
		return command.WriteJSON(w, results)
	case "csv":
		return writeCSV(w, results)
	case "markdown":
		return table(results, true).Markdown(w)
	}
	if len(results) == 0 {
		return nil
	}
	r := results[0]
	memory := "the device cannot tell how fast it reads"
	if r.ReadRate > 0 {
		memory = fmt.Sprintf("the read rate is that of sweeps over %v with as many threads", launch.Bytes(r.SweepBytes))
	}
	_, err := fmt.Fprintf(w, "model   %s, %s parameters, weights %v\ndevice  %s\nmemory  %s\n\n",
		r.Model, launch.Count(r.Parameters), launch.Bytes(r.ModelBytes), r.CPU, memory)
	if err != nil {
		return err
	}
	return table(results, false).Text(w)
}

// table returns a row for each result: the test, then the figures. A row of a whole table also says what of.
func table(results []Result, whole bool) command.Table {
	paths := false
	for _, r := range results {
		paths = paths || r.Path != Decoder
	}
	head := []string{"test", "threads", "t/s", "bytes/token", "read rate", "share"}
	if paths {
		head = append(head, "path", "in the model")
	}
	if whole {
		head = append([]string{"model", "size", "params", "backend"}, head...)
	}
	t := command.Table{head}
	for _, r := range results {
		bytes, rate, share := "", "", ""
		if r.BytesPerToken > 0 {
			bytes = launch.Bytes(r.BytesPerToken).String()
		}
		if r.ReadRate > 0 {
			rate = fmt.Sprintf("%.1f GB/s", float64(r.ReadRate)/1e9)
		}
		if r.ReadShare > 0 {
			share = fmt.Sprintf("%.0f %%", 100*r.ReadShare)
		}
		row := []string{
			r.Test, strconv.Itoa(r.Threads), fmt.Sprintf("%.2f ± %.2f", r.Average, r.Deviation), bytes,
			rate, share,
		}
		if paths {
			inside := ""
			if r.Path != Decoder {
				inside = fmt.Sprintf("%.1f %%", 100*r.ForwardShare)
			}
			row = append(row, r.Path, inside)
		}
		if whole {
			row = append([]string{r.Model, launch.Bytes(r.ModelBytes).String(), launch.Count(r.Parameters), r.Backend}, row...)
		}
		t = append(t, row)
	}
	return t
}

// writeCSV writes the figures under their JSON keys, the samples left out.
func writeCSV(w io.Writer, results []Result) error {
	out := csv.NewWriter(w)
	float := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	whole := func(v int64) string { return strconv.FormatInt(v, 10) }
	out.Write([]string{
		"build_commit", "cpu_info", "backends", "model_name", "model_filename", "model_type", "model_size", "model_n_params", "n_ubatch",
		"n_threads", "type_k", "type_v", "n_prompt", "n_gen", "n_depth", "n_seqs", "test", "path", "test_time", "weight_bytes",
		"bytes_per_token", "cache_bytes_per_token", "read_rate", "read_share", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "median_ts",
	})
	for _, r := range results {
		out.Write([]string{
			r.Build, r.CPU, r.Backend, r.Model, r.File, r.Type, whole(r.ModelBytes), strconv.Itoa(r.Parameters), strconv.Itoa(r.StepTokens),
			strconv.Itoa(r.Threads), r.TypeK, r.TypeV, strconv.Itoa(r.Prompt), strconv.Itoa(r.Tokens), strconv.Itoa(r.Depth),
			strconv.Itoa(r.Batch), r.Test, r.Path, r.Time, whole(r.WeightBytes),
			whole(r.BytesPerToken), whole(r.CacheBytes), whole(r.ReadRate), float(r.ReadShare), whole(r.AverageNS), whole(r.DeviationNS),
			float(r.Average), float(r.Deviation), float(r.Median),
		})
	}
	out.Flush()
	return out.Error()
}
