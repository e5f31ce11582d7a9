package compress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"eckart/layers/lowrank"
	"eckart/model"
)

// A Space is what a planner chooses from.
type Space struct {
	Forms []string // that may be chosen beside keep; nil for all
	// Only, unless it is nil, is the one choice for every matrix. Where it is a product without a rank, that follows from
	// Ratio, the share of the elements of the matrix that its factors may have.
	Only  *Choice
	Ratio float64
	// Importance, unless it is nil, is what the methods diagonal and weighted go by.
	Importance *Importance
	// Known, unless it is nil, is what was predicted for the same model, statistics and Importance before, and takes in what
	// is predicted now: where nothing is new, neither weights nor statistics are read.
	Known Predictions
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
	space Space
	sites []siteCandidates
}

// siteCandidates are the choices for the matrices that read one input.
type siteCandidates struct {
	matrices []candidates
	together [][]outcome // choices that all of them have, and store less for it
}

// candidates are the choices for one matrix.
type candidates struct {
	name        string
	sensitivity float64
	outcomes    []outcome
}

// An outcome is a choice for a matrix, and what follows from it.
type outcome struct {
	Choice
	size Footprint
	err  float64
}

// NewPlanner predicts the error of every choice for every matrix. sensitivities, which may be nil, holds what a unit of
// relative squared error costs for each weight. progress hears how many blocks are done.
func NewPlanner(ctx context.Context, w *model.Walker, known Inputs, sensitivities map[string]float64, space Space, progress func(done, total int)) (*Planner, error) {
	p := &Planner{space: space}
	at := 0
	err := eachSite(w, func(s model.Site) error {
		if s.Layer != at {
			at = s.Layer
			progress(at, w.Layers())
		}
		c, err := p.site(ctx, w.Source(), s, known, sensitivities)
		p.sites = append(p.sites, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	progress(w.Layers(), w.Layers())
	return p, nil
}

// site collects the choices for the matrices of a site.
func (p *Planner) site(ctx context.Context, src model.Source, s model.Site, known Inputs, sensitivities map[string]float64) (siteCandidates, error) {
	var c siteCandidates
	gram := sync.OnceValues(func() (*lowrank.Gram, error) { return gramOf(known, s.Name) })
	load := func(i int) (*Target, error) {
		w, err := src.Weight(s.Weights[i].Name)
		if err != nil {
			return nil, err
		}
		g, err := gram()
		if err != nil {
			return nil, err
		}
		t, err := NewTarget(s.Weights[i].Name, w, g)
		if err == nil {
			t.Importance = p.space.Importance
		}
		return t, err
	}
	g := &group{size: len(s.Weights), load: load}
	rows := 0
	for _, sw := range s.Weights {
		rows += sw.Out
	}
	var joint []Choice
	if len(s.Weights) > 1 && p.space.Only == nil && p.space.allows(formJoint) {
		joint = forms[formJoint].Options(rows, s.In, known != nil)
	}
	ofJoint := make([][]outcome, len(joint))
	for i, sw := range s.Weights {
		if err := context.Cause(ctx); err != nil {
			return c, err
		}
		sensitivity, ok := sensitivities[sw.Name]
		if !ok {
			sensitivity = 1
		}
		m := candidates{name: moduleName(sw.Name), sensitivity: sensitivity}
		fail := func(err error) (siteCandidates, error) {
			return c, fmt.Errorf("plan compression of %s: %w", m.name, err)
		}
		of := forecast{module: m.name, out: sw.Out, in: s.In, known: p.space.Known, load: sync.OnceValues(func() (*Target, error) {
			t, err := load(i)
			if err != nil {
				return nil, err
			}
			return t.in(g, i), nil
		})}
		w, err := src.Weight(sw.Name)
		if err != nil {
			return fail(err)
		}
		choices, err := p.space.choices(sw.Out, s.In, rows, known != nil)
		if err != nil {
			return fail(err)
		}
		if m.outcomes, err = p.space.outcomes(of, FootprintOf(w), choices); err != nil {
			return fail(err)
		}
		for j, choice := range joint {
			o, err := of.outcome(choice)
			if err != nil {
				return fail(err)
			}
			ofJoint[j] = append(ofJoint[j], o)
		}
		c.matrices = append(c.matrices, m)
	}
	c.together = append(common(c.matrices), ofJoint...)
	for _, all := range c.together {
		for i := range all[1:] {
			all[i+1].size = all[i+1].size.Own()
		}
	}
	return c, nil
}

// outcomes returns what follows from each of some choices for a matrix that is stored in so much.
func (s Space) outcomes(of forecast, stored Footprint, choices []Choice) ([]outcome, error) {
	var all []outcome
	if s.Only == nil || s.Only.Form == FormKeep {
		all = append(all, outcome{Choice{Form: FormKeep}, stored, 0})
	}
	for _, choice := range choices {
		if choice.Form == FormKeep {
			continue
		}
		size, err := of.footprint(choice)
		if err != nil {
			return nil, err
		}
		if s.Only == nil && size.Bytes() >= stored.Bytes() {
			continue // as stored is smaller, and loses nothing
		}
		o, err := of.outcome(choice)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// common returns the choices that all matrices have, of which they would store a part once.
func common(matrices []candidates) (all [][]outcome) {
	if len(matrices) < 2 {
		return nil
	}
	for _, o := range matrices[0].outcomes {
		if len(o.size.Shared) == 0 {
			continue
		}
		same := []outcome{o}
		for _, m := range matrices[1:] {
			if i := slices.IndexFunc(m.outcomes, func(of outcome) bool { return of.Choice == o.Choice }); i >= 0 {
				same = append(same, m.outcomes[i])
			}
		}
		if len(same) == len(matrices) {
			all = append(all, same)
		}
	}
	return all
}

// allows reports whether a form may be chosen.
func (s Space) allows(form string) bool { return s.Forms == nil || slices.Contains(s.Forms, form) }

// choices returns those for a matrix (out, in) on its own; rows are those of all matrices that read its input.
func (s Space) choices(out, in, rows int, statistics bool) ([]Choice, error) {
	if s.Only != nil {
		c := *s.Only
		if c.IsProduct() && c.Rank == 0 {
			rankFor := lowrank.RankFor
			switch c.Form {
			case formPIFA:
				rankFor = lowrank.PIFARankFor
			case formJoint:
				out = rows
			}
			if c.Rank = rankFor(s.Ratio, out, in, rankMultiple); c.Rank == 0 {
				return nil, fmt.Errorf("a ratio of %g leaves a matrix of %d x %d no rank", s.Ratio, out, in)
			}
		}
		return []Choice{c}, nil
	}
	var all []Choice
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		if name != formJoint && s.allows(name) {
			all = append(all, forms[name].Options(out, in, statistics)...)
		}
	}
	return all, nil
}

// An entity is what the knapsack chooses for at once: a matrix, or all that read one input.
type entity struct {
	options  []option
	outcomes [][]outcome // by the index of an option: of each matrix
}

// Plan chooses within a policy. The same planner and policy give the same plan. Model and Calibration are left to the caller.
func (p *Planner) Plan(policy Policy) (*Plan, error) {
	cost := func(f Footprint) float64 { return float64(f.Bytes()) }
	budget, unit, scale := float64(policy.Bytes), "bytes", 1.0
	if policy.Seconds != 0 {
		cost = policy.Costs.Seconds
		budget, unit, scale = policy.Seconds, "microseconds a token", 1e6
	}
	var entities []entity
	for _, s := range p.sites {
		entities = append(entities, s.entities(cost, policy.MaxError)...)
	}
	matrices := make([][]option, len(entities))
	var least float64
	for i, e := range entities {
		matrices[i] = e.options
		least += slices.MinFunc(e.options, func(a, b option) int { return cmp.Compare(a.cost, b.cost) }).cost
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
	var outcomes []outcome // of every matrix, in the order of the model
	for i, j := range chosen {
		outcomes = append(outcomes, entities[i].outcomes[j]...)
	}
	plan := &Plan{Version: planVersion, Policy: policy.Words}
	for _, s := range p.sites {
		of := outcomes[:len(s.matrices)]
		outcomes = outcomes[len(s.matrices):]
		for i, m := range s.matrices {
			o := of[i]
			if shares(i, func(i int) Choice { return of[i].Choice }) {
				o.size = o.size.Own()
			}
			plan.add(PlannedModule{Name: m.name, Choice: o.Choice, Bytes: o.size.Bytes(), Error: o.err, Sensitivity: m.sensitivity})
		}
	}
	return plan, nil
}

// add adds a module and what it comes to.
func (p *Plan) add(m PlannedModule) {
	p.Modules = append(p.Modules, m)
	p.Bytes += m.Bytes
	p.Loss += m.Sensitivity * m.Error
}

// entities returns what there is to choose for the matrices of a site: for each of them on its own, or for all at once where
// something that they would share is worth it.
func (s siteCandidates) entities(cost func(Footprint) float64, maxError float64) []entity {
	alone := make([]entity, len(s.matrices))
	for i, m := range s.matrices {
		alone[i] = m.entity(cost, maxError)
	}
	shared := entity{}
	for _, all := range s.together {
		o := option{index: len(shared.outcomes)}
		within := true
		for i, of := range all {
			o.cost += cost(of.size)
			o.loss += s.matrices[i].sensitivity * of.err
			within = within && (maxError == 0 || of.err <= maxError)
		}
		if within {
			shared.options, shared.outcomes = append(shared.options, o), append(shared.outcomes, all)
		}
	}
	first := len(shared.options)
	if first == 0 {
		return alone
	}
	// What choosing for each on its own can come to is where going along all hulls at once passes.
	combine(alone, &shared)
	if h := hull(shared.options); slices.ContainsFunc(h, func(o option) bool { return o.index < first }) {
		return []entity{shared}
	}
	return alone
}

// combine adds what the choices for entities on their own come to, as far as it can be best at some price, to those for all.
func combine(alone []entity, all *entity) {
	options := make([][]option, len(alone))
	for i, e := range alone {
		options[i] = e.options
	}
	hulls, at, _ := start(options)
	add := func() {
		o, outcomes := option{index: len(all.outcomes)}, []outcome(nil)
		for i, h := range hulls {
			o.cost += h[at[i]].cost
			o.loss += h[at[i]].loss
			outcomes = append(outcomes, alone[i].outcomes[h[at[i]].index]...)
		}
		all.options, all.outcomes = append(all.options, o), append(all.outcomes, outcomes)
	}
	add()
	for _, m := range moves(hulls) {
		at[m.matrix] = m.to
		add()
	}
}

// entity returns the choices for a matrix that lose at most maxError of it, where there are any, and else the best; 0 is no
// bound.
func (c candidates) entity(cost func(Footprint) float64, maxError float64) entity {
	var e entity
	add := func(o outcome) {
		e.options = append(e.options, option{cost(o.size), c.sensitivity * o.err, len(e.outcomes)})
		e.outcomes = append(e.outcomes, []outcome{o})
	}
	for _, o := range c.outcomes {
		if maxError == 0 || o.err <= maxError {
			add(o)
		}
	}
	if e.options == nil {
		add(slices.MinFunc(c.outcomes, func(a, b outcome) int { return cmp.Compare(a.err, b.err) }))
	}
	return e
}
