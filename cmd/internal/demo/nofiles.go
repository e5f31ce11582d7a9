//go:build nodemo

package demo

import "embed"

// files is empty: the program is to lie beside the model, or to be small.
var files embed.FS
