// Package kerneltest is the suite that every device must pass: each verb of kernels.Stream against a reference in
// float64 of its own, over odd sizes and real ones, with guards around every destination; and the rule that a row's
// result has the same bits in any company. It owns the cases, the references and the error bounds, and a wrapper that
// checks every argument of a stream (Checked). It reaches memory only through Upload and Download, so that a device
// need not share the host's.
package kerneltest

import (
	"testing"

	"eckart/kernels"
)

// Options say what a device does otherwise than in F32 throughout, and what it leaves open. The zero value is the strictest.
type Options struct {
	// Rounds says that GroupedMatMul rounds activations: they are then rounded before they are multiplied in float64, so
	// that the bound stays as narrow.
	Rounds bool
	// Activations is the type that MatMul rounds activations to before it multiplies them by BF16 weights; they are then
	// rounded before they are multiplied in float64.
	Activations kernels.DType
	// Class puts calls of a verb into classes by their rows: those in the call for MatMul and GroupedMatMul, those of a
	// sequence in the call for Attend. A device has kernels for few rows and others for many, and a row has the same bits
	// in any call of one class. Without Class all calls are of one.
	Class func(verb string, rows int) int
	// Bounds stand in place of the suite's own (NMSE), for some verbs, by the type of weights or cache: f32, f16, bf16.
	// The reason for each stands where it is set.
	Bounds map[string][3]float64
}

// Run holds dev to every verb. Under -short the real sizes, two thirds of the cases of Attend and half of AttendPeaked are left out.
func Run(t *testing.T, dev kernels.Device, o Options) {
	run(t, dev, o, []verb{
		{"Upload", testUpload},
		{"Reset", testReset},
		{"Embed", testEmbed},
		{"Gather", testGather},
		{"Scatter", testScatter},
		{"MatMul", testMatMul},
		{"Bias", testBias},
		{"RMSNorm", testRMSNorm},
		{"Angles", testAngles},
		{"Rotate", testRotate},
		{"SwiGLU", testSwiGLU},
		{"SwiGLUExtremes", testSwiGLUExtremes},
		{"Store", testStore},
		{"Attend", testAttend},
		{"AttendPeaked", testAttendPeaked},
		{"Company/Rows", testRowsInCompany},
		{"Company/MatMul", testMatMulInCompany},
		{"Company/Attend", testAttendInCompany},
		{"Company/Unseen", testAttendUnseen},
		{"Choose", testChoose},
	})
	RunGrouped(t, dev, o)
	run(t, dev, o, []verb{{"Record", testRecord}, {"Mark", testMark}})
}

// RunGrouped holds dev to the verbs of grouped matrices, as Run does.
func RunGrouped(t *testing.T, dev kernels.Device, o Options) {
	run(t, dev, o, []verb{
		{"Pack", testPack},
		{"GroupedMatMul", testGroupedMatMul},
		{"GroupedExtremes", testGroupedExtremes},
		{"GroupedNotFinite", testGroupedNotFinite},
		{"GroupedMagnitudes", testGroupedMagnitudes},
		{"Company/GroupedMatMul", testGroupedInCompany},
	})
}

// verb is a test of the suite.
type verb struct {
	name string
	test func(*bench)
}

func run(t *testing.T, dev kernels.Device, o Options, verbs []verb) {
	for _, v := range verbs {
		t.Run(v.name, func(t *testing.T) {
			b := newBench(t, dev)
			b.options = o
			defer b.close()
			v.test(b)
		})
	}
}

// Same holds that two devices give the same bits: the same kernels on another number of threads, for instance.
func Same(t *testing.T, a, b kernels.Device) {
	one, two := newBench(t, a), newBench(t, b)
	defer one.close()
	defer two.close()
	for _, v := range []struct {
		name string
		run  func(*bench) []float32
	}{
		{"rows", sampleRows},
		{"MatMul", sampleMatMul},
		{"GroupedMatMul", sampleGrouped},
		{"Attend", sampleAttend},
	} {
		sameBits(t, v.name+" on "+b.Name(), v.run(two), v.run(one))
	}
}
