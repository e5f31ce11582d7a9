package openai_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"eckart/runtime"
)

// BenchmarkStream measures what the server adds to a token: one chunk made, written, flushed and received over loopback.
// The engine hands out tokens without any work.
func BenchmarkStream(b *testing.B) {
	for _, choices := range []int{1, 4} {
		for _, logprobs := range []string{"", `,"logprobs":true,"top_logprobs":5`} {
			b.Run(fmt.Sprintf("choices=%d%s", choices, logprobs[:min(10, len(logprobs))]), func(b *testing.B) {
				tokens := make([]runtime.Token, 0, 512)
				for range cap(tokens) {
					k := runtime.Token{ID: 'w', Text: " word", StopID: -1, Logprob: -1}
					for j := range 5 {
						k.Top = append(k.Top, runtime.Candidate{ID: int32('a' + j), Logprob: -1})
					}
					tokens = append(tokens, k)
				}
				tokens[len(tokens)-1].Finish = runtime.FinishLength
				e := &scripted{script: func(runtime.Request) []runtime.Token { return tokens }}
				_, url := serve(b, options(b, e))
				body := chatWith(fmt.Sprintf(`"stream":true,"n":%d%s`, choices, logprobs))
				b.ReportAllocs()
				events := 0
				for b.Loop() {
					res, err := http.Post(url+chatPath, "application/json", strings.NewReader(body))
					if err != nil {
						b.Fatal(err)
					}
					for lines := bufio.NewScanner(res.Body); lines.Scan(); {
						if len(lines.Bytes()) > 0 {
							events++
						}
					}
					res.Body.Close()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
			})
		}
	}
}
