package compress

import "testing"

func TestChoice(t *testing.T) {
	for _, c := range []struct{ short, full string }{
		{"int4", "int4/32:feedback"},
		{"int3/64z", "int3/64z:feedback"},
		{"int8/128:nearest", "int8/128:nearest"},
		{"lowrank", "lowrank/bf16:whitened"},
		{"lowrank@96:svd", "lowrank@96/bf16:svd"},
		{"nested@96", "nested@96/bf16:whitened"},
		{"pifa/int8", "pifa/int8:whitened"},
		{"joint@40", "joint@40/bf16:whitened"},
		{"int3+r16", "int3/32+r16/int8:intrinsic"},
		{"int2+r16/bf16", "int2/32+r16/bf16:intrinsic"},
		{"int4+r8:alternated2", "int4/32+r8/int8:alternated2"},
		{"keep", "keep"},
	} {
		got, err := ParseChoice(c.short, true)
		if err != nil || got.String() != c.full {
			t.Errorf("%s is %s (%v), want %s", c.short, got, err, c.full)
			continue
		}
		if again, err := ParseChoice(c.full, false); err != nil || again != got {
			t.Errorf("%s read again is %+v (%v), want %+v", c.full, again, err, got)
		}
	}
	for _, s := range []string{"", "int5", "int4/", "int4+16", "lowrank@", "lowrank@1x", "pifa:", "int4/32:feedback:x", "int1/32"} {
		if c, err := ParseChoice(s, true); err == nil {
			t.Errorf("%q is read as %v", s, c)
		}
	}
}
