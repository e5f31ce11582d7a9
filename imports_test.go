package eckart_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allowed lists, for each package of the module, the others of the module that it may import; a name that ends in /...
// stands for a package and all below it. The graph goes one way, cmd -> api -> runtime -> model -> layers -> kernels,
// and devices are named by commands and tests alone. A package that is not listed fails the test: it needs a sentence
// that says what it owns (ARCHITECTURE.md) before it gets a line here.
var allowed = map[string][]string{
	"internal/divergence":        nil,
	"internal/grid":              nil,
	"internal/linalg":            nil,
	"internal/matrixtest":        {"internal/linalg", "kernels", "layers", "model/checkpoint"},
	"internal/race":              nil,
	"kernels":                    nil,
	"kernels/cpu":                {"kernels"},
	"kernels/cuda":               {"kernels", "kernels/cuda/ptx"},
	"kernels/cuda/ptx":           nil,
	"kernels/cuda/ptx/compile":   {"kernels/cuda/ptx", "kernels/cuda/src"},
	"kernels/cuda/ptx/translate": nil,
	"kernels/cuda/shim":          {"kernels/cuda/ptx", "kernels/cuda/ptx/translate", "kernels/cuda/src"},
	"kernels/cuda/src":           nil,
	"kernels/kerneltest":         {"kernels"},
	"kvcache":                    {"kernels"},
	"layers":                     {"internal/grid", "internal/linalg", "kernels"},
	"layers/lowrank":             {"internal/linalg", "kernels", "layers"},
	"layers/residual":            {"internal/linalg", "kernels", "layers", "layers/lowrank"},
	"layers/kindtest":            {"kernels", "layers"},
	"model":                      {"kernels", "kvcache", "layers/...", "model/checkpoint", "model/factored", "model/packed", "model/quantized"},
	"model/checkpoint":           {"kernels"},
	"model/compress":             {"internal/divergence", "internal/linalg", "kernels", "layers/...", "model", "model/checkpoint"},
	"model/factored":             {"kernels", "layers/...", "model/checkpoint"},
	"model/packed":               {"kernels", "layers/...", "model/checkpoint"},
	"model/quantized":            {"kernels", "layers", "model/checkpoint"},
	"model/modeltest":            {"kernels", "kvcache", "layers/...", "model", "model/checkpoint"},
	"model/tokenizer":            nil,
	"model/tokenizer/jinja":      nil,
	"model/tokenizer/chat":       {"model/tokenizer/jinja"},
	"runtime":                    {"kernels", "kvcache", "model", "model/tokenizer/..."},
	"api/openai":                 {"model", "model/compress", "model/tokenizer/...", "runtime"},
	"cmd/...":                    {"..."},
	"bench/...":                  {"..."},
}

// dependencies lists the packages of ours that may import a module of others.
var dependencies = map[string][]string{
	"github.com/alecthomas/kong":          {"cmd/..."},
	"github.com/dlclark/regexp2":          {"model/tokenizer"},
	"github.com/ebitengine/purego":        {"kernels/cuda", "kernels/cuda/shim"},
	"github.com/nlpodyssey/safetensors":   {"model/checkpoint"},
	"github.com/prometheus/client_golang": {"api/openai"},
	"golang.org/x/sys":                    {"internal/grid", "internal/linalg", "kernels/cpu", "kernels/cuda/shim"},
	"golang.org/x/text":                   {"model/tokenizer"},
	"gonum.org/v1/gonum":                  {"internal/linalg"},
}

// listed is a package as go list prints it.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// list returns the packages of the module as they are built for a platform.
func list(t *testing.T, goos, goarch string) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// matches reports whether pattern covers name.
func matches(pattern, name string) bool {
	prefix, below := strings.CutSuffix(pattern, "...")
	if !below {
		return pattern == name
	}
	return strings.HasPrefix(name+"/", prefix)
}

func covered(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// TestImports holds the import table on every platform that has files of its own.
func TestImports(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/arm64"} {
		goos, goarch := path.Split(platform)
		for _, p := range list(t, strings.TrimSuffix(goos, "/"), goarch) {
			checkImports(t, platform, p)
		}
	}
}

func checkImports(t *testing.T, platform string, p listed) {
	t.Helper()
	own, inModule := strings.CutPrefix(p.ImportPath, "eckart/")
	if !inModule {
		return // the root, which holds this test and the project's text, and imports nothing of ours
	}
	var may []string
	found := false
	for pattern, list := range allowed {
		if matches(pattern, own) {
			may, found = append(may, list...), true
		}
	}
	if !found {
		t.Errorf("%s: package %s is not in the import table", platform, own)
		return
	}
	for _, to := range p.Imports {
		if to == "eckart" && !matches("cmd/...", own) {
			t.Errorf("%s: %s imports the project's text, which is for commands", platform, own)
		}
		if ours, ok := strings.CutPrefix(to, "eckart/"); ok {
			if !covered(may, ours) {
				t.Errorf("%s: %s imports %s, which the import table forbids", platform, own, ours)
			}
			continue
		}
		if strings.Contains(strings.SplitN(to, "/", 2)[0], ".") && !dependency(own, to) {
			t.Errorf("%s: %s imports %s, which the table of dependencies does not give it", platform, own, to)
		}
	}
	for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
		if strings.HasPrefix(to, "eckart/cmd/") && !strings.HasPrefix(own, "cmd/") {
			t.Errorf("%s: a test of %s imports %s: nothing imports commands", platform, own, to)
		}
	}
}

// dependency reports whether the package called own may import the package of others called to.
func dependency(own, to string) bool {
	for module, users := range dependencies {
		if matches(module+"/...", to) && covered(users, own) {
			return true
		}
	}
	return false
}

// TestImportsHaveOwners holds ARCHITECTURE.md to the packages there are: each has a row with a sentence that says what
// it owns, and each row is a package.
func TestImportsHaveOwners(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` \\| [^|]+ \\|").FindAllSubmatch(text, -1) {
		rows = append(rows, string(m[1]))
	}
	var packages []string
	for _, p := range list(t, "linux", "amd64") {
		if own, ok := strings.CutPrefix(p.ImportPath, "eckart/"); ok {
			packages = append(packages, own)
		}
	}
	for _, name := range packages {
		if !slices.Contains(rows, name) {
			t.Errorf("ARCHITECTURE.md: package %s has no row in the table", name)
		}
	}
	for _, name := range rows {
		if !slices.Contains(packages, name) {
			t.Errorf("ARCHITECTURE.md: there is no package %s", name)
		}
	}
}
