//go:build !purego

package cpu

// rowsFor returns nothing: plain Go runs.
func rowsFor(ISA) rowsCode { return rowsCode{} }

// attentionFor returns nothing: plain Go runs.
func attentionFor(ISA) attentionCode { return attentionCode{} }
