package cuda

import "slices"

// function is a kernel on a device.
type function struct {
	handle cuFunction
	name   string
}

// functions are the kernels of a device, each under the name that its source gives it.
type functions struct {
	rows      rowsFunctions
	matMul    matMulFunctions
	grouped   groupedFunctions
	attention attentionFunctions
	choose    chooseFunctions
	empty     function // of no verb: what a launch costs
}

// table lists the kernels that are looked up when a device is opened.
func (f *functions) table() []kernelName {
	return slices.Concat(f.rows.table(), f.matMul.table(), f.grouped.table(), f.attention.table(), f.choose.table(), []kernelName{{&f.empty, "empty"}})
}

// kernelName says where the kernel of a name belongs.
type kernelName struct {
	at   *function
	name string
}
