package compress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model"
)

// A Plan says how every matrix of a model's blocks is stored. It holds every decision of kind, rank, bits and group: what
// comes after it chooses nothing. A person may edit it; Check says whether it is one for a model.
type Plan struct {
	Version     int             `json:"version"`
	Model       string          `json:"model"`       // digest of the checkpoint
	Policy      string          `json:"policy"`      // what was asked for, in words
	Calibration string          `json:"calibration"` // digest of the statistics; empty for none
	Modules     []PlannedModule `json:"modules"`     // in the order of the model
	Bytes       int64           `json:"bytes"`       // of all of them
	Loss        float64         `json:"loss"`        // the sum of sensitivity times error: nats of KL where sensitivities were measured
}

// A PlannedModule is a matrix with its choice.
type PlannedModule struct {
	Name string `json:"module"` // without ".weight"
	Choice
	Bytes       int64   `json:"bytes"`
	Error       float64 `json:"error"`       // relative squared error that is expected, on inputs like those of the calibration
	Sensitivity float64 `json:"sensitivity"` // what a unit of error costs; 1 where nothing was measured
}

// planVersion is the version of the plan's fields.
const planVersion = 1

// A Space is what a planner chooses from.
type Space struct {
	Forms []string // that may be chosen beside keep; nil for all
	// Only, unless it is nil, is the one choice for every matrix. Where it is a product without a rank, that follows from
	// Ratio, the share of the elements of the matrix that its factors may have.
	Only  *Choice
	Ratio float64
}

// A Policy is what a plan is made for. One of Bytes, Loss and Seconds bounds it; none where the space leaves no choice.
type Policy struct {
	Words    string  // for people
	Bytes    int64   // of the matrices of the blocks
	Loss     float64 // the most that may be lost, in the unit of Plan.Loss
	Seconds  float64 // to apply all matrices of the blocks to a token, by Costs
	Costs    Costs
	MaxError float64 // no matrix may lose more than that of itself, where there is another choice; 0 for no bound
}

// A BudgetError is a budget that no choice meets.
type BudgetError struct {
	Want, Least float64
	Unit        string // "bytes" or "microseconds a token"
}

// Error says by how much the budget is missed.
func (e *BudgetError) Error() string {
	if e.Want <= 0 {
		return fmt.Sprintf("plan compression: the budget leaves nothing for the matrices of the blocks, which take at least %.0f %s", e.Least, e.Unit)
	}
	return fmt.Sprintf("plan compression: the budget leaves %.0f %s for the matrices of the blocks, and they take at least %.0f, which is %.0f more",
		e.Want, e.Unit, e.Least, e.Least-e.Want)
}

// ErrLoss says that no choice loses as little as was asked for.
var ErrLoss = errors.New("plan compression: even the largest choices lose more than was asked for")

// A Planner knows for every matrix of a model's blocks what it could become, and what that would cost.
type Planner struct {
	space    Space
	matrices []candidates
}

// candidates are the choices for one matrix.
type candidates struct {
	name        string
	sensitivity float64
	choices     []Choice
	footprints  []Footprint
	errors      []float64
}

// NewPlanner predicts the error of every choice for every matrix. sensitivities, which may be nil, holds what a unit of
// relative squared error costs for each weight. progress hears how many blocks are done.
func NewPlanner(ctx context.Context, w *model.Walker, known Inputs, sensitivities map[string]float64, space Space, progress func(done, total int)) (*Planner, error) {
	p := &Planner{space: space}
	for i := range w.Layers() {
		sites, err := w.Sites(i)
		if err != nil {
			return nil, err
		}
		for _, s := range sites {
			g, err := gramOf(known, s.Name)
			if err != nil {
				return nil, err
			}
			for _, sw := range s.Weights {
				if err := context.Cause(ctx); err != nil {
					return nil, err
				}
				weight, err := w.Source().Weight(sw.Name)
				if err != nil {
					return nil, err
				}
				if err := p.add(sw.Name, weight, g, sensitivityOf(sensitivities, sw.Name)); err != nil {
					return nil, fmt.Errorf("plan compression of %s: %w", moduleName(sw.Name), err)
				}
			}
		}
		progress(i+1, w.Layers())
	}
	return p, nil
}

// add predicts the errors of the choices for a weight.
func (p *Planner) add(name string, w layers.Weight, g *lowrank.Gram, sensitivity float64) error {
	c, err := p.space.candidates(name, w, g != nil, sensitivity)
	if err != nil {
		return err
	}
	t, err := NewTarget(name, w, g)
	if err != nil {
		return err
	}
	for _, choice := range c.choices {
		e := 0.0
		if choice.Form != FormKeep {
			f, err := formOf(choice)
			if err != nil {
				return err
			}
			if e, err = f.Predict(t, choice); err != nil {
				return err
			}
		}
		c.errors = append(c.errors, e)
	}
	p.matrices = append(p.matrices, c)
	return nil
}

// candidates returns the choices for a weight without their errors.
func (s Space) candidates(name string, w layers.Weight, statistics bool, sensitivity float64) (candidates, error) {
	out, in := w.Dims()
	c := candidates{name: moduleName(name), sensitivity: sensitivity}
	choices, err := s.choices(out, in, statistics)
	if err != nil {
		return c, err
	}
	if s.Only == nil || s.Only.Form == FormKeep {
		c.choices, c.footprints = []Choice{{Form: FormKeep}}, []Footprint{FootprintOf(w)}
	}
	for _, choice := range choices {
		if choice.Form == FormKeep {
			continue
		}
		f, err := formOf(choice)
		if err != nil {
			return c, err
		}
		size, err := f.Footprint(out, in, choice)
		if err != nil {
			return c, err
		}
		if s.Only == nil && size.Bytes() >= storedBytes(w) {
			continue // as stored is smaller, and loses nothing
		}
		c.choices, c.footprints = append(c.choices, choice), append(c.footprints, size)
	}
	return c, nil
}

// choices returns those for a matrix (out, in).
func (s Space) choices(out, in int, statistics bool) ([]Choice, error) {
	if s.Only != nil {
		c := *s.Only
		if c.IsProduct() && c.Rank == 0 {
			rankFor := lowrank.RankFor
			if c.Form == formPIFA {
				rankFor = lowrank.PIFARankFor
			}
			if c.Rank = rankFor(s.Ratio, out, in, rankMultiple); c.Rank == 0 {
				return nil, fmt.Errorf("a ratio of %g leaves a matrix of %d x %d no rank", s.Ratio, out, in)
			}
		}
		return []Choice{c}, nil
	}
	var all []Choice
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		if s.Forms == nil || slices.Contains(s.Forms, name) {
			all = append(all, forms[name].Options(out, in, statistics)...)
		}
	}
	return all, nil
}

// FootprintOf returns the footprint of a weight as it is stored.
func FootprintOf(w layers.Weight) Footprint {
	if out, in := w.Dims(); w.Kind() == "dense" && storedBytes(w) == 2*int64(out)*int64(in) {
		return Footprint{Matrices: []Stored{{out, in, nil}}}
	}
	return Footprint{Kept: storedBytes(w)}
}

// Plan chooses within a policy. The same planner and policy give the same plan. Model and Calibration are left to the caller.
func (p *Planner) Plan(policy Policy) (*Plan, error) {
	matrices := make([][]option, len(p.matrices))
	cost := func(f Footprint) float64 { return float64(f.Bytes()) }
	budget, unit, scale := float64(policy.Bytes), "bytes", 1.0
	if policy.Seconds != 0 {
		cost = policy.Costs.Seconds
		budget, unit, scale = policy.Seconds, "microseconds a token", 1e6
	}
	var least float64
	for i, m := range p.matrices {
		smallest := math.Inf(1)
		for j, f := range m.footprints {
			if policy.MaxError == 0 || m.errors[j] <= policy.MaxError {
				matrices[i] = append(matrices[i], option{cost(f), m.sensitivity * m.errors[j], j})
				smallest = min(smallest, cost(f))
			}
		}
		if matrices[i] == nil { // nothing is within the bound: the best there is
			j := slices.Index(m.errors, slices.Min(m.errors))
			matrices[i] = []option{{cost(m.footprints[j]), m.sensitivity * m.errors[j], j}}
			smallest = cost(m.footprints[j])
		}
		least += smallest
	}
	chosen, ok := make([]int, len(matrices)), true
	switch {
	case p.space.Only != nil:
	case policy.Loss > 0:
		if chosen, ok = allocateLoss(matrices, policy.Loss); !ok {
			return nil, ErrLoss
		}
	default:
		if chosen, ok = allocate(matrices, budget); !ok {
			return nil, &BudgetError{scale * budget, scale * least, unit}
		}
	}
	plan := &Plan{Version: planVersion, Policy: policy.Words}
	for i, j := range chosen {
		c := p.matrices[i]
		m := PlannedModule{Name: c.name, Choice: c.choices[j], Bytes: c.footprints[j].Bytes(), Error: c.errors[j], Sensitivity: c.sensitivity}
		plan.Modules = append(plan.Modules, m)
		plan.Bytes += m.Bytes
		plan.Loss += m.Sensitivity * m.Error
	}
	return plan, nil
}

// Encode returns the plan as indented JSON.
func (p *Plan) Encode() ([]byte, error) { return json.MarshalIndent(p, "", "  ") }

// ParsePlan reads what Encode wrote, edited or not.
func ParsePlan(text []byte) (*Plan, error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	p := new(Plan)
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if p.Version != planVersion {
		return nil, fmt.Errorf("read plan: version %d, want %d", p.Version, planVersion)
	}
	for _, m := range p.Modules {
		if m.Form == FormKeep {
			continue
		}
		if _, err := formOf(m.Choice); err != nil {
			return nil, fmt.Errorf("read plan: %s: %w", m.Name, err)
		}
	}
	return p, nil
}

// Check returns an error that says why the plan is none for the model that w walks: it was made for another, lists a
// matrix that it does not have or none for one that it has, or a choice that no matrix of that shape can have. It sets
// the plan's bytes, which edits may have changed. digest is that of the model.
func (p *Plan) Check(w *model.Walker, digest string) error {
	if p.Model != digest {
		return fmt.Errorf("read plan: it was made for another model (%.12s, this one is %.12s)", p.Model, digest)
	}
	planned := map[string]*PlannedModule{}
	for i := range p.Modules {
		m := &p.Modules[i]
		if planned[m.Name] != nil {
			return fmt.Errorf("read plan: %s is there twice", m.Name)
		}
		planned[m.Name] = m
	}
	p.Bytes = 0
	err := eachWeight(w, func(s model.Site, sw model.SiteWeight) error {
		m := planned[moduleName(sw.Name)]
		if m == nil {
			return fmt.Errorf("read plan: %s is missing", moduleName(sw.Name))
		}
		delete(planned, m.Name)
		size, err := m.footprint(w.Source(), s, sw)
		if err != nil {
			return fmt.Errorf("read plan: %s: %w", m.Name, err)
		}
		m.Bytes = size.Bytes()
		p.Bytes += m.Bytes
		return nil
	})
	if err != nil {
		return err
	}
	for name := range planned {
		return fmt.Errorf("read plan: the model has no matrix %s", name)
	}
	return nil
}

// footprint returns what is stored of m, a weight of src.
func (m *PlannedModule) footprint(src model.Source, s model.Site, sw model.SiteWeight) (Footprint, error) {
	if m.Form == FormKeep {
		w, err := src.Weight(sw.Name)
		if err != nil {
			return Footprint{}, err
		}
		return FootprintOf(w), nil
	}
	f, err := formOf(m.Choice)
	if err != nil {
		return Footprint{}, err
	}
	return f.Footprint(sw.Out, s.In, m.Choice)
}

// Seconds returns the time that all matrices of the blocks are expected to take for a token, as they are stored in the model
// of w and as the plan has them.
func (p *Plan) Seconds(w *model.Walker, c Costs) (before, after float64, err error) {
	planned := map[string]*PlannedModule{}
	for i := range p.Modules {
		planned[p.Modules[i].Name] = &p.Modules[i]
	}
	err = eachWeight(w, func(s model.Site, sw model.SiteWeight) error {
		weight, err := w.Source().Weight(sw.Name)
		if err != nil {
			return err
		}
		size, err := planned[moduleName(sw.Name)].footprint(w.Source(), s, sw)
		before += c.Seconds(FootprintOf(weight))
		after += c.Seconds(size)
		return err
	})
	return before, after, err
}

// eachWeight calls use for every matrix of the blocks, in order.
func eachWeight(w *model.Walker, use func(model.Site, model.SiteWeight) error) error {
	for i := range w.Layers() {
		sites, err := w.Sites(i)
		if err != nil {
			return err
		}
		for _, s := range sites {
			for _, sw := range s.Weights {
				if err := use(s, sw); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
