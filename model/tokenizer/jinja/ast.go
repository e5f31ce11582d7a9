package jinja

// expr is an expression of the tree.
type expr interface {
	eval(r *run) (Value, error)
	// each calls f with every direct child, nil ones left out.
	each(f func(expr))
}

// stmt is a statement of the tree.
type stmt interface {
	exec(r *run) (signal, error)
}

// signal is how a statement ended.
type signal uint8

const (
	proceed signal = iota
	breakLoop
	continueLoop
)

type (
	constExpr struct{ value Value }
	// dataExpr is the text between tags.
	dataExpr struct{ text string }
	nameExpr struct {
		name string
		ref  ref
	}
	listExpr  struct{ items []expr }
	tupleExpr struct{ items []expr }
	dictExpr  struct{ keys, vals []expr }

	attrExpr struct {
		object expr
		name   string
	}
	indexExpr struct{ object, index expr }
	// sliceExpr stands only as the index of an indexExpr; its parts may be nil.
	sliceExpr struct{ start, stop, step expr }

	callExpr struct {
		callee expr
		args   arguments
	}
	filterExpr struct {
		value  expr // nil in a filter block: the block's text
		name   string
		args   arguments
		filter filterFunc // nil if there is none of that name: fails when it runs
		line   int
	}
	testExpr struct {
		value expr
		name  string
		args  arguments
		test  testFunc
		line  int
	}

	unaryExpr struct {
		op      byte // '-' or '+'
		operand expr
	}
	notExpr    struct{ operand expr }
	binaryExpr struct {
		op          string
		left, right expr
	}
	// logicExpr is `and` or `or`.
	logicExpr struct {
		or          bool
		left, right expr
	}
	concatExpr  struct{ parts []expr }
	compareExpr struct {
		first expr
		rest  []comparison
	}
	comparison struct {
		op      string // ==, !=, <, <=, >, >=, in, not in
		operand expr
	}
	condExpr struct {
		test, then, els expr // els may be nil
		line            int
	}
)

// arguments are those of a call, in the order of the call.
type arguments struct {
	positional []expr
	names      []string
	named      []expr
	star       expr // *sequence, or nil
	starStar   expr // **mapping, or nil
}

func (a *arguments) each(f func(expr)) {
	for _, e := range a.positional {
		f(e)
	}
	for _, e := range a.named {
		f(e)
	}
	eachOf(f, a.star, a.starStar)
}

func eachOf(f func(expr), es ...expr) {
	for _, e := range es {
		if e != nil {
			f(e)
		}
	}
}

func (e *constExpr) each(func(expr))    {}
func (e *dataExpr) each(func(expr))     {}
func (e *nameExpr) each(func(expr))     {}
func (e *listExpr) each(f func(expr))   { eachOf(f, e.items...) }
func (e *tupleExpr) each(f func(expr))  { eachOf(f, e.items...) }
func (e *attrExpr) each(f func(expr))   { f(e.object) }
func (e *indexExpr) each(f func(expr))  { eachOf(f, e.object, e.index) }
func (e *sliceExpr) each(f func(expr))  { eachOf(f, e.start, e.stop, e.step) }
func (e *unaryExpr) each(f func(expr))  { f(e.operand) }
func (e *notExpr) each(f func(expr))    { f(e.operand) }
func (e *binaryExpr) each(f func(expr)) { eachOf(f, e.left, e.right) }
func (e *logicExpr) each(f func(expr))  { eachOf(f, e.left, e.right) }
func (e *concatExpr) each(f func(expr)) { eachOf(f, e.parts...) }
func (e *condExpr) each(f func(expr))   { eachOf(f, e.test, e.then, e.els) }
func (e *compareExpr) each(f func(expr)) {
	f(e.first)
	for _, c := range e.rest {
		f(c.operand)
	}
}

func (e *dictExpr) each(f func(expr)) {
	for i := range e.keys {
		eachOf(f, e.keys[i], e.vals[i])
	}
}

func (e *callExpr) each(f func(expr)) {
	f(e.callee)
	e.args.each(f)
}

func (e *filterExpr) each(f func(expr)) {
	eachOf(f, e.value)
	e.args.each(f)
}

func (e *testExpr) each(f func(expr)) {
	f(e.value)
	e.args.each(f)
}

// target is what an assignment assigns to: a name, an attribute of a namespace,
// or targets to unpack into.
type target struct {
	name  string
	attr  string // of the namespace called name; "" for the name itself
	items []*target
	tuple bool
	line  int
	ref   ref
	// export says that a block may look the name up: it is set at the top level.
	export bool
}

type (
	outputStmt struct {
		parts []expr
		lines []int // of the parts
	}
	ifStmt struct {
		lines  []int
		tests  []expr // of if and every elif
		bodies [][]stmt
		els    []stmt
	}
	forStmt struct {
		line      int
		target    *target
		iter      expr
		test      expr // may be nil
		body, els []stmt
		hasElse   bool
		recursive bool

		// Set by the resolver.
		testTarget                  *target // target, bound for the test
		enter, enterTest, enterElse []load
		function                    *function // of a recursive loop
		loopRef                     ref
		usesLoop                    bool
	}
	// macroStmt defines a macro; callStmt and generationStmt hold one for the
	// block they pass.
	macroStmt struct {
		line     int
		name     string // "" for the body of a call block
		params   []string
		defaults []expr // of the last parameters
		body     []stmt

		// Set by the resolver.
		ref                     ref
		export                  bool
		function                *function
		enter                   []load
		slots                   []int // of params
		caller, varargs, kwargs special
		explicitCaller          bool
	}
	callStmt struct {
		line  int
		call  *callExpr
		block *macroStmt
	}
	// generationStmt is {% generation %}, which marks what the model wrote. Its
	// body has the scope of a call block.
	generationStmt struct {
		line  int
		block *macroStmt
	}
	filterStmt struct {
		line   int
		filter *filterExpr
		body   []stmt
		enter  []load
	}
	withStmt struct {
		line    int
		targets []*target
		values  []expr
		body    []stmt
		enter   []load
	}
	setStmt struct {
		line   int
		target *target
		value  expr
	}
	setBlockStmt struct {
		line   int
		target *target
		filter *filterExpr // may be nil
		body   []stmt
		enter  []load
	}
	// blockStmt is {% block %}: without inheritance, a scope that sees only what
	// the context holds.
	blockStmt struct {
		line     int
		name     string
		scoped   bool
		body     []stmt
		function *function
		enter    []load
		visible  []visible // the locals that a scoped block sees
	}
	loopControlStmt struct {
		line   int
		signal signal
	}
)

// special is a parameter that a macro has when its body mentions it.
type special struct {
	slot int
	used bool
}

type visible struct {
	name string
	ref  ref
}
