package cuda

import "slices"

// function is a kernel on a device.
type function struct {
	handle cuFunction
	name   string
}

// functions are the kernels of a device, each under the name that its source gives it.
type functions struct {
<<<<<<< HEAD
	rows   rowsFunctions
	matMul matMulFunctions
}

// table lists the kernels that are looked up when a device is opened.
func (f *functions) table() []kernelName { return slices.Concat(f.rows.table(), f.matMul.table()) }
=======
	grouped groupedFunctions
}

// table lists the kernels that are looked up when a device is opened.
func (f *functions) table() []kernelName { return f.grouped.table() }
>>>>>>> cuda-grouped

// kernelName says where the kernel of a name belongs.
type kernelName struct {
	at   *function
	name string
}
