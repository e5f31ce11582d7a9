package compress

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A Choice says how one matrix is stored. Which fields count depends on the form.
type Choice struct {
	Form    string `json:"form"`              // a row of the table of forms
	Method  string `json:"method,omitempty"`  // how the form's numbers are found
	Bits    int    `json:"bits,omitempty"`    // of the codes of a rounded matrix
	Group   int    `json:"group,omitempty"`   // columns that share a scale
	Zeros   bool   `json:"zeros,omitempty"`   // a zero point for each group
	Rank    int    `json:"rank,omitempty"`    // of a product, or of a residual
	Factors string `json:"factors,omitempty"` // type of factors: bf16, int8 or int4
	Rounds  int    `json:"rounds,omitempty"`  // of alternation between base and residual
}

// String returns the choice as ParseChoice reads it: "int4/32:feedback", "lowrank@96/bf16:whitened",
// "int3/32+r16/int8:intrinsic", "int4/32+r16/int8:alternated2".
func (c Choice) String() string {
	var b strings.Builder
	switch c.Form {
	case FormKeep:
		return FormKeep
	case formRound, formResidual:
		fmt.Fprintf(&b, "int%d/%d", c.Bits, c.Group)
		if c.Zeros {
			b.WriteString("z")
		}
		if c.Form == formResidual {
			fmt.Fprintf(&b, "+r%d/%s", c.Rank, c.Factors)
		}
	default:
		b.WriteString(c.Form)
		if c.Rank > 0 {
			fmt.Fprintf(&b, "@%d", c.Rank)
		}
		b.WriteString("/" + c.Factors)
	}
	b.WriteString(":" + c.Method)
	if c.Rounds > 0 {
		b.WriteString(strconv.Itoa(c.Rounds))
	}
	return b.String()
}

// The methods of finding base and residual. Those that end in near round the base to nearest, the others with feedback.
const (
	methodIntrinsic      = "intrinsic" // the residual's inputs are known first, and rounding leaves them alone
	methodRefined        = "refined"   // the same, and then found again in turns
	methodEoRA           = "eora"      // the residual is fitted to what rounding left
	methodEoRANear       = "eora_near"
	methodAlternated     = "alternated" // base and residual are found again in turns
	methodAlternatedNear = "alternated_near"
)

// IsProduct reports whether the choice is of factors alone, whose rank sets their size.
func (c Choice) IsProduct() bool {
	return c.Form == formLowRank || c.Form == formPIFA || c.Form == formJoint || c.Form == formNested
}

// NeedsImportance reports whether making the choice takes an Importance.
func (c Choice) NeedsImportance() bool { return c.Method == methodWeighted }

// UsesImportance reports whether the choice goes by an Importance where there is one.
func (c Choice) UsesImportance() bool { return c.NeedsImportance() || c.Method == methodDiagonal }

// These are the words of ParseChoice: codes with an optional residual, and products.
var (
	roundedWord = regexp.MustCompile(`^int([2348])(?:/(\d{1,6}))?(z)?(?:\+r(\d{1,6})(?:/(\w+))?)?(?::([a-z_]+)(\d{0,2}))?$`)
	productWord = regexp.MustCompile(`^(lowrank|pifa|joint|nested)(?:@(\d{1,6}))?(?:/(\w+))?(?::([a-z_]+))?$`)
)

// errChoice says what ParseChoice reads.
var errChoice = errors.New("want lowrank, nested, joint or pifa, int8, int4, int3 or int2, or one of these with a residual such as int3+r16")

// ParseChoice reads what String returns. What is left out is chosen: groups of 32, the best method that there is with or
// without statistics of the inputs, factors in bf16, and in int8 for a residual. A product without a rank has rank 0.
func ParseChoice(s string, statistics bool) (Choice, error) {
	number := func(s string, otherwise int) int {
		if n, err := strconv.Atoi(s); err == nil {
			return n
		}
		return otherwise // empty: the expressions let nothing else through
	}
	either := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	if s == FormKeep {
		return Choice{Form: FormKeep}, nil
	}
	if m := productWord.FindStringSubmatch(s); m != nil {
		method := methodSVD
		if statistics {
			method = methodWhitened
		}
		return Choice{Form: m[1], Rank: number(m[2], 0), Factors: either(m[3], "bf16"), Method: either(m[4], method)}, nil
	}
	m := roundedWord.FindStringSubmatch(s)
	if m == nil {
		return Choice{}, fmt.Errorf("form %q: %w", s, errChoice)
	}
	c := Choice{Form: formRound, Bits: number(m[1], 0), Group: number(m[2], 32), Zeros: m[3] != "", Rounds: number(m[7], 0)}
	method := methodNearest
	if statistics {
		method = methodFeedback
	}
	if m[4] != "" {
		c.Form, c.Rank, c.Factors = formResidual, number(m[4], 0), either(m[5], "int8")
		method = methodIntrinsic
	}
	c.Method = either(m[6], method)
	return c, nil
}
