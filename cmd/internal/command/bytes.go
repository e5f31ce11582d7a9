package command

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is an amount of memory that prints with its unit, as "690.1 MiB", and reads from a flag as "2GiB" or "512MB".
type Bytes int64

var units = []struct {
	name  string
	bytes float64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"KB", 1e3},
	{"T", 1 << 40},
	{"G", 1 << 30},
	{"M", 1 << 20},
	{"K", 1 << 10},
	{"B", 1},
}

// String returns the amount in the largest binary unit of which it is at least one.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if float64(b) >= u.bytes {
			return strconv.FormatFloat(float64(b)/u.bytes, 'f', 1, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}

// UnmarshalText reads a number and a unit: KiB, MiB, GiB, TiB and their first letters count in 1024, KB to TB in 1000.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	factor := 1.0
	for _, u := range units {
		if len(s) > len(u.name) && strings.EqualFold(s[len(s)-len(u.name):], u.name) {
			s, factor = strings.TrimSpace(s[:len(s)-len(u.name)]), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if n *= factor; err != nil || !(n >= 0) || n > math.MaxInt64/2 {
		return fmt.Errorf("must be an amount of memory such as 512MiB or 2GiB, got %q", text)
	}
	*b = Bytes(n)
	return nil
}
