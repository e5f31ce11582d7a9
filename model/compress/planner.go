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
	InMemory bool    // Bytes are those in memory (Footprint.Memory), not those in a checkpoint
	Loss     float64 // the most that may be lost, in the unit of Plan.Loss
	Seconds  float64 // to apply all matrices of the blocks to a token, by Costs
	Costs    Costs
	MaxError float64 // no matrix may lose more than that of itself, where there is another choice; 0 for no bound
}

// A BudgetError is a budget that no choice meets.
type BudgetError struct {
	Want  float64 // what there is for the matrices of the blocks; below 0 where not even all else is within the budget
	Least float64 // what they take at least
	Unit  string  // "bytes" or "microseconds a token"
}

// Error says by how much the budget is missed.
func (e *BudgetError) Error() string {
	if e.Want < 0 {
		return fmt.Sprintf("plan compression: the budget leaves nothing for the matrices of the blocks: all else takes %.0f %s more, and they take at least %.0f, which is %.0f more together",
			-e.Want, e.Unit, e.Least, e.Least-e.Want)
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
type siteCandidates struct{ matrices []candidates }

// candidates are the choices for one matrix, among them those that it can only have together with the others of its site.
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

// site predicts what every choice for the matrices of a site would lose.
func (p *Planner) site(ctx context.Context, src model.Source, s model.Site, known Inputs, sensitivities map[string]float64) (siteCandidates, error) {
	c, err := p.space.site(src, s, known != nil, sensitivities)
	if err != nil {
		return c, err
	}
	gram := sync.OnceValues(func() (*lowrank.Gram, error) { return gramOf(known, s.Name) })
	g := &group{size: len(s.Weights), load: func(i int) (*Target, error) {
		w, err := src.Weight(s.Weights[i].Name)
		if err != nil {
			return nil, err
		}
		of, err := gram()
		if err != nil {
			return nil, err
		}
		t, err := NewTarget(s.Weights[i].Name, w, of)
		if err == nil {
			t.Importance = p.space.Importance
		}
		return t, err
	}}
	for i, m := range c.matrices {
		if err := context.Cause(ctx); err != nil {
			return c, err
		}
		if err := p.space.Known.fill(m.name, m.outcomes, func() (*Target, error) {
			t, err := g.load(i)
			if err != nil {
				return nil, err
			}
			return t.in(g, i), nil
		}); err != nil {
			return c, fmt.Errorf("plan compression of %s: %w", m.name, err)
		}
	}
	return c, nil
}

// predict finds the error of a choice for t.
func (o *outcome) predict(t *Target) error {
	if o.Form == FormKeep {
		return nil
	}
	f, err := formOf(o.Choice)
	if err == nil {
		o.err, err = f.Predict(t, o.Choice)
	}
	return err
}

// site returns the choices for the matrices of a site without their errors. statistics says whether anything is known of
// their inputs.
func (s Space) site(src model.Source, of model.Site, statistics bool, sensitivities map[string]float64) (siteCandidates, error) {
	var c siteCandidates
	rows := 0
	for _, sw := range of.Weights {
		rows += sw.Out
	}
	for _, sw := range of.Weights {
		m := candidates{name: moduleName(sw.Name), sensitivity: 1}
		if known, ok := sensitivities[sw.Name]; ok {
			m.sensitivity = known
		}
		w, err := src.Weight(sw.Name)
		if err == nil {
			m.outcomes, err = s.outcomes(FootprintOf(w), sw.Out, of.In, rows, statistics)
		}
		if err != nil {
			return c, fmt.Errorf("plan compression of %s: %w", m.name, err)
		}
		c.matrices = append(c.matrices, m)
	}
	return c, nil
}

// outcomes returns the choices for a matrix (out, in) that is stored in so much, one of those with rows together that read
// its input.
func (s Space) outcomes(stored Footprint, out, in, rows int, statistics bool) ([]outcome, error) {
	var all []outcome
	if s.Only == nil || s.Only.Form == FormKeep {
		all = append(all, outcome{Choice{Form: FormKeep}, stored, 0})
	}
	choices, err := s.choices(out, in, rows, statistics)
	if err != nil {
		return nil, err
	}
	for _, choice := range choices {
		if choice.Form == FormKeep {
			continue
		}
		f, err := formOf(choice)
		if err != nil {
			return nil, err
		}
		size, err := f.Footprint(out, in, choice)
		if err != nil {
			return nil, err
		}
		if s.Only == nil && choice.Form != formJoint && size.Bytes() >= stored.Bytes() {
			continue // as stored is smaller, and loses nothing
		}
		all = append(all, outcome{choice, size, 0})
	}
	return all, nil
}

// choices returns those for a matrix (out, in), one of those with rows together that read its input.
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
		switch {
		case s.Forms != nil && !slices.Contains(s.Forms, name):
		case name != formJoint:
			all = append(all, forms[name].Options(out, in, statistics)...)
		case rows > out:
			all = append(all, forms[name].Options(rows, in, statistics)...)
		}
	}
	return all, nil
}

// together returns the choices that all matrices of the site can have, of which they store a part once.
func (s siteCandidates) together() (all [][]outcome) {
	if len(s.matrices) < 2 {
		return nil
	}
	for _, o := range s.matrices[0].outcomes {
		if len(o.size.Shared) == 0 {
			continue
		}
		same := []outcome{o}
		for _, m := range s.matrices[1:] {
			i := slices.IndexFunc(m.outcomes, func(of outcome) bool { return of.Choice == o.Choice })
			if i < 0 {
				break
			}
			own := m.outcomes[i]
			own.size = own.size.Own()
			same = append(same, own)
		}
		if len(same) == len(s.matrices) {
			all = append(all, same)
		}
	}
	return all
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
	switch {
	case policy.Seconds != 0:
		cost = policy.Costs.Seconds
		budget, unit, scale = policy.Seconds, "microseconds a token", 1e6
	case policy.InMemory:
		cost = func(f Footprint) float64 { return float64(f.Memory()) }
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
	if s.matrices[0].outcomes[0].Form == formJoint { // it is the only choice
		var all []outcome
		for _, m := range s.matrices {
			all = append(all, m.outcomes...)
		}
		return []entity{{[]option{{}}, [][]outcome{all}}}
	}
	alone := make([]entity, len(s.matrices))
	for i, m := range s.matrices {
		alone[i] = m.entity(cost, maxError)
	}
	shared := entity{}
	for _, all := range s.together() {
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
		if o.Form != formJoint && (maxError == 0 || o.err <= maxError) {
			add(o)
		}
	}
	if e.options == nil {
		add(slices.MinFunc(c.outcomes, func(a, b outcome) int { return cmp.Compare(a.err, b.err) }))
	}
	return e
}
