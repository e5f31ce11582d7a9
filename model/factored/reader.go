package factored

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model/checkpoint"
)

// A layout is a way to lay the factors of one matrix out.
type layout struct {
	tool string
	// right is the factor (rank, in) that reads the input, left the one (out, rank) that gives the result, as they follow
	// the module's name. Letters say nothing: what SVD-LLM calls u gives the result, what others call so reads the input.
	right, left string
	bias        string // its name where it is not M.bias
}

// layouts lists those with the factors inside the module. SVD-LLM has them beside it: see besides.
var layouts = []layout{
	{"ASVD", ".BLinear.weight", ".ALinear.weight", ".ALinear.bias"}, // hahnyuan/ASVD4LLM, modules/svd_linear.py; PIFA has the same names
	{"LEMS", ".mod_a.weight", ".mod_b.weight", ""},                  // lems-svd/lems, hf_export/modeling_low_rank.py
}

// The rows that the factors of PIFA are, by what follows the module's name (biomedical-cybernetics/pivoting-factorization,
// utils/linear_pivot.py): the first lists the rows that are combined, the second the pivots.
const (
	combinedRows = ".true_idx"
	pivotRows    = ".false_idx"
)

// besides matches the left factors of SVD-LLM, which stand beside the matrix: q_u_proj and q_v_proj make q_proj
// (AIoT-MLSys-Lab/SVD-LLM, component/svd_llama.py).
var besides = regexp.MustCompile(`^((?:.*\.)?(?:q|k|v|o|gate|up|down))_u_proj\.weight$`)

// wrapper stands before all names in a checkpoint of LEMS.
const wrapper = "wrapped_model."

// A Reader gives the factorized matrices of a checkpoint, which must stay open while they are read; of most checkpoints
// it gives none. It may be used by several goroutines at once.
type Reader struct {
	c        *checkpoint.Checkpoint
	config   []byte
	prefix   string // of all tensors that were not written anew
	matrices map[string]matrix
	renamed  map[string]string // tensors that are not factors and have another name: name to tensor
	hidden   map[string]bool   // tensors that have no name of their own
}

// A matrix is a factorized weight.
type matrix struct {
	tool        string
	out, in     int
	rank        int
	right, left *checkpoint.Tensor
	pivots      *checkpoint.Tensor // nil where left·right is the matrix
	tensors     []string
}

// Open finds the factorized matrices among the tensors of c and holds them against config.json (config).
func Open(c *checkpoint.Checkpoint, config []byte) (*Reader, error) {
	r := &Reader{c: c, config: config, matrices: map[string]matrix{}, renamed: map[string]string{}, hidden: map[string]bool{}}
	if slices.ContainsFunc(c.Names(), func(n string) bool { return strings.HasPrefix(n, wrapper) }) {
		r.prefix = wrapper
	}
	for _, tensor := range c.Names() {
		name := strings.TrimPrefix(tensor, r.prefix)
		for _, l := range layouts {
			if module, ok := strings.CutSuffix(name, l.left); ok {
				if err := r.add(l.tool, module, module+l.right, name, l.bias); err != nil {
					return nil, err
				}
			}
			if module, ok := strings.CutSuffix(name, l.right); ok && r.tensor(module+l.left) == nil {
				return nil, fmt.Errorf("%s is a factor as %s has them, and %s is missing", tensor, l.tool, r.prefix+module+l.left)
			}
		}
		if m := besides.FindStringSubmatch(name); m != nil {
			if err := r.add("SVD-LLM", m[1]+"_proj", m[1]+"_v_proj.weight", name, ""); err != nil {
				return nil, err
			}
		}
	}
	if r.prefix == "" && len(r.matrices) == 0 {
		return r, nil
	}
	return r, r.readConfig()
}

// tensor returns the tensor called name, with the prefix or without it, or nil.
func (r *Reader) tensor(name string) *checkpoint.Tensor {
	t, ok := r.c.Tensor(r.prefix + name)
	if !ok {
		t, _ = r.c.Tensor(name)
	}
	return t
}

// add adds the matrix of a module, whose left factor is there.
func (r *Reader) add(tool, module, right, left, bias string) error {
	m := matrix{tool: tool, left: r.tensor(left), right: r.tensor(right)}
	name := module + ".weight"
	switch {
	case m.right == nil:
		return fmt.Errorf("%s is a factor as %s has them, and %s is missing", m.left.Name, tool, r.prefix+right)
	case r.tensor(name) != nil:
		return fmt.Errorf("%s is there, and so is its factor %s", r.prefix+name, m.left.Name)
	}
	for _, t := range []*checkpoint.Tensor{m.left, m.right} {
		if len(t.Shape) != 2 || t.Shape[1] < 1 || t.Shape[0] > maxDim || t.Shape[1] > maxDim {
			return fmt.Errorf("%s has shape %v, want the two dimensions of a factor", t.Name, t.Shape)
		}
		if err := t.Unsupported(); err != nil {
			return err
		}
		m.tensors = append(m.tensors, t.Name)
	}
	m.rank, m.in, m.out = m.right.Shape[0], m.right.Shape[1], m.left.Shape[0]
	if m.left.Shape[1] != m.rank || m.rank < 1 {
		return fmt.Errorf("%s has shape %v, want %d columns, one for each row of %s", m.left.Name, m.left.Shape, m.rank, m.right.Name)
	}
	if r.tensor(module+pivotRows) != nil || r.tensor(module+combinedRows) != nil {
		if err := r.pivoted(&m, module); err != nil {
			return err
		}
		bias = ""
	}
	if m.out < 1 {
		return fmt.Errorf("%s has shape %v, want the two dimensions of a factor", m.left.Name, m.left.Shape)
	}
	for _, t := range m.tensors {
		r.hidden[t] = true
	}
	if t := r.tensor(module + bias); bias != "" && t != nil {
		r.renamed[module+".bias"], r.hidden[t.Name] = t.Name, true
	}
	r.matrices[name] = m
	return nil
}

// maxDim bounds the rows and columns of a factor, as the limits on config.json do.
const maxDim = 1 << 24

// pivoted makes m the matrix that PIFA stores so: some of its rows are the right factor, the others combinations of them.
func (r *Reader) pivoted(m *matrix, module string) error {
	m.tool, m.out = "PIFA", m.out+m.rank
	for _, part := range []struct {
		name string
		n    int
	}{{module + pivotRows, m.rank}, {module + combinedRows, m.out - m.rank}} {
		t := r.tensor(part.name)
		switch {
		case t == nil:
			return fmt.Errorf("%s is stored as PIFA does, and %s is missing", m.left.Name, r.prefix+part.name)
		case t.Type != checkpoint.I64 || !slices.Equal(t.Shape, []int{part.n}):
			return fmt.Errorf("%s has type %s and shape %v, want I64 and [%d]", t.Name, t.Type, t.Shape, part.n)
		}
		m.tensors = append(m.tensors, t.Name)
	}
	m.pivots = r.tensor(module + pivotRows)
	return nil
}

// Names returns the names of the weights and vectors that are stored under others, sorted.
func (r *Reader) Names() []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(r.matrices)), maps.Keys(r.renamed))
	slices.Sort(all)
	return all
}

// Name returns the name of the weight or vector that a tensor is by itself, and whether it is one.
func (r *Reader) Name(tensor string) (string, bool) {
	return strings.TrimPrefix(tensor, r.prefix), !r.hidden[tensor]
}

// Tensor returns the tensor that the weight or vector name is stored as.
func (r *Reader) Tensor(name string) string {
	if t, ok := r.renamed[name]; ok {
		return t
	}
	if t := r.tensor(name); t != nil {
		return t.Name
	}
	return name
}

// Tensors returns the names of the tensors that the matrix name consists of; nil where it is not factorized.
func (r *Reader) Tensors(name string) []string { return r.matrices[name].tensors }

// Elements returns the elements of the matrix name, and whether it is factorized.
func (r *Reader) Elements(name string) (int, bool) {
	m, ok := r.matrices[name]
	return m.out * m.in, ok
}

// Config returns config.json as a model has it that is not factorized.
func (r *Reader) Config() []byte { return r.config }

// Notes says in a line for each tool how many matrices are factorized.
func (r *Reader) Notes() []string {
	count := map[string]int{}
	for _, m := range r.matrices {
		count[m.tool]++
	}
	var notes []string
	for _, tool := range slices.Sorted(maps.Keys(count)) {
		notes = append(notes, fmt.Sprintf("%d matrices factorized as %s stores them", count[tool], tool))
	}
	return notes
}

// Weight returns the matrix name, and whether it is factorized.
func (r *Reader) Weight(name string) (w layers.Weight, ok bool, err error) {
	m, ok := r.matrices[name]
	if !ok {
		return nil, false, nil
	}
	right, left := factor(r.c, m.right), factor(r.c, m.left)
	if m.pivots == nil {
		w, err = lowrank.New(left, right)
		return w, true, err
	}
	pivots, err := r.rows(m.pivots)
	if err != nil {
		return nil, true, err
	}
	combined, err := r.rows(r.tensor(strings.TrimSuffix(name, ".weight") + combinedRows))
	if err != nil {
		return nil, true, err
	}
	p, err := lowrank.NewPIFA(pivots, right, left)
	if err == nil {
		err = ascending(pivots, combined)
	}
	if err != nil {
		return nil, true, fmt.Errorf("read %s: %w", name, err)
	}
	return p, true, nil
}

// ascending checks that combined, of rows that are no pivots, are all of them in order, as the writer has them.
func ascending(pivots, combined []int32) error {
	pivot := make([]bool, len(pivots)+len(combined))
	for _, row := range pivots {
		pivot[row] = true
	}
	for row := range pivot {
		switch {
		case pivot[row]:
		case combined[0] != int32(row):
			return fmt.Errorf("%s has row %d where row %d is the next that is no pivot", strings.TrimPrefix(combinedRows, "."), combined[0], row)
		default:
			combined = combined[1:]
		}
	}
	return nil
}

// rows returns the elements of a list of rows.
func (r *Reader) rows(t *checkpoint.Tensor) ([]int32, error) {
	raw := make([]byte, t.Bytes())
	if err := r.c.ReadAt(raw, t, 0); err != nil {
		return nil, err
	}
	out := make([]int32, len(raw)/8)
	for i := range out {
		v := int64(binary.LittleEndian.Uint64(raw[8*i:]))
		if v < 0 || v > maxDim {
			return nil, fmt.Errorf("read %s in %s: element %d is %d, want the number of a row", t.Name, t.Shard, i, v)
		}
		out[i] = int32(v)
	}
	return out, nil
}

// factor returns the matrix that a tensor of two dimensions is.
func factor(c *checkpoint.Checkpoint, t *checkpoint.Tensor) *layers.Dense {
	types := map[checkpoint.DType]kernels.DType{checkpoint.F32: kernels.F32, checkpoint.F16: kernels.F16, checkpoint.BF16: kernels.BF16}
	p := layers.Part{Name: "weight", Type: types[t.Type], Rows: t.Shape[0], Cols: t.Shape[1]}
	rowBytes := int64(p.Cols) * int64(p.Type.Bytes())
	p.Read = func(dst []byte, row int) error { return c.ReadFinite(dst, t, int64(row)*rowBytes) }
	return layers.NewDense(p)
}

// readConfig holds the ranks that config.json names against the tensors, and puts the config of the model itself in the
// place of what a tool has made of it.
func (r *Reader) readConfig() error {
	var raw struct {
		Architectures []string        `json:"architectures"`
		Truncation    map[string]int  `json:"truncation_ranks"` // ASVD
		Ranks         map[string]int  `json:"rank_dict"`        // LEMS
		ModelType     string          `json:"model_type"`
		Base          json.RawMessage `json:"base_config"` // LEMS: the config of the model that was factorized
	}
	if err := json.Unmarshal(r.config, &raw); err != nil {
		return fmt.Errorf("read config.json: %w", err)
	}
	for field, ranks := range map[string]map[string]int{"truncation_ranks": raw.Truncation, "rank_dict": raw.Ranks} {
		if ranks == nil {
			continue
		}
		if err := r.checkRanks(field, ranks); err != nil {
			return fmt.Errorf("read config.json: %s: %w", field, err)
		}
	}
	text := r.config
	if raw.ModelType == lemsType {
		if raw.Base == nil {
			return fmt.Errorf("read config.json: model_type is %q, and base_config is missing", lemsType)
		}
		text = raw.Base
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("read config.json: %w", err)
	}
	delete(fields, "truncation_ranks")
	if len(raw.Architectures) == 1 {
		// ASVDLlamaForCausalLM is a LlamaForCausalLM whose matrices are factorized, and nothing else.
		if plain, ok := strings.CutPrefix(raw.Architectures[0], "ASVD"); ok {
			text, err := json.Marshal([]string{plain})
			if err != nil {
				return err
			}
			fields["architectures"] = text
		}
	}
	var err error
	r.config, err = json.Marshal(fields)
	return err
}

// lemsType is the model_type of all models of LEMS.
const lemsType = "low_rank_compressed"

// checkRanks holds ranks by the names of modules against the matrices.
func (r *Reader) checkRanks(field string, ranks map[string]int) error {
	for _, module := range slices.Sorted(maps.Keys(ranks)) {
		switch m, ok := r.matrices[module+".weight"]; {
		case !ok:
			return fmt.Errorf("it names %s, which is not factorized", module)
		case m.rank != ranks[module]:
			return fmt.Errorf("%s has rank %d, and its factors have %d", module, ranks[module], m.rank)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.matrices)) {
		if _, ok := ranks[strings.TrimSuffix(name, ".weight")]; !ok {
			return fmt.Errorf("%s is factorized, and it has no rank", strings.TrimSuffix(name, ".weight"))
		}
	}
	return nil
}
