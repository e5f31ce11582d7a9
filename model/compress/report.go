package compress

// A Report says what compression did to a model and what it cost.
type Report struct {
	Model       string             `json:"model"`
	Policy      string             `json:"policy"` // the flags in words
	Modules     []ModuleReport     `json:"modules"`
	Before      Totals             `json:"before"`
	After       Totals             `json:"after"`
	Verified    *Verification      `json:"verified,omitempty"` // nil when verification was off
	Calibration CalibrationReport  `json:"calibration"`
	Seconds     map[string]float64 `json:"seconds"` // that each stage took
}

// A ModuleReport says what became of a matrix of a block. Errors are squared and relative, tr(E·C·Eᵀ)/tr(W·C·Wᵀ) with
// the error E of the matrix W and the second moment C of its inputs; of what stays as it is, they are 0.
type ModuleReport struct {
	Name        string   `json:"name"`  // "model.layers.0.self_attn.q_proj"
	Layer       int      `json:"layer"` // the block
	Kind        string   `json:"kind"`  // what was chosen, as plans write it: "lowrank@96/bf16:whitened"
	Form        string   `json:"form"`  // the family of kinds: "lowrank"; "keep" for a matrix that stays as it is
	Bytes       int64    `json:"bytes"`
	BytesBefore int64    `json:"bytes_before"`
	Predicted   float64  `json:"predicted"`          // error that the plan counts on
	Reached     float64  `json:"reached"`            // error of what was made
	HeldOut     *float64 `json:"held_out,omitempty"` // error on inputs that were not learned from; nil when not measured
	Lambda      float64  `json:"lambda"`             // strength of the correction for drift; 0 for none

	elements int64 // of the matrix
}

// Totals are sums over a model.
type Totals struct {
	Bytes           int64   `json:"bytes"`                       // of all tensors
	LinearBytes     int64   `json:"linear_bytes"`                // of the matrices of the blocks
	BitsPerWeight   float64 `json:"bits_per_weight"`             // of the same
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"` // of a decode step at batch 1; 0 when not measured
}

// A Verification compares the compressed model with the original on text that was not learned from. KL is the divergence
// KL(original || compressed) of the predictions at a token, in nats.
type Verification struct {
	Tokens           int     `json:"tokens"` // scored
	KLMean           float64 `json:"kl_mean"`
	KLP50            float64 `json:"kl_p50"`
	KLP90            float64 `json:"kl_p90"`
	KLP99            float64 `json:"kl_p99"`
	KLMax            float64 `json:"kl_max"`
	Top1             float64 `json:"top1"` // share of tokens for which both find the same one most likely
	PerplexityBefore float64 `json:"perplexity_before"`
	PerplexityAfter  float64 `json:"perplexity_after"`
}

// A CalibrationReport says what the inputs of the matrices were learned from.
type CalibrationReport struct {
	Source    string  `json:"source"` // "file", "self", "project", "none"
	Tokens    int     `json:"tokens"`
	Cached    bool    `json:"cached"`    // the statistics are those of an earlier run
	Shrinkage float64 `json:"shrinkage"` // largest share of the identity in the second moments of a site
}
