//go:build !nodemo

package demo

import "embed"

//go:embed gopher-dense
var files embed.FS
