package command_test

import (
	"testing"

	"eckart/cmd/internal/command"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		text string
		want command.Bytes
	}{
		{"0", 0}, {"1000", 1000}, {"1K", 1024}, {"2GiB", 2 << 30}, {"1.5 gib", 3 << 29}, {"512MB", 512e6}, {"3m", 3 << 20}, {"7B", 7},
	} {
		var b command.Bytes
		if err := b.UnmarshalText([]byte(c.text)); err != nil || b != c.want {
			t.Errorf("%q reads as %d, error %v, want %d", c.text, int64(b), err, int64(c.want))
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1e400", "NaN", "Inf", "2 GiB more", "9e18TiB"} {
		var b command.Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q reads as %d, want an error", text, int64(b))
		}
	}
	for b, want := range map[command.Bytes]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 29: "1.5 GiB", 5 << 40: "5.0 TiB"} {
		if got := b.String(); got != want {
			t.Errorf("%d prints as %q, want %q", int64(b), got, want)
		}
	}
}
